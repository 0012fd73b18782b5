//! The one direct connection: LISTEN, the locks, STEP. Never left in a transaction.
//!
//! tokio-postgres needs its connection polled for anything to move, and this crate spawns nothing, so
//! everything that awaits an answer goes through [`Wire::drive`], which also collects what the server
//! says unasked.

use std::{collections::HashMap, fmt, future::Future, pin::pin, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use crate::{
    connect::{Endpoint, Link},
    error::Error,
    query::{Lane, Params, Query},
    statements,
};

/// A question of a round trip or two.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Between signs of life while the relay is waited for; below the 5 s of `idle_session_timeout`.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// What the server said unasked since it was last looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// A writer rang.
    pub(crate) bell: bool,
    /// Another node wrote a batch.
    pub(crate) ledger: bool,
    /// Publication or tables changed.
    pub(crate) catalog: bool,
}

impl Heard {
    fn anything(self) -> bool {
        self != Self::default()
    }
}

/// The receiving half of the connection.
pub(crate) struct Wire {
    messages: BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>,
    heard: Heard,
    notices: Vec<String>,
    /// Our backend, once it is known.
    pid: i32,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}

impl Wire {
    fn new(mut link: Link) -> Self {
        let messages = stream::poll_fn(move |cx| link.poll_message(cx)).boxed();
        Self {
            messages,
            heard: Heard::default(),
            notices: Vec::new(),
            pid: 0,
        }
    }

    /// Runs `work`, which may await answers of this connection, for at most `limit`.
    pub(crate) async fn drive<F>(
        &mut self,
        action: &'static str,
        limit: Duration,
        work: F,
    ) -> Result<F::Output, Error>
    where
        F: Future,
    {
        let mut work = pin!(work);
        let mut deadline = pin!(sleep_until(Instant::now() + limit));
        loop {
            tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                message = self.messages.next() => self.hear(message)?,
                () = &mut deadline => return Err(Error::Frozen { action, limit }),
            }
        }
    }

    /// Waits until something is heard, or until `until`.
    pub(crate) async fn listen(&mut self, until: Instant) -> Result<Heard, Error> {
        let mut deadline = pin!(sleep_until(until));
        while !self.heard.anything() {
            tokio::select! {
                biased;
                message = self.messages.next() => self.hear(message)?,
                () = &mut deadline => break,
            }
        }
        Ok(self.take_heard())
    }

    /// What was heard meanwhile.
    pub(crate) fn take_heard(&mut self) -> Heard {
        std::mem::take(&mut self.heard)
    }

    /// The notices the server sent meanwhile.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn hear(
        &mut self,
        message: Option<Result<AsyncMessage, tokio_postgres::Error>>,
    ) -> Result<(), Error> {
        match message {
            None => return Err(Error::Closed),
            Some(Err(error)) => return Err(Error::query("listen to PostgreSQL")(error)),
            // The payload is never looked at: any role may send one.
            Some(Ok(AsyncMessage::Notification(note))) => match note.channel() {
                "pgrelay" => self.heard.bell = true,
                // Our own word comes back to us.
                "pgrelay_ledger" => self.heard.ledger |= note.process_id() != self.pid,
                "pgrelay_catalog" => self.heard.catalog = true,
                _ => {}
            },
            Some(Ok(AsyncMessage::Notice(notice))) => self.notice(notice.message()),
            Some(Ok(_)) => {}
        }
        Ok(())
    }

    fn notice(&mut self, text: &str) {
        // A bound, because a server can send notices without end.
        if self.notices.len() < 1000 {
            self.notices.push(text.to_owned());
        }
    }
}

/// Statements parsed and planned once for a connection.
#[derive(Default)]
pub(crate) struct Prepared(HashMap<&'static str, Statement>);

impl Prepared {
    pub(crate) fn get(&self, query: &Query) -> Option<&Statement> {
        self.0.get(query.text())
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prepared").field(&self.0.len()).finish()
    }
}

/// The direct connection, set up.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) wire: Wire,
    pub(crate) prepared: Prepared,
    pub(crate) server: Server,
}

/// What the server is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    /// Our backend.
    pub(crate) pid: i32,
    /// `server_version_num`.
    pub(crate) version: i32,
    /// It replays another server's WAL.
    pub(crate) standby: bool,
    /// Transactions may be prepared.
    pub(crate) prepares_transactions: bool,
}

impl Session {
    /// Connects; the session is as the server made it.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let (client, link) = endpoint.connect().await?;
        let mut wire = Wire::new(link);
        let row = wire
            .drive(
                "ask what the server is",
                ANSWER_MAX,
                Lane::pooled(&client).one(&statements::session::WHO, &[]),
            )
            .await?
            .map_err(Error::query("ask what the server is"))?;
        let server = Server {
            pid: row.get(0),
            version: row.get(1),
            standby: row.get(2),
            prepares_transactions: row.get::<_, i32>(3) > 0,
        };
        wire.pid = server.pid;
        Ok(Self {
            client,
            wire,
            prepared: Prepared::default(),
            server,
        })
    }

    /// Takes settings of its own.
    pub(crate) async fn configure(&mut self) -> Result<(), Error> {
        self.batch("set up the session", statements::session::SETTINGS)
            .await?;
        if self.server.version >= 140_000 {
            self.batch("set up the session", statements::session::SETTINGS_14)
                .await?;
        }
        Ok(())
    }

    /// Parses statements that will be sent often.
    pub(crate) async fn prepare(&mut self, queries: &[&'static Query]) -> Result<(), Error> {
        for query in queries {
            let statement = self
                .wire
                .drive(
                    "prepare statements",
                    ANSWER_MAX,
                    self.client.prepare_typed(query.text(), query.types()),
                )
                .await?
                .map_err(Error::query("prepare statements"))?;
            self.prepared.0.insert(query.text(), statement);
        }
        Ok(())
    }

    /// From here on notifications are heard. What happened before must be looked up.
    pub(crate) async fn listen(&mut self) -> Result<(), Error> {
        self.batch("listen to PostgreSQL", statements::session::LISTEN)
            .await
    }

    /// Statements without parameters and answers.
    pub(crate) async fn batch(&mut self, action: &'static str, sql: &str) -> Result<(), Error> {
        self.wire
            .drive(action, ANSWER_MAX, self.client.batch_execute(sql))
            .await?
            .map_err(Error::query(action))
    }

    /// One question of a round trip.
    pub(crate) async fn rows(
        &mut self,
        action: &'static str,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let lane = Lane::direct(&self.client, &self.prepared);
        self.wire
            .drive(action, ANSWER_MAX, lane.rows(query, params))
            .await?
            .map_err(Error::query(action))
    }

    /// Answers the server's question whether we are still there, until the connection ends.
    pub(crate) async fn keep_alive(&mut self) -> Error {
        loop {
            let pause = sleep(KEEP_ALIVE);
            let waited = self
                .wire
                .drive("wait for the relay", KEEP_ALIVE * 2, pause)
                .await;
            let asked = match waited {
                Ok(()) => {
                    self.rows("keep the session alive", &statements::session::PID, &[])
                        .await
                }
                Err(lost) => return lost,
            };
            if let Err(lost) = asked {
                return lost;
            }
        }
    }

    async fn backend(&mut self) -> Result<i32, Error> {
        Ok(self
            .rows("ask for the backend", &statements::session::PID, &[])
            .await?[0]
            .get(0))
    }
}

/// Refuses a pooler that hands one server session to several clients: LISTEN and session locks would
/// end up with somebody else.
///
/// Such a pooler gives the connection that is free to whoever asks, so a second client that asks
/// right after us and keeps what it got either has our backend or pushes us onto another one.
pub(crate) async fn refuse_pooler(session: &mut Session, endpoint: &Endpoint) -> Result<(), Error> {
    let before = session.backend().await?;
    let mut other = Session::connect(endpoint).await?;
    other.batch("ask for the backend", "begin").await?;
    if other.backend().await? == before || session.backend().await? != before {
        return Err(Error::Pooler);
    }
    Ok(())
}
