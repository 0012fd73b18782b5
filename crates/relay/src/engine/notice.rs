//! What subscriptions are told about themselves.

use bytes::Bytes;
use pgrelay_protocol::{
    Position, RefetchReason, SystemMessage, Topic, server_frame, system::Start,
};

use super::{
    Engine, Turn,
    subscription::{BindingKey, BindingState, Stage, Subscription, SubscriptionKey, Voice},
    timer::Timer,
};
use crate::outlet::{Parcel, StreamEvent, StreamEventKind};

impl Subscription {
    pub(super) fn tell(&self, message: SystemMessage<'_>, turn: &mut Turn<'_>) {
        turn.outlets.send(self.client, &self.voice.system(message));
    }
}

impl Engine {
    /// Says that the live bindings are live, and from where.
    pub(super) fn greet(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let cursor = subscription
            .wants_cursors
            .then(|| self.settled(subscription))
            .flatten();
        let cursor = cursor.map(|position| self.encoder.seal(position));
        let recovered = subscription.resumes;
        let start = cursor.as_deref().map(|cursor| Start { cursor, recovered });
        subscription.tell(SystemMessage::Subscribed(start), turn);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.greeted = true;
        // From here on it knows its position: whatever comes next is a continuation.
        subscription.resumes = true;
        self.keep_place(key);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        if subscription.wants_cursors && !std::mem::replace(&mut subscription.has_checkpoints, true)
        {
            self.timers.schedule(
                turn.now.instant + self.config.checkpoint_interval,
                Timer::Checkpoint(key),
            );
        }
    }

    /// Says that `bindings` may have missed changes before `position`, to those that asked for
    /// cursors; the others are not told.
    pub(super) fn tell_refetch(
        &mut self,
        key: SubscriptionKey,
        bindings: &[BindingKey],
        reason: RefetchReason,
        position: Position,
        turn: &mut Turn<'_>,
    ) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let told = bindings.iter().filter_map(|key| self.bindings.get(*key));
        let told: Vec<_> = told
            .filter(|it| it.wants_cursor && !matches!(it.state, BindingState::Refused { .. }))
            .collect();
        if told.is_empty() {
            return;
        }
        let own = subscription.bindings.iter();
        let all = own.filter(|key| self.bindings.get(**key).is_some_and(|it| it.wants_cursor));
        let cursor = self.encoder.seal(position);
        let message = |binding| SystemMessage::MustRefetch {
            binding,
            reason,
            cursor: &cursor,
        };
        if told.len() == all.count() {
            subscription.tell(message(None), turn);
        } else {
            for binding in told {
                subscription.tell(message(Some(binding.id)), turn);
            }
        }
        self.tally.refetches[reason as usize] += 1;
    }

    /// Says what the subscription has settled, and will again.
    pub(super) fn checkpoint(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        if matches!(subscription.stage, Stage::Live | Stage::Replaying(_))
            && let Some(position) = self.settled(subscription)
        {
            let cursor = self.encoder.seal(position);
            subscription.tell(SystemMessage::Checkpoint { cursor: &cursor }, turn);
        }
        self.timers.schedule(
            turn.now.instant + self.config.checkpoint_interval,
            Timer::Checkpoint(key),
        );
    }
}

impl Voice {
    /// A `system` message in this voice.
    pub(super) fn system(&self, message: SystemMessage<'_>) -> Parcel {
        let mut text = Vec::new();
        match self {
            Self::Channel {
                vsn,
                topic,
                join_ref,
            } => {
                server_frame::system(&mut text, *vsn, join_ref, topic, message);
                Parcel::text_frame(&[&text])
            }
            Self::Stream => {
                let topic =
                    Topic::parse("realtime:events").expect("the name of streams is a topic");
                message.write_payload(&mut text, &topic);
                let (kind, cursor) = match message {
                    SystemMessage::Checkpoint { cursor } => {
                        (StreamEventKind::Checkpoint, Some(cursor))
                    }
                    SystemMessage::MustRefetch { cursor, .. } => {
                        (StreamEventKind::MustRefetch, Some(cursor))
                    }
                    SystemMessage::Subscribed(start) => {
                        (StreamEventKind::System, start.map(|start| start.cursor))
                    }
                    SystemMessage::BindingRefused { .. }
                    | SystemMessage::Closing(_)
                    | SystemMessage::ReplicationReady
                    | SystemMessage::Disconnect => (StreamEventKind::System, None),
                };
                Parcel::Event(StreamEvent {
                    cursor: cursor.map(Into::into),
                    kind,
                    json: Bytes::from(text),
                })
            }
        }
    }
}
