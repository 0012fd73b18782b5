//! Where the channels of a client stand that named a session, so that it goes on there.
//!
//! A stock client keeps no cursors. The relay keeps them for it: from time to time it sends a
//! WebSocket ping behind everything it has sent so far, and the pong proves that all of it arrived.
//! What was proven is remembered outside; a channel of the same session, topic and subject goes on
//! from there. A client may so be given again what it already has, but never misses anything.

use std::{sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::{JoinBinding, Since, Topic, Vsn};
use uuid::Uuid;

use super::{
    ClientKey, Engine, Turn,
    call::Call,
    subscription::{Stage, SubscriptionKey, Voice},
    timer::Timer,
};
use crate::{
    outlet::Parcel,
    ports::{Claims, SessionPlace, SessionUnavailable},
    session::{Incarnation, Opening},
};

/// How long a session that could not be read waits to be read again.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// The session that a client named.
#[derive(Debug)]
pub(super) struct Keeping {
    session: Uuid,
    /// Where its channels stood; `None` until the store has answered.
    known: Option<HashMap<Box<str>, Known, RandomState>>,
    /// Channels that were joined meanwhile.
    waiting: Vec<(Vsn, Opening)>,
    /// What the last ping said, and what its pong will prove.
    pinged: Option<(Arc<str>, Vec<SessionPlace>)>,
}

#[derive(Debug)]
struct Known {
    subject: Option<Box<str>>,
    cursor: Box<str>,
}

impl Engine {
    /// A client names its session.
    pub fn keep(&mut self, client: ClientKey, session: Uuid, turn: &mut Turn<'_>) {
        if let Some(client) = self.clients.get_mut(client) {
            client.keeping = Some(Box::new(Keeping {
                session,
                known: None,
                waiting: Vec::new(),
                pinged: None,
            }));
        }
        self.load_session(client);
        self.schedule_ping(client, turn);
    }

    pub(super) fn load_session(&mut self, client: ClientKey) {
        if let Some(keeping) = self.keeping(client) {
            let session = keeping.session;
            self.calls.push_back(Call::LoadSession { client, session });
        }
    }

    fn keeping(&mut self, client: ClientKey) -> Option<&mut Keeping> {
        self.clients.get_mut(client)?.keeping.as_deref_mut()
    }

    /// Where a session stood is known, and its channels can open.
    pub(super) fn session_loaded(
        &mut self,
        client: ClientKey,
        outcome: Result<Vec<SessionPlace>, SessionUnavailable>,
        turn: &mut Turn<'_>,
    ) {
        let Some(keeping) = self.keeping(client) else {
            return;
        };
        let Ok(places) = outcome else {
            let at = turn.now.instant + LOAD_AGAIN;
            return self.timers.schedule(at, Timer::LoadSession(client));
        };
        let places = places.into_iter().map(|place| {
            let known = Known {
                subject: place.subject,
                cursor: place.cursor,
            };
            (place.topic, known)
        });
        keeping.known = Some(places.collect());
        for (vsn, opening) in std::mem::take(&mut keeping.waiting) {
            if self.channel_of(client, opening.incarnation).is_some() {
                self.open(client, vsn, opening, turn);
            }
        }
    }

    /// Has the bindings of a channel go on where its session stood. `None` keeps the channel waiting
    /// until that is known.
    pub(super) fn resume(
        &mut self,
        client: ClientKey,
        vsn: Vsn,
        mut opening: Opening,
    ) -> Option<Opening> {
        let Some(keeping) = self.keeping(client) else {
            return Some(opening);
        };
        let Some(known) = &keeping.known else {
            keeping.waiting.push((vsn, opening));
            return None;
        };
        let place = known
            .get(opening.topic.as_str())
            .filter(|known| known.subject == opening.claims.subject);
        let since = place.map_or(Since::Now, |known| Since::Cursor(known.cursor.clone()));
        for JoinBinding { since: own, .. } in &mut opening.bindings {
            own.get_or_insert_with(|| since.clone());
        }
        Some(opening)
    }

    /// A channel that may wait for its session has another token.
    pub(super) fn reclaim_waiting(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        claims: Arc<Claims>,
    ) {
        let waiting = self.keeping(client).and_then(|keeping| {
            keeping
                .waiting
                .iter_mut()
                .find(|(_, it)| it.incarnation == incarnation)
        });
        if let Some((_, opening)) = waiting {
            opening.claims = claims;
        }
    }

    /// A subscription knows where it stands, and so does its client: nothing before is owed.
    pub(super) fn keep_place(&mut self, key: SubscriptionKey) {
        if let Some((client, place)) = self.place_of(key)
            && self
                .clients
                .get(client)
                .is_some_and(|it| it.keeping.is_some())
        {
            self.keep_places(client, vec![place]);
        }
    }

    fn place_of(&self, key: SubscriptionKey) -> Option<(ClientKey, SessionPlace)> {
        let subscription = self.subscriptions.get(key)?;
        let Voice::Channel { topic, .. } = &subscription.voice else {
            return None;
        };
        let position = match subscription.stage {
            Stage::Live | Stage::Replaying(_) => self.settled(subscription)?,
            Stage::Resolving
            | Stage::Idle
            | Stage::Early
            | Stage::Parked
            | Stage::Waiting(_)
            | Stage::Paused => return None,
        };
        let place = SessionPlace {
            topic: topic.as_str().into(),
            subject: subscription.claims.subject.clone(),
            cursor: (&*self.encoder.seal(position)).into(),
        };
        Some((subscription.client, place))
    }

    fn keep_places(&mut self, client: ClientKey, places: Vec<SessionPlace>) {
        let Some(keeping) = self.keeping(client) else {
            return;
        };
        let session = keeping.session;
        for place in &places {
            let known = Known {
                subject: place.subject.clone(),
                cursor: place.cursor.clone(),
            };
            let all = keeping.known.get_or_insert_default();
            all.insert(place.topic.clone(), known);
        }
        let calls = places
            .into_iter()
            .map(|place| Call::SaveSession { session, place });
        self.calls.extend(calls);
    }

    /// The client left a topic: should it come back, it starts anew.
    pub(super) fn forget_place(&mut self, client: ClientKey, topic: Topic) {
        let Some(keeping) = self.keeping(client) else {
            return;
        };
        let session = keeping.session;
        if let Some(known) = &mut keeping.known {
            known.remove(topic.as_str());
        }
        if let Some((_, places)) = &mut keeping.pinged {
            places.retain(|place| *place.topic != *topic.as_str());
        }
        self.calls.push_back(Call::ForgetSession { session, topic });
    }

    fn schedule_ping(&mut self, client: ClientKey, turn: &mut Turn<'_>) {
        let at = turn.now.instant + self.config.checkpoint_interval;
        self.timers.schedule(at, Timer::Ping(client));
    }

    /// Asks a client whether everything sent so far has arrived, unless it still owes an answer.
    pub(super) fn ping(&mut self, client: ClientKey, turn: &mut Turn<'_>) {
        let holdings: Vec<_> = match self.session(client) {
            Some(session) => session.holdings().filter_map(|(key, _)| key).collect(),
            None => return,
        };
        self.schedule_ping(client, turn);
        let Some(at) = self.live.at else { return };
        let places: Vec<_> = holdings
            .into_iter()
            .filter_map(|key| Some(self.place_of(key)?.1))
            .collect();
        let cursor = self.encoder.seal(at);
        let Some(keeping) = self.keeping(client) else {
            return;
        };
        if keeping.pinged.is_some() || places.is_empty() {
            return;
        }
        keeping.pinged = Some((Arc::clone(&cursor), places));
        turn.outlets.send(client, &Parcel::ping(cursor.as_bytes()));
    }

    /// A client answers a ping.
    pub fn pong(&mut self, client: ClientKey, payload: &[u8]) {
        let Some(keeping) = self.keeping(client) else {
            return;
        };
        let proof = keeping
            .pinged
            .take_if(|(cursor, _)| cursor.as_bytes() == payload);
        if let Some((_, places)) = proof {
            self.keep_places(client, places);
        }
    }
}
