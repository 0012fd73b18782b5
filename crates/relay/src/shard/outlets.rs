//! All ways out of one shard.
//!
//! Deliveries are queued as references; a socket that has any is dirty and flushed once per turn.
//! A change with many receivers has a queue of its own: it is flushed beside everything else, a
//! part each turn, and the next such change waits for it.

use std::{collections::VecDeque, io, sync::Arc, task::Poll};

use super::{
    ready::Bell,
    socket::{Socket, close_frame},
};
use crate::{
    FailPoint,
    engine::ClientKey,
    outbox::Spare,
    outlet::{Goodbye, Outlets, Parcel},
    stream::StreamSender,
};

/// A change with more receivers is a mass delivery.
const MANY: usize = 256;

/// Sockets flushed in one turn.
const FLUSHES_PER_TURN: usize = 256;

/// Of those, at least so many are of a mass delivery while there is one.
const MASS_FLUSHES_PER_TURN: usize = 64;

/// Dirty sockets beyond which nothing more is handed out.
const DIRTY_MAX: usize = 4_096;

/// Queues kept for sockets that will need one, and how large they may be.
const SPARES_MAX: usize = 1_024;
const SPARE_FRAMES_MAX: usize = 128;

/// What sockets share: they need it only while they are written to.
#[derive(Default)]
struct Desk {
    /// Where frames are put together.
    scratch: Vec<u8>,
    spares: Vec<Spare>,
}

/// One way out.
pub(super) enum Way {
    Socket(Box<Socket>),
    Stream {
        sender: StreamSender,
        bell: Arc<Bell>,
        is_full: bool,
    },
}

type Places = Vec<Option<(ClientKey, Way)>>;

/// The ways out, by client.
pub(super) struct Ways {
    places: Places,
    count: usize,
    desk: Desk,
    dirty: VecDeque<ClientKey>,
    /// Dirty because of a mass delivery.
    mass: VecDeque<ClientKey>,
    is_mass: bool,
    bytes_max: usize,
    /// Clients that did not keep up since this was last taken.
    pub(super) overflowed: Vec<ClientKey>,
    /// Clients whose connection failed.
    pub(super) failed: Vec<ClientKey>,
    /// Clients to be closed.
    pub(super) leaving: Vec<(ClientKey, Goodbye)>,
    /// Clients that were full and are not any more.
    pub(super) drained: Vec<ClientKey>,
}

fn find(places: &mut Places, key: ClientKey) -> Option<&mut Way> {
    let (owner, way) = places.get_mut(key.index() as usize)?.as_mut()?;
    (*owner == key).then_some(way)
}

impl Desk {
    /// Writes what waits for a socket, as far as it takes it.
    fn flush(&mut self, socket: &mut Socket) -> Poll<io::Result<()>> {
        let outcome = socket.flush(&mut self.scratch);
        if let Some(queue) = socket.outbox.strip()
            && queue.capacity() <= SPARE_FRAMES_MAX
            && self.spares.len() < SPARES_MAX
        {
            self.spares.push(queue);
        }
        outcome
    }

    /// Gives a socket a queue where it has none.
    fn provide(&mut self, socket: &mut Socket) {
        if socket.outbox.is_bare()
            && let Some(queue) = self.spares.pop()
        {
            socket.outbox.adopt(queue);
        }
    }
}

impl Ways {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            places: Vec::new(),
            count: 0,
            desk: Desk::default(),
            dirty: VecDeque::new(),
            mass: VecDeque::new(),
            is_mass: false,
            bytes_max,
            overflowed: Vec::new(),
            failed: Vec::new(),
            leaving: Vec::new(),
            drained: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, key: ClientKey, way: Way) {
        let index = key.index() as usize;
        if index >= self.places.len() {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some((key, way));
        self.count += 1;
    }

    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Way> {
        let place = self.places.get_mut(key.index() as usize)?;
        let (_, way) = place.take_if(|(owner, _)| *owner == key)?;
        self.count -= 1;
        Some(way)
    }

    pub(super) fn get(&mut self, key: ClientKey) -> Option<&mut Way> {
        find(&mut self.places, key)
    }

    pub(super) fn socket(&mut self, key: ClientKey) -> Option<&mut Socket> {
        match self.get(key)? {
            Way::Socket(socket) => Some(socket),
            Way::Stream { .. } => None,
        }
    }

    pub(super) fn keys(&self) -> Vec<ClientKey> {
        self.places.iter().flatten().map(|(key, _)| *key).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether sockets wait to be flushed.
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.mass.is_empty()
    }

    /// Has `key` flushed in this turn or a later one.
    pub(super) fn mark(&mut self, key: ClientKey) {
        let is_mass = self.is_mass;
        let Some(socket) = self.socket(key) else {
            return;
        };
        if !std::mem::replace(&mut socket.is_dirty, true) {
            let queue = if is_mass {
                &mut self.mass
            } else {
                &mut self.dirty
            };
            queue.push_back(key);
        }
    }

    /// Writes to as many dirty sockets as a turn allows.
    pub(super) fn flush_turn(&mut self) {
        self.is_mass = false;
        let mass = self.mass.len().min(MASS_FLUSHES_PER_TURN);
        let first = self.dirty.len().min(FLUSHES_PER_TURN - mass);
        for _ in 0..first {
            let key = self.dirty.pop_front();
            key.into_iter().for_each(|key| self.flush(key));
        }
        for _ in 0..self.mass.len().min(FLUSHES_PER_TURN - first) {
            let key = self.mass.pop_front();
            key.into_iter().for_each(|key| self.flush(key));
        }
    }

    /// Writes what waits for one socket, as far as it takes it.
    pub(super) fn flush(&mut self, key: ClientKey) {
        let quarter = self.bytes_max / 4;
        let Some(Way::Socket(socket)) = find(&mut self.places, key) else {
            return;
        };
        socket.is_dirty = false;
        let failed = matches!(self.desk.flush(socket), Poll::Ready(Err(_)));
        let drained = socket.is_full && socket.outbox.bytes() <= quarter;
        if drained {
            socket.is_full = false;
            self.drained.push(key);
        }
        if failed {
            self.failed.push(key);
        }
    }

    /// Closes a client for not keeping up. Nobody else notices.
    fn overflow(&mut self, key: ClientKey) {
        match self.get(key) {
            Some(Way::Socket(socket)) => socket.outbox.close(close_frame(Goodbye::Overflow), true),
            Some(Way::Stream { .. }) | None => {}
        }
        self.mark(key);
        self.overflowed.push(key);
    }
}

impl Outlets for Ways {
    fn admits(&mut self, receivers: usize) -> bool {
        self.is_mass = receivers > MANY;
        (self.mass.is_empty() || !self.is_mass) && self.dirty.len() < DIRTY_MAX
    }

    fn send(&mut self, client: ClientKey, parcel: &Parcel) {
        let bytes_max = self.bytes_max;
        let has_room = match (find(&mut self.places, client), parcel) {
            (Some(Way::Socket(socket)), Parcel::Frame(frame)) => {
                if socket.outbox.is_closing() {
                    return;
                }
                if FailPoint::DropsOnOverflow.is_on() && socket.outbox.bytes() > bytes_max / 2 {
                    return;
                }
                self.desk.provide(socket);
                socket.outbox.push(frame.clone());
                // It may be full only because its turn has not come.
                if socket.outbox.bytes() > bytes_max {
                    let _outcome_shows_at_the_next_flush = self.desk.flush(socket);
                }
                socket.outbox.bytes() <= bytes_max.max(frame.len())
            }
            (Some(Way::Stream { sender, .. }), parcel @ Parcel::Event(_)) => {
                sender.send(parcel, bytes_max)
            }
            (None | Some(_), _) => return,
        };
        if has_room {
            self.mark(client);
        } else {
            self.overflow(client);
        }
    }

    fn is_full(&mut self, client: ClientKey) -> bool {
        let half = self.bytes_max / 2;
        match find(&mut self.places, client) {
            Some(Way::Socket(socket)) => {
                if socket.outbox.bytes() > half {
                    let _outcome_shows_at_the_next_flush = self.desk.flush(socket);
                }
                socket.is_full |= socket.outbox.bytes() > half;
                socket.is_full
            }
            Some(Way::Stream {
                sender,
                bell,
                is_full,
            }) => {
                *is_full |= sender.is_full(half * 2);
                if *is_full {
                    // It may have been emptied while we looked.
                    bell.ring();
                }
                *is_full
            }
            None => false,
        }
    }

    fn close(&mut self, client: ClientKey, goodbye: Goodbye) {
        self.leaving.push((client, goodbye));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use pgrelay_protocol::Vsn;
    use tokio::{task::coop::unconstrained, time::Instant};

    use super::*;
    use crate::shard::ready::Ready;

    /// Sockets whose peers read nothing, by number.
    struct Rig {
        ways: Ways,
        clients: Vec<ClientKey>,
        _peers: Vec<TcpStream>,
    }

    impl Rig {
        fn new(count: u32, bytes_max: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let ready = Arc::new(Ready::default());
            let (mut ways, mut clients, mut peers) = (Ways::new(bytes_max), Vec::new(), Vec::new());
            for index in 0..count {
                peers.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
                let socket = listener.accept().unwrap().0;
                socket.set_nonblocking(true).unwrap();
                let key = ClientKey::of(index);
                let socket = Socket::new(socket, Vsn::V2, (&ready, key), Instant::now()).unwrap();
                ways.insert(key, Way::Socket(Box::new(socket)));
                clients.push(key);
            }
            Self {
                ways,
                clients,
                _peers: peers,
            }
        }

        /// Hands one change to these clients; whether it was admitted.
        fn deliver(&mut self, clients: std::ops::Range<usize>, bytes: usize) -> bool {
            let admitted = self.ways.admits(clients.len());
            if admitted {
                let parcel = Parcel::text_frame(&[&vec![b'x'; bytes]]);
                for client in clients {
                    self.ways.send(self.clients[client], &parcel);
                }
            }
            admitted
        }

        /// Clients for whom something waits.
        fn waiting(&mut self) -> Vec<usize> {
            let clients = self.clients.clone();
            let waits = |(index, key): (usize, &ClientKey)| {
                let socket = self.ways.socket(*key)?;
                (!socket.outbox.is_empty()).then_some(index)
            };
            clients.iter().enumerate().filter_map(waits).collect()
        }
    }

    #[tokio::test]
    async fn a_change_with_many_receivers_does_not_hold_up_the_others() {
        const CROWD: usize = 2 * FLUSHES_PER_TURN;
        let mut rig = Rig::new(u32::try_from(CROWD).unwrap() + 2, 1 << 16);
        // The reactor has to see the new sockets once.
        tokio::task::yield_now().await;
        unconstrained(crowd_and_pair(&mut rig, CROWD)).await;
    }

    #[expect(
        clippy::unused_async,
        reason = "runs without tokio's budget, like a shard"
    )]
    async fn crowd_and_pair(rig: &mut Rig, crowd: usize) {
        assert!(rig.deliver(0..crowd, 10));
        assert!(rig.deliver(crowd..crowd + 2, 10));
        assert!(
            !rig.deliver(0..crowd, 10),
            "the next crowd waits for the first"
        );
        rig.ways.flush_turn();
        let waiting = rig.waiting();
        assert_eq!(
            waiting.len(),
            crowd + 2 - FLUSHES_PER_TURN,
            "a turn is bounded"
        );
        assert!(
            waiting.iter().all(|index| *index < crowd),
            "the pair did not wait"
        );
        assert!(rig.deliver(crowd..crowd + 1, 10), "nor does anybody else");
        while rig.ways.has_dirty() {
            rig.ways.flush_turn();
        }
        assert_eq!(rig.waiting(), [] as [usize; 0]);
        assert!(rig.deliver(0..crowd, 10));
    }

    #[tokio::test]
    async fn only_what_the_socket_does_not_take_counts_as_an_overflow() {
        let mut rig = Rig::new(1, 1_000);
        tokio::task::yield_now().await;
        for _ in 0..100 {
            // A burst of many times the bound, in one turn, to a socket with room.
            rig.deliver(0..1, 600);
        }
        assert_eq!(rig.ways.overflowed, []);
        while rig.ways.overflowed.is_empty() {
            rig.deliver(0..1, 100_000);
        }
        let key = rig.clients[0];
        assert_eq!(rig.ways.overflowed, [key]);
        rig.deliver(0..1, 600);
        assert_eq!(rig.ways.overflowed, [key], "it is closed once");
        let socket = rig.ways.socket(key).unwrap();
        assert!(socket.outbox.is_closing() && socket.outbox.bytes() <= 100_100);
    }
}
