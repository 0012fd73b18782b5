//! What clients, HTTP and the database say on a topic, on its way to everybody who hears it.

use std::sync::Arc;

use bytes::Bytes;
use pgrelay_protocol::{FrameKind, Ref, Topic, UserBroadcast, Vsn, server_frame};
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    rooms::{MemberKey, Special},
};
use crate::{
    mail::{Address, Body, Cast, Delivery, Errand, home},
    outlet::Parcel,
    ports::StoredMessage,
};

/// Deliveries that wait to be handed out. Beyond, neither clients nor other shards are listened to.
const PENDING_MAX: usize = 256;

/// What waits for other shards. Beyond, nothing is taken that may cause more of it.
const OUTGOING_MAX: usize = 256;

/// Deliveries handed out in one turn.
const DELIVERIES_PER_TURN: usize = 64;

/// Deliveries to one crowd that may wait for the same write.
const CROWD_DELIVERIES_MAX: usize = 16;

impl Engine {
    /// Whether [`Self::take_delivery`] may be called.
    pub(crate) fn wants_deliveries(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// Whether [`Self::run`] may be called.
    pub(crate) fn wants_errands(&self) -> bool {
        self.wants_deliveries() && self.deliveries.len() < OUTGOING_MAX
    }

    /// Whether clients may be listened to.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.wants_errands() && self.errands.len() < OUTGOING_MAX
    }

    /// What goes to the home of a topic elsewhere: the next, and its shard.
    pub(crate) fn next_errand(&mut self) -> Option<(usize, Errand)> {
        self.errands.pop_front()
    }

    /// What goes to another shard: the next, and the shard.
    pub(crate) fn next_delivery(&mut self) -> Option<(usize, Delivery)> {
        self.deliveries.pop_front()
    }

    /// The shard that the next errand goes to.
    pub(crate) fn errand_shard(&self) -> Option<usize> {
        self.errands.front().map(|(shard, _)| *shard)
    }

    /// The shard that the next delivery goes to.
    pub(crate) fn delivery_shard(&self) -> Option<usize> {
        self.deliveries.front().map(|(shard, _)| *shard)
    }

    /// Sends `errand` to the home of `topic`, which may be here.
    pub(super) fn send_home(&mut self, topic: &Topic, errand: Errand) {
        let shard = home(topic, self.config.shards);
        if shard == self.shard {
            self.run(errand);
        } else {
            self.errands.push_back((shard, errand));
        }
    }

    /// Does what the home of a topic is asked to.
    pub(crate) fn run(&mut self, errand: Errand) {
        match errand {
            Errand::Tell(cast) => self.tell_all(cast),
            Errand::Presence {
                topic,
                private,
                who,
                wish,
            } => self.presence_wish(topic, private, who, wish),
        }
    }

    /// Gives `cast` its place in the order of its topic, and tells every shard.
    pub(super) fn tell_all(&mut self, cast: Cast) {
        let cast = Arc::new(cast);
        for shard in 0..self.config.shards.max(1) {
            self.send_to(shard, Delivery::Cast(Arc::clone(&cast)));
        }
    }

    pub(super) fn send_to(&mut self, shard: usize, delivery: Delivery) {
        if shard == self.shard {
            self.take_delivery(delivery);
        } else {
            self.deliveries.push_back((shard, delivery));
        }
    }

    /// Queues what a home says.
    pub(crate) fn take_delivery(&mut self, delivery: Delivery) {
        self.pending.push_back(delivery);
    }

    /// Queues what the database says.
    pub(super) fn feed_messages(&mut self, messages: &[StoredMessage]) {
        for message in messages {
            let Ok(topic) = Topic::parse(&format!("realtime:{}", message.topic)) else {
                tracing::debug!(id = %message.id, "a stored message has no topic that can be joined");
                continue;
            };
            let metadata = format!("{{\"id\":\"{}\"}}", message.id);
            self.take_delivery(Delivery::Cast(Arc::new(Cast {
                id: Some(message.id),
                ..Cast::new(topic, message.private, Body::stored(message, metadata))
            })));
        }
    }

    /// Hands out a bounded amount of what waits. `true` when there is more to do at once.
    pub(super) fn step_deliveries(&mut self, turn: &mut Turn<'_>) -> bool {
        self.flush_presence_diffs();
        let (mut left, mut crowd) = (DELIVERIES_PER_TURN, None::<(MemberKey, usize)>);
        while let Some(delivery) = self.pending.front() {
            if left == 0 {
                return true;
            }
            left -= 1;
            match delivery {
                Delivery::Cast(cast) => {
                    let cast = Arc::clone(cast);
                    let Some(room) = self.rooms.find(&cast.topic, cast.private) else {
                        self.pending.pop_front();
                        continue;
                    };
                    let (receivers, first) = (room.seats.len(), room.seats[0].member);
                    // What follows for the same crowd waits for the same writes.
                    crowd = match crowd {
                        Some((of, count)) if of == first && count < CROWD_DELIVERIES_MAX => {
                            Some((of, count + 1))
                        }
                        Some(_) | None if turn.outlets.admits(receivers) => Some((first, 1)),
                        Some(_) | None => return true,
                    };
                    self.pending.pop_front();
                    self.hand_out(&cast, turn);
                }
                Delivery::PresenceState(member, json) => {
                    let (member, json) = (*member, json.clone());
                    self.pending.pop_front();
                    self.say_presence_state(member, &json, turn);
                }
            }
        }
        false
    }

    /// Gives `cast` to everybody here who hears it: written once per serializer version.
    fn hand_out(&mut self, cast: &Cast, turn: &mut Turn<'_>) {
        let Some(room) = self.rooms.find(&cast.topic, cast.private) else {
            return;
        };
        let is_diff = matches!(cast.body, Body::PresenceDiff(_));
        let sender = cast
            .from
            .filter(|from| from.shard == self.shard)
            .map(|from| from.member);
        let mut frames: [Option<Option<Parcel>>; 2] = [None, None];
        let mut special: SmallVec<[(MemberKey, Parcel); 1]> = SmallVec::new();
        for seat in &room.seats {
            let hears = if is_diff {
                seat.hearing.presence
            } else {
                seat.hearing.broadcasts && (sender != Some(seat.member) || seat.hearing.itself)
            };
            if !hears {
                continue;
            }
            let frame = frames[usize::from(seat.vsn == Vsn::V2)].get_or_insert_with(|| {
                self.tally.encoded += 1;
                encode(&cast.body, seat.vsn, &cast.topic)
            });
            let Some(parcel) = frame else { continue };
            if seat.is_special {
                special.push((seat.member, parcel.clone()));
                continue;
            }
            self.tally.broadcasts += 1;
            self.tally.broadcast_bytes += parcel.bytes() as u64;
            turn.outlets.send(seat.client, parcel);
        }
        for (member, parcel) in special {
            self.hand_to_special(member, cast, &parcel, turn);
        }
    }

    fn hand_to_special(
        &mut self,
        member: MemberKey,
        cast: &Cast,
        parcel: &Parcel,
        turn: &mut Turn<'_>,
    ) {
        let Some(seat) = self.rooms.seat(member) else {
            return;
        };
        let client = seat.client;
        match self.rooms.special(member, cast.id, parcel) {
            Special::Deliver => turn.outlets.send(client, parcel),
            Special::Drop => {}
            Special::Overflow => self.replay_overflow(member, turn),
        }
    }

    /// A channel says something.
    pub(super) fn say(&mut self, member: MemberKey, body: Body) {
        let Some(room) = self.rooms.room_of(member) else {
            return;
        };
        let (topic, private) = (room.topic.clone(), room.private);
        let from = Some(Address {
            shard: self.shard,
            member,
        });
        let cast = Cast {
            from,
            ..Cast::new(topic.clone(), private, body)
        };
        self.send_home(&topic, Errand::Tell(cast));
    }
}

/// The frame of `body` for receivers of one version; `None` where they cannot be given it.
fn encode(body: &Body, vsn: Vsn, topic: &Topic) -> Option<Parcel> {
    let mut text = Vec::new();
    let kind = match body {
        Body::Plain(payload) => {
            push(&mut text, vsn, topic, "broadcast", payload)?;
            FrameKind::Text
        }
        Body::PresenceDiff(payload) => {
            push(&mut text, vsn, topic, "presence_diff", payload)?;
            FrameKind::Text
        }
        Body::User {
            event,
            metadata,
            encoding,
            payload,
        } => server_frame::user_broadcast(
            &mut text,
            vsn,
            topic.as_str(),
            &UserBroadcast {
                event,
                metadata: metadata.as_deref(),
                encoding: *encoding,
                payload,
            },
        )?,
    };
    Some(Parcel::frame(kind, &[&text]))
}

fn push(out: &mut Vec<u8>, vsn: Vsn, topic: &Topic, event: &str, payload: &Bytes) -> Option<()> {
    let payload = str::from_utf8(payload).ok()?;
    server_frame::push(out, vsn, &Ref::null(), topic.as_str(), event, payload);
    Some(())
}
