//! Who is present on the topics whose home is here.
//!
//! Changes of one turn are told together, one diff per topic; two changes of one channel never
//! stand in one diff, so that every state it had is seen.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use pgrelay_protocol::{PresenceEntry, Topic, presence_state, server_frame};

use super::{Engine, Turn, rooms::MemberKey};
use crate::{
    mail::{Address, Body, Cast, Delivery, Errand, PresenceWish},
    outlet::Parcel,
};

/// The crowds of all topics whose home is here.
#[derive(Debug, Default)]
pub(super) struct Presences {
    /// The public and the private crowd of a topic.
    crowds: HashMap<Topic, [Crowd; 2], RandomState>,
    /// Crowds with changes that nobody was told of.
    changed: HashSet<(Topic, bool), RandomState>,
    /// References given out, from a start of their own.
    references: u64,
}

/// Who is present on one topic.
#[derive(Debug, Default)]
struct Crowd {
    present: HashMap<Address, Presence, RandomState>,
    diff: Diff,
    /// The payload of `presence_state`, until somebody comes or goes.
    state: Option<Bytes>,
}

/// One tracked channel.
#[derive(Debug, Clone)]
struct Presence {
    key: Box<str>,
    reference: Box<str>,
    previous: Option<Box<str>>,
    meta: Box<str>,
}

/// Changes since everybody was told.
#[derive(Debug, Default)]
struct Diff {
    who: HashSet<Address, RandomState>,
    joins: Vec<Presence>,
    leaves: Vec<Presence>,
}

impl Presences {
    /// `start` makes references differ from those of other runs.
    pub(super) fn new(start: u64) -> Self {
        Self {
            references: start,
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.crowds.is_empty() && self.changed.is_empty()
    }

    fn reference(&mut self) -> Box<str> {
        self.references = self.references.wrapping_add(1);
        format!("{:016x}", self.references).into()
    }
}

impl Presence {
    fn entry(&self) -> PresenceEntry<'_> {
        PresenceEntry {
            key: &self.key,
            reference: &self.reference,
            previous: self.previous.as_deref(),
            meta: &self.meta,
        }
    }
}

impl Crowd {
    /// The payload of `presence_state`.
    fn state(&mut self) -> Bytes {
        let present = &self.present;
        self.state
            .get_or_insert_with(|| {
                let mut entries: Vec<_> = present.values().map(Presence::entry).collect();
                // Of equal keys the oldest comes first.
                entries.sort_by_key(|entry| entry.reference);
                let mut text = Vec::new();
                presence_state::write_state(&mut text, &mut entries);
                text.into()
            })
            .clone()
    }
}

impl Diff {
    fn payload(&self) -> Bytes {
        let mut joins: Vec<_> = self.joins.iter().map(Presence::entry).collect();
        let mut leaves: Vec<_> = self.leaves.iter().map(Presence::entry).collect();
        let mut text = Vec::new();
        presence_state::write_diff(&mut text, &mut joins, &mut leaves);
        text.into()
    }
}

impl Engine {
    /// What a channel of some shard wishes, at the home of its topic.
    pub(super) fn presence_wish(
        &mut self,
        topic: Topic,
        private: bool,
        who: Address,
        wish: PresenceWish,
    ) {
        let place = usize::from(private);
        match wish {
            PresenceWish::Track { key, meta } => self.track(topic, private, who, key, meta),
            PresenceWish::Untrack => self.untrack(topic, private, who),
            PresenceWish::State => {
                // Changes that nobody was told of are in the state and come again in a diff, which
                // clients expect.
                let crowd = self.presences.crowds.get_mut(&topic);
                let state =
                    crowd.map_or_else(|| Bytes::from_static(b"{}"), |crowds| crowds[place].state());
                self.send_to(who.shard, Delivery::PresenceState(who.member, state));
            }
        }
    }

    fn track(&mut self, topic: Topic, private: bool, who: Address, key: Box<str>, meta: Box<str>) {
        self.begin_change(&topic, private, who);
        let reference = self.presences.reference();
        let crowds = self.presences.crowds.entry(topic.clone()).or_default();
        let crowd = &mut crowds[usize::from(private)];
        let before = crowd.present.remove(&who);
        let presence = Presence {
            key,
            reference,
            previous: before.as_ref().map(|before| before.reference.clone()),
            meta,
        };
        crowd.present.insert(
            who,
            Presence {
                previous: None,
                ..presence.clone()
            },
        );
        crowd.diff.who.insert(who);
        crowd.diff.joins.push(presence);
        crowd.diff.leaves.extend(before);
        crowd.state = None;
        self.presences.changed.insert((topic, private));
    }

    fn untrack(&mut self, topic: Topic, private: bool, who: Address) {
        self.begin_change(&topic, private, who);
        let Some(crowds) = self.presences.crowds.get_mut(&topic) else {
            return;
        };
        let crowd = &mut crowds[usize::from(private)];
        let Some(before) = crowd.present.remove(&who) else {
            return;
        };
        crowd.diff.who.insert(who);
        crowd.diff.leaves.push(before);
        crowd.state = None;
        self.presences.changed.insert((topic, private));
    }

    /// Tells of an earlier change of the same channel first.
    fn begin_change(&mut self, topic: &Topic, private: bool, who: Address) {
        let crowds = self.presences.crowds.get(topic);
        if crowds.is_some_and(|crowds| crowds[usize::from(private)].diff.who.contains(&who)) {
            self.flush_presence_diff(topic.clone(), private);
        }
    }

    /// Tells everybody of what has changed.
    pub(super) fn flush_presence_diffs(&mut self) {
        if self.presences.changed.is_empty() {
            return;
        }
        for (topic, private) in std::mem::take(&mut self.presences.changed) {
            self.flush_presence_diff(topic, private);
        }
    }

    fn flush_presence_diff(&mut self, topic: Topic, private: bool) {
        let Some(crowds) = self.presences.crowds.get_mut(&topic) else {
            return;
        };
        let diff = std::mem::take(&mut crowds[usize::from(private)].diff);
        if crowds
            .iter()
            .all(|crowd| crowd.present.is_empty() && crowd.diff.who.is_empty())
        {
            self.presences.crowds.remove(&topic);
        }
        if !diff.who.is_empty() {
            let body = Body::PresenceDiff(diff.payload());
            self.tell_all(Cast::new(topic, private, body));
        }
    }

    /// Sends what a channel here wishes to the home of its topic.
    pub(super) fn wish_presence(&mut self, member: MemberKey, wish: PresenceWish) {
        let Some(room) = self.rooms.room_of(member) else {
            return;
        };
        let (topic, private) = (room.topic.clone(), room.private);
        if let Some(member) = self.rooms.member_mut(member) {
            match wish {
                PresenceWish::Track { .. } => member.is_tracked = true,
                PresenceWish::Untrack => member.is_tracked = false,
                PresenceWish::State => {}
            }
        }
        let who = Address {
            shard: self.shard,
            member,
        };
        let errand = Errand::Presence {
            topic: topic.clone(),
            private,
            who,
            wish,
        };
        self.send_home(&topic, errand);
    }

    /// Tells one channel who is present.
    pub(super) fn say_presence_state(
        &mut self,
        member: MemberKey,
        json: &Bytes,
        turn: &mut Turn<'_>,
    ) {
        let (Some(seat), Some(member)) = (self.rooms.seat(member), self.rooms.member(member))
        else {
            return;
        };
        let (client, vsn) = (seat.client, seat.vsn);
        let Some((topic, join_ref)) = self.channel_of(client, member.incarnation) else {
            return;
        };
        let Ok(json) = str::from_utf8(json) else {
            return;
        };
        let mut text = Vec::new();
        server_frame::push(
            &mut text,
            vsn,
            join_ref,
            topic.as_str(),
            "presence_state",
            json,
        );
        turn.outlets.send(client, &Parcel::text_frame(&[&text]));
    }
}
