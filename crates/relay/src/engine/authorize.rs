//! What policies allow on private channels, and the stored messages they ask for.
//!
//! Equal questions that are under way are asked once: a thousand clients of one room with one
//! token, reconnecting, are one question. An answer is kept by the channels it was given to, until
//! they have another token, and nowhere else.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::Topic;

use super::{ClientKey, Engine, Turn, call::Call, rooms::MemberKey};
use crate::{
    ports::{ChannelError, ChannelRights, Claims, ReplayError, StoredMessage},
    session::Incarnation,
};

/// Questions under way, and who waits for their answers.
pub(super) type Authorizations =
    HashMap<(Topic, Arc<Claims>), Vec<(ClientKey, Incarnation)>, RandomState>;

impl Engine {
    /// Asks what these claims may do on a topic.
    pub(super) fn ask_channel(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        topic: Topic,
        claims: Arc<Claims>,
    ) {
        let claims = self.shared.claims.share(claims);
        let waiting = self
            .authorizations
            .entry((topic.clone(), Arc::clone(&claims)))
            .or_insert_with(|| {
                self.calls.push_back(Call::Channel { topic, claims });
                Vec::new()
            });
        waiting.push((client, incarnation));
    }

    /// The rights of some claims on a topic are known.
    pub(super) fn channel_answered(
        &mut self,
        topic: Topic,
        claims: Arc<Claims>,
        outcome: &Result<ChannelRights, ChannelError>,
        turn: &mut Turn<'_>,
    ) {
        let question = (topic, claims);
        let waiting = self.authorizations.remove(&question).unwrap_or_default();
        for (client, incarnation) in waiting {
            self.with_session(client, turn, |session, rules| {
                session.authorized(incarnation, &question.1, outcome, rules)
            });
        }
    }

    /// The stored messages a join asked for are here.
    pub(super) fn messages_answered(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        outcome: Result<Vec<StoredMessage>, ReplayError>,
        turn: &mut Turn<'_>,
    ) {
        let messages = outcome
            .inspect_err(|error| tracing::debug!(?error, "stored messages cannot be replayed"))
            .ok();
        self.with_session(client, turn, |session, rules| {
            session.replayed(incarnation, messages.as_deref(), rules)
        });
    }

    /// More came than is kept while a replay is read: its join fails.
    pub(super) fn replay_overflow(&mut self, member: MemberKey, turn: &mut Turn<'_>) {
        let (Some(seat), Some(member)) = (self.rooms.seat(member), self.rooms.member(member))
        else {
            return;
        };
        let (client, incarnation) = (seat.client, member.incarnation);
        self.with_session(client, turn, |session, rules| {
            session.replayed(incarnation, None, rules)
        });
    }
}
