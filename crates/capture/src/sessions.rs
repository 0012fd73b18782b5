//! Where clients stood that named a session: kept in the database, written once a second for all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use pgrelay_protocol::Topic;
use pgrelay_relay::ports::{SessionPlace, SessionStore, SessionUnavailable};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{error::Error, pool::Pool, statements::sessions};

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two clearings of what is too old.
const CLEAR_INTERVAL: Duration = Duration::from_secs(60);
/// Longest time for one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(5);
/// Places that wait to be written. Beyond, new topics are not kept until the database answers again.
const WAITING_MAX: usize = 200_000;

/// A place by session and topic; `None` where it is to be forgotten.
type Places = HashMap<(Uuid, Box<str>), Option<Place>>;

#[derive(Debug, Clone)]
struct Place {
    subject: Option<Box<str>>,
    cursor: Box<str>,
}

/// The places of all sessions. Clones are the same.
#[derive(Debug, Clone)]
pub struct Sessions {
    pool: Pool,
    retention: Duration,
    waiting: Arc<Mutex<Waiting>>,
}

/// What the database does not have yet.
#[derive(Debug, Default)]
struct Waiting {
    next: Places,
    /// Under way to the database.
    writing: Places,
}

impl Sessions {
    pub(crate) fn new(pool: Pool, retention: Duration) -> Self {
        Self {
            pool,
            retention,
            waiting: Arc::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is to be kept until `stop`, and once more then.
    pub async fn run(self, stop: CancellationToken) {
        let mut cleared = Instant::now();
        let mut failing = false;
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = sleep(WRITE_INTERVAL) => false,
            };
            let mut outcome = self.write().await;
            if outcome.is_ok() && cleared.elapsed() >= CLEAR_INTERVAL {
                cleared = Instant::now();
                outcome = self.clear().await;
            }
            match outcome {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(error = %error.report(), "sessions cannot be kept now");
                    }
                }
            }
            if stopping {
                return;
            }
        }
    }

    async fn write(&self) -> Result<(), Error> {
        let writing = {
            let mut waiting = self.waiting();
            waiting.writing = std::mem::take(&mut waiting.next);
            waiting.writing.clone()
        };
        if writing.is_empty() {
            return Ok(());
        }
        let (mut ids, mut topics) = (Vec::new(), Vec::new());
        let (mut subjects, mut cursors) = (Vec::new(), Vec::new());
        for ((session, topic), place) in &writing {
            ids.push(*session);
            topics.push(&**topic);
            subjects.push(place.as_ref().and_then(|it| it.subject.as_deref()));
            cursors.push(place.as_ref().map(|it| &*it.cursor));
        }
        let written = self
            .pool
            .ask(
                "keep the places of sessions",
                STATEMENT_MAX,
                &sessions::WRITE,
                &[&ids, &topics, &subjects, &cursors],
            )
            .await;
        let mut waiting = self.waiting();
        let writing = std::mem::take(&mut waiting.writing);
        if written.is_err() {
            // What came meanwhile is newer.
            for (name, place) in writing {
                waiting.next.entry(name).or_insert(place);
            }
        }
        written.map(drop)
    }

    async fn clear(&self) -> Result<(), Error> {
        let seconds = self.retention.as_secs_f64();
        let cleared = self
            .pool
            .ask(
                "clear the places of sessions",
                STATEMENT_MAX,
                &sessions::CLEAR,
                &[&seconds],
            )
            .await;
        cleared.map(drop)
    }

    async fn read(&self, session: Uuid) -> Result<Vec<SessionPlace>, Error> {
        let seconds = self.retention.as_secs_f64();
        let rows = self
            .pool
            .ask(
                "read the places of a session",
                STATEMENT_MAX,
                &sessions::READ,
                &[&session, &seconds],
            )
            .await?;
        let mut places: Places = rows
            .iter()
            .map(|row| {
                let place = Place {
                    subject: row.get::<_, Option<Box<str>>>(1),
                    cursor: row.get(2),
                };
                ((session, row.get(0)), Some(place))
            })
            .collect();
        let waiting = self.waiting();
        for newer in [&waiting.writing, &waiting.next] {
            let own = newer.iter().filter(|((of, _), _)| *of == session);
            places.extend(own.map(|(name, place)| (name.clone(), place.clone())));
        }
        let known = places.into_iter().filter_map(|((_, topic), place)| {
            let Place { subject, cursor } = place?;
            Some(SessionPlace {
                topic,
                subject,
                cursor,
            })
        });
        Ok(known.collect())
    }

    fn note(&self, session: Uuid, topic: Box<str>, place: Option<Place>) {
        let mut waiting = self.waiting();
        let name = (session, topic);
        if waiting.next.len() < WAITING_MAX || waiting.next.contains_key(&name) {
            waiting.next.insert(name, place);
        }
    }
}

impl SessionStore for Sessions {
    fn load(
        &self,
        session: Uuid,
    ) -> BoxFuture<'static, Result<Vec<SessionPlace>, SessionUnavailable>> {
        let sessions = self.clone();
        async move {
            sessions.read(session).await.map_err(|error| {
                tracing::debug!(error = %error.report(), "a session cannot be read now");
                SessionUnavailable
            })
        }
        .boxed()
    }

    fn save(&self, session: Uuid, place: SessionPlace) {
        let SessionPlace {
            topic,
            subject,
            cursor,
        } = place;
        self.note(session, topic, Some(Place { subject, cursor }));
    }

    fn forget(&self, session: Uuid, topic: &Topic) {
        self.note(session, topic.as_str().into(), None);
    }
}
