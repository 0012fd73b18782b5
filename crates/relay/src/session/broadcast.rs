//! Broadcasts of clients: who may, how large, how many.

use bytes::Bytes;
use pgrelay_protocol::{BroadcastPush, Outcome};

use super::{Effect, Effects, Request, Rules, Session};
use crate::mail::Body;

/// The `response` to a broadcast that is too large, which is a bare string.
const TOO_LARGE: Outcome<'_> = Outcome::Error("\"payload_size_exceeded\"");

impl Session {
    pub(super) fn broadcast(
        &mut self,
        request: &Request,
        push: BroadcastPush,
        place: usize,
        rules: Rules<'_>,
    ) -> Effects {
        let channel = &self.channels[place];
        let (acks, incarnation) = (channel.acks, channel.incarnation);
        if !channel.rights.write {
            // Upstream says nothing either, and clients count on being told nothing twice.
            return Effects::new();
        }
        let over = self.count_event(place, rules);
        if !over.is_empty() {
            return over;
        }
        let (bytes, body) = body(push);
        if bytes > rules.config.payload_bytes_max {
            return acks
                .then(|| self.answer(place, request, TOO_LARGE))
                .into_iter()
                .collect();
        }
        let mut effects = Vec::with_capacity(2);
        if acks {
            effects.push(self.answer(place, request, Outcome::DONE));
        }
        effects.push(Effect::Broadcast(incarnation, body));
        effects
    }
}

/// The body of a push, and how large its payload is.
fn body(push: BroadcastPush) -> (usize, Body) {
    match push {
        BroadcastPush::Plain(payload) => {
            let payload = Bytes::from(String::from(Box::<str>::from(payload)));
            (payload.len(), Body::Plain(payload))
        }
        BroadcastPush::User {
            event,
            encoding,
            payload,
        } => (
            payload.len(),
            Body::User {
                event,
                metadata: None,
                encoding,
                payload,
            },
        ),
    }
}
