//! What the engine does when time has passed.

use super::{
    ClientKey, Engine, Turn,
    hold::EvaluationKey,
    look::RoundKey,
    scan::ScanKey,
    subscription::{BindingKey, SubscriptionKey},
};
use crate::{outlet::Parcel, session::Incarnation};

/// A thing that may be due.
#[derive(Debug)]
pub(super) enum Timer {
    /// A refused join gets its answer.
    Say(ClientKey, Vec<Parcel>),
    /// The token of a channel may have expired.
    Expire(ClientKey, Incarnation),
    /// A binding that could not be resolved is tried again.
    ResolveAgain(BindingKey),
    /// A subscription is told its position.
    Checkpoint(SubscriptionKey),
    /// An evaluation that failed is tried again.
    EvaluateAgain(EvaluationKey),
    /// An evaluation has taken too long.
    EvaluationOver(EvaluationKey),
    /// A look that failed is tried again.
    LookAgain(RoundKey),
    /// A look has taken too long.
    LookOver(RoundKey),
    /// A log that could not be read is tried again.
    ReadAgain(ScanKey),
    /// A session that could not be read is read again.
    LoadSession(ClientKey),
    /// A client that named a session is asked what has arrived.
    Ping(ClientKey),
    /// A channel has waited long enough for the database to be followed.
    ReadyOver(ClientKey, Incarnation),
}

impl Engine {
    /// Does what is due.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(timer) = self.timers.pop(turn.now.instant) {
            match timer {
                Timer::Say(client, parcels) => parcels
                    .iter()
                    .for_each(|parcel| turn.outlets.send(client, parcel)),
                Timer::Expire(client, incarnation) => self.expire(client, incarnation, turn),
                Timer::ResolveAgain(binding) => self.ask_binding_again(binding),
                Timer::Checkpoint(subscription) => self.checkpoint(subscription, turn),
                Timer::EvaluateAgain(evaluation) => self.ask_evaluation(evaluation),
                Timer::EvaluationOver(evaluation) => self.evaluation_over(evaluation, turn),
                Timer::LookAgain(round) => self.look(round),
                Timer::LookOver(round) => self.look_over(round, turn),
                Timer::ReadAgain(scan) => self.read_again(scan),
                Timer::LoadSession(client) => self.load_session(client),
                Timer::Ping(client) => self.ping(client, turn),
                Timer::ReadyOver(client, incarnation) => self.ready_over(client, incarnation, turn),
            }
        }
        self.ask_looks(turn);
    }

    /// When [`Self::tick`] has to be called next.
    #[must_use]
    pub fn next_due(&self) -> Option<tokio::time::Instant> {
        self.timers.next()
    }
}
