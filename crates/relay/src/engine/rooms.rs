//! Who hears what is said on a topic: the joined channels, by topic and privacy.
//!
//! A room's seats stand side by side, so that saying something to all of them is one walk over
//! memory. Public and private channels of one name are different rooms.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::{Topic, Vsn};
use uuid::Uuid;

use super::ClientKey;
use crate::{
    arena::{Arena, Key},
    outlet::Parcel,
    session::{Hearing, Incarnation},
};

/// Names a [`Member`].
pub type MemberKey = Key<Member>;

/// What is kept for a channel whose replay is not there yet; more fails the join.
pub(super) const HELD_MAX: usize = 100;

/// All rooms of a shard.
#[derive(Debug)]
pub(super) struct Rooms {
    /// The public and the private room of a topic.
    names: HashMap<Topic, [Option<Key<Room>>; 2], RandomState>,
    rooms: Arena<Room>,
    members: Arena<Member>,
}

/// The channels of one topic and privacy.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) topic: Topic,
    pub(super) private: bool,
    pub(super) seats: Vec<Seat>,
}

/// What delivering looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) client: ClientKey,
    pub(super) member: MemberKey,
    pub(super) vsn: Vsn,
    pub(super) hearing: Hearing,
    /// It has to be asked before something is delivered.
    pub(super) is_special: bool,
}

/// A joined channel, or one whose join waits for its replay.
#[derive(Debug)]
pub struct Member {
    room: Key<Room>,
    place: usize,
    pub(super) incarnation: Incarnation,
    /// Its presence is tracked at the topic's home.
    pub(super) is_tracked: bool,
    /// What came while its replay was read; `None` once it was.
    held: Option<Vec<(Option<Uuid>, Parcel)>>,
    /// Stored messages it got by replay.
    replayed: Box<[Uuid]>,
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self {
            names: HashMap::default(),
            rooms: Arena::new(),
            members: Arena::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.rooms.len() == 0 && self.members.len() == 0
    }

    pub(super) fn find(&self, topic: &Topic, private: bool) -> Option<&Room> {
        let rooms = self.names.get(topic)?;
        self.rooms.get(rooms[usize::from(private)]?)
    }

    pub(super) fn member(&self, key: MemberKey) -> Option<&Member> {
        self.members.get(key)
    }

    pub(super) fn member_mut(&mut self, key: MemberKey) -> Option<&mut Member> {
        self.members.get_mut(key)
    }

    /// The seat of a member.
    pub(super) fn seat(&self, key: MemberKey) -> Option<&Seat> {
        let member = self.members.get(key)?;
        self.rooms.get(member.room)?.seats.get(member.place)
    }

    fn seat_mut(&mut self, key: MemberKey) -> Option<&mut Seat> {
        let member = self.members.get(key)?;
        self.rooms.get_mut(member.room)?.seats.get_mut(member.place)
    }

    /// The room of a member.
    pub(super) fn room_of(&self, key: MemberKey) -> Option<&Room> {
        self.rooms.get(self.members.get(key)?.room)
    }

    /// Gives a channel a seat. With `held`, it is given nothing before [`Self::release`].
    pub(super) fn enter(
        &mut self,
        (topic, private): (&Topic, bool),
        (client, incarnation): (ClientKey, Incarnation),
        (vsn, hearing): (Vsn, Hearing),
        held: bool,
    ) -> MemberKey {
        let rooms = self.names.entry(topic.clone()).or_default();
        let key = *rooms[usize::from(private)].get_or_insert_with(|| {
            self.rooms.insert(Room {
                topic: topic.clone(),
                private,
                seats: Vec::new(),
            })
        });
        let room = self.rooms.get_mut(key).expect("a named room exists");
        let member = self.members.insert(Member {
            room: key,
            place: room.seats.len(),
            incarnation,
            is_tracked: false,
            held: held.then(Vec::new),
            replayed: Box::default(),
        });
        room.seats.push(Seat {
            client,
            member,
            vsn,
            hearing,
            is_special: held,
        });
        member
    }

    /// Frees a seat, and forgets the room with its last one.
    pub(super) fn leave(&mut self, key: MemberKey) {
        let Some(member) = self.members.remove(key) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(member.room) else {
            return;
        };
        room.seats.swap_remove(member.place);
        if let Some(moved) = room.seats.get(member.place)
            && let Some(moved) = self.members.get_mut(moved.member)
        {
            moved.place = member.place;
        }
        if !room.seats.is_empty() {
            if room.seats.len() * 4 < room.seats.capacity() {
                room.seats.shrink_to(room.seats.len() * 2);
            }
            return;
        }
        let Some(room) = self.rooms.remove(member.room) else {
            return;
        };
        if let Some(rooms) = self.names.get_mut(&room.topic) {
            rooms[usize::from(room.private)] = None;
            if *rooms == [None, None] {
                self.names.remove(&room.topic);
            }
        }
    }

    /// What a member hears from now on.
    pub(super) fn hear(&mut self, key: MemberKey, hearing: Hearing) {
        if let Some(seat) = self.seat_mut(key) {
            seat.hearing = hearing;
        }
    }

    /// The replay of a member was sent. What came meanwhile, without what was replayed.
    pub(super) fn release(&mut self, key: MemberKey, replayed: Box<[Uuid]>) -> Vec<Parcel> {
        let Some(member) = self.members.get_mut(key) else {
            return Vec::new();
        };
        let held = member.held.take().unwrap_or_default();
        let is_special = !replayed.is_empty();
        let kept = held
            .into_iter()
            .filter(|(id, _)| !id.is_some_and(|id| replayed.contains(&id)))
            .map(|(_, parcel)| parcel)
            .collect();
        member.replayed = replayed;
        if let Some(seat) = self.seat_mut(key) {
            seat.is_special = is_special;
        }
        kept
    }

    /// What a special member does with a delivery.
    pub(super) fn special(&mut self, key: MemberKey, id: Option<Uuid>, parcel: &Parcel) -> Special {
        let Some(member) = self.members.get_mut(key) else {
            return Special::Drop;
        };
        match &mut member.held {
            Some(held) if held.len() == HELD_MAX => Special::Overflow,
            Some(held) => {
                held.push((id, parcel.clone()));
                Special::Drop
            }
            None if id.is_some_and(|id| member.replayed.contains(&id)) => Special::Drop,
            None => Special::Deliver,
        }
    }
}

/// What becomes of a delivery to a special member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Deliver,
    /// It has it, or gets it later.
    Drop,
    /// More came than is kept.
    Overflow,
}
