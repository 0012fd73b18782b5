//! Many clients on one thread: connects them, joins them, counts what they receive.
//!
//! Knows WebSocket framing and nothing of what is inside; `dialect.rs` says what to send and what an answer looks like.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    clock::{self, SECOND},
    frame,
};

/// Read at once; all that a socket has, nearly always.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 512;
/// In what a relay says to a client that it refuses.
const REFUSED: &[u8] = b"\"status\":\"error\"";
/// Clients that share a source address, well below the number of its ports.
const CLIENTS_PER_SOURCE: usize = 4_000;
/// How long any single client may take to be joined after its fleet began to.
const JOIN_DEADLINE: Duration = Duration::from_secs(120);

/// How a client comes to be joined.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) address: SocketAddr,
    /// The path to upgrade at; `None` where no WebSocket is spoken and what comes back is thrown away.
    pub(crate) path: Option<String>,
    /// Sent after the upgrade.
    pub(crate) hello: Vec<u8>,
    /// What the server says when the client has joined, and how often; nothing where the upgrade is all.
    pub(crate) joined: Option<(&'static [u8], usize)>,
    /// Size of the kernel's receive buffer, where it matters.
    pub(crate) receive_buffer: Option<usize>,
}

/// What happened to a client; frames tell its number.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Joined,
    /// A message, and when it was read.
    Frame(usize, &'a [u8], u64),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    /// So many answers are missing.
    Joining(usize),
    Live,
    Closed,
}

#[derive(Debug)]
struct Client {
    socket: Option<Socket>,
    state: State,
    opening: Opening,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
    /// Why it cannot join, in the server's words.
    refusal: Vec<u8>,
}

/// A message that each client sends regularly.
#[derive(Debug)]
struct Beat {
    every: u64,
    frame: Vec<u8>,
    due: u64,
    client: usize,
}

/// All clients of one thread.
#[derive(Debug)]
pub(crate) struct Fleet {
    epoll: OwnedFd,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    opened: usize,
    joining: usize,
    live: usize,
    beat: Option<Beat>,
}

impl Fleet {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clients: Vec::new(),
            buffer: vec![0; READ_BYTES],
            opened: 0,
            joining: 0,
            live: 0,
            beat: None,
        })
    }

    /// How many clients are joined now.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// How many are on their way to be.
    pub(crate) fn joining(&self) -> usize {
        self.joining
    }

    /// Has every client send `frame` this often, evenly spread.
    pub(crate) fn beat(&mut self, every: Duration, frame: Vec<u8>) -> Result<()> {
        self.beat = Some(Beat {
            every: u64::try_from(every.as_nanos())?,
            frame,
            due: clock::now(),
            client: 0,
        });
        Ok(())
    }

    /// Joins clients, at most `in_flight` at a time; fails unless every one of them succeeds.
    pub(crate) fn join_all(
        &mut self,
        openings: impl IntoIterator<Item = Opening>,
        in_flight: usize,
    ) -> Result<()> {
        let mut openings = openings.into_iter().peekable();
        let deadline = clock::now() + u64::try_from(JOIN_DEADLINE.as_nanos())?;
        let mut closed = 0;
        while openings.peek().is_some() || self.joining > 0 {
            while self.joining < in_flight
                && let Some(opening) = openings.next()
            {
                self.add(opening)?;
            }
            self.turn(clock::now() + SECOND / 10, &mut |event| {
                closed += usize::from(matches!(event, Event::Closed));
            })?;
            ensure!(
                closed == 0,
                "{closed} clients were closed while others joined"
            );
            ensure!(
                clock::now() < deadline,
                "{} of {} clients have not joined after {JOIN_DEADLINE:?}",
                self.joining,
                self.clients.len()
            );
        }
        Ok(())
    }

    /// One more client; its number.
    pub(crate) fn add(&mut self, opening: Opening) -> Result<usize> {
        let index = self.clients.len();
        self.clients.push(Client {
            socket: None,
            state: State::Closed,
            opening,
            partial: Vec::new(),
            unsent: Vec::new(),
            refusal: Vec::new(),
        });
        self.open(index)?;
        Ok(index)
    }

    /// Cuts a client's connection at once, with a reset.
    pub(crate) fn cut(&mut self, index: usize) {
        let client = &mut self.clients[index];
        match std::mem::replace(&mut client.state, State::Closed) {
            State::Live => self.live -= 1,
            State::Connecting | State::Upgrading | State::Joining(_) => self.joining -= 1,
            State::Closed => {}
        }
        // Without a reset the port would be kept for a minute. A socket that the other side has reset cannot be told.
        client
            .socket
            .take()
            .map(|socket| socket.set_linger(Some(Duration::ZERO)));
        client.partial = Vec::new();
        client.unsent = Vec::new();
    }

    /// Connects a client that was cut, with another hello.
    pub(crate) fn reopen(&mut self, index: usize, hello: Vec<u8>) -> Result<()> {
        self.clients[index].opening.hello = hello;
        self.open(index)
    }

    /// Stops reading from a client; it stays connected.
    pub(crate) fn stall(&mut self, index: usize) -> Result<()> {
        let socket = self.clients[index]
            .socket
            .as_ref()
            .context("a connected client")?;
        epoll::delete(&self.epoll, socket).context("stop reading")
    }

    /// Sends bytes as they are; what the socket does not take now goes later.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let client = &mut self.clients[index];
        if client.unsent.is_empty() && client.state == State::Live {
            let Some(mut socket) = client.socket.as_ref() else {
                return Ok(());
            };
            match socket.write(bytes) {
                Ok(written) if written == bytes.len() => return Ok(()),
                Ok(written) => client.unsent.extend_from_slice(&bytes[written..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    client.unsent.extend_from_slice(bytes);
                }
                // Its end shows when it is read.
                Err(_) => return Ok(()),
            }
            watch(&self.epoll, client, index)?;
        } else {
            client.unsent.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Deals with what happens until something has, or until `until`.
    pub(crate) fn turn(&mut self, until: u64, sink: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let until = self.send_beats()?.min(until);
        let wait = until.saturating_sub(clock::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(wait / SECOND)?,
            tv_nsec: i64::try_from(wait % SECOND)?,
        };
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let (events, _) = epoll::wait(&self.epoll, &mut space[..], Some(&timeout))?;
        for event in events {
            let index = usize::try_from(event.data.u64())?;
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) {
                self.writable(index)?;
            }
            if flags
                .intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR | epoll::EventFlags::HUP)
            {
                self.readable(index, sink)?;
            }
        }
        Ok(())
    }

    /// Turns until `at`.
    pub(crate) fn turn_until(&mut self, at: u64, sink: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        while clock::now() < at {
            self.turn(at, sink)?;
        }
        Ok(())
    }

    /// When the next beat is due.
    fn send_beats(&mut self) -> Result<u64> {
        let Some(mut beat) = self.beat.take() else {
            return Ok(u64::MAX);
        };
        let count = self.clients.len().max(1);
        while beat.due <= clock::now() {
            if self
                .clients
                .get(beat.client)
                .is_some_and(|client| client.state == State::Live)
            {
                self.send(beat.client, &beat.frame)?;
            }
            beat.client = (beat.client + 1) % count;
            beat.due += beat.every / count as u64;
        }
        let due = beat.due;
        self.beat = Some(beat);
        Ok(due)
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
            .context("a socket; 18,000 clients need a limit of 20,000 open files")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = client.opening.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let source = u8::try_from(self.opened / CLIENTS_PER_SOURCE % 250)? + 1;
        self.opened += 1;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0)).into())?;
        match socket.connect(&client.opening.address.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error).context(client.opening.address),
        }
        client.state = State::Connecting;
        self.joining += 1;
        let events = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            events,
        )?;
        client.socket = Some(socket);
        Ok(())
    }

    fn writable(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        let Some(mut socket) = client.socket.as_ref() else {
            return Ok(());
        };
        if client.state == State::Connecting {
            if let Some(error) = socket.take_error()? {
                bail!("cannot connect to {}: {error}", client.opening.address);
            }
            match client.opening.path.as_deref() {
                Some(path) => {
                    client.unsent = upgrade(path, client.opening.address);
                    client.state = State::Upgrading;
                }
                None => {
                    client.state = State::Live;
                    self.joining -= 1;
                    self.live += 1;
                }
            }
        }
        match socket.write(&client.unsent) {
            Ok(written) => drop(client.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Its end shows when it is read.
            Err(_) => client.unsent.clear(),
        }
        watch(&self.epoll, client, index)
    }

    fn readable(&mut self, index: usize, sink: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let client = &mut self.clients[index];
        let Some(mut socket) = client.socket.as_ref() else {
            return Ok(());
        };
        let bytes = match socket.read(&mut self.buffer) {
            Ok(0) => return self.close(index, sink),
            Ok(read) => &self.buffer[..read],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return self.close(index, sink),
        };
        if client.opening.path.is_none() {
            return Ok(());
        }
        let before = client.state;
        let mut taken = std::mem::take(&mut client.partial);
        let all = if taken.is_empty() {
            bytes
        } else {
            taken.extend_from_slice(bytes);
            &taken
        };
        let used = consume(client, index, all, sink);
        client.partial = all[used..].to_vec();
        ensure!(
            client.refusal.is_empty(),
            "client {index} was refused: {}",
            String::from_utf8_lossy(&client.refusal)
        );
        match client.state {
            State::Closed => return self.close(index, sink),
            State::Live if before != State::Live => {
                self.joining -= 1;
                self.live += 1;
                sink(Event::Joined);
            }
            State::Connecting | State::Upgrading | State::Joining(_) | State::Live => {}
        }
        if !self.clients[index].unsent.is_empty() {
            self.writable(index)?;
        }
        Ok(())
    }

    fn close(&mut self, index: usize, sink: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let was_joining = !matches!(self.clients[index].state, State::Live | State::Closed);
        if self.clients[index].state == State::Closed {
            // Marked so by a close frame: it was joined, or it said why not.
            self.live = self.live.saturating_sub(1);
        }
        self.cut(index);
        if was_joining {
            bail!("client {index} was closed before it had joined");
        }
        sink(Event::Closed);
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for index in 0..self.clients.len() {
            self.cut(index);
        }
    }
}

fn upgrade(path: &str, address: SocketAddr) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Has the client watched for what it waits for.
fn watch(epoll: &OwnedFd, client: &Client, index: usize) -> Result<()> {
    let Some(socket) = client.socket.as_ref() else {
        return Ok(());
    };
    let mut events = epoll::EventFlags::IN;
    if !client.unsent.is_empty() {
        events |= epoll::EventFlags::OUT;
    }
    epoll::modify(
        epoll,
        socket,
        epoll::EventData::new_u64(index as u64),
        events,
    )
    .context("watch a socket")
}

/// Takes what is whole from the start of `bytes`; how much that was.
fn consume(
    client: &mut Client,
    index: usize,
    bytes: &[u8],
    sink: &mut dyn FnMut(Event<'_>),
) -> usize {
    let (mut used, now) = (0, clock::now());
    if client.state == State::Upgrading {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return 0;
        };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            client.state = State::Closed;
            return bytes.len();
        }
        used = end + 4;
        client.unsent.extend_from_slice(&client.opening.hello);
        client.state = match client.opening.joined {
            Some((_, times)) => State::Joining(times),
            None => State::Live,
        };
    }
    while let Some(head) = frame::first(&bytes[used..]) {
        let payload = &bytes[used..][head.payload.clone()];
        used += head.payload.end;
        match head.kind {
            frame::PING => client.unsent.extend(frame::masked(frame::PONG, payload)),
            frame::CLOSE => {
                client.state = State::Closed;
                return bytes.len();
            }
            _ => {
                if let (State::Joining(missing), Some((answer, _))) =
                    (client.state, client.opening.joined)
                    && memmem::find(payload, answer).is_some()
                {
                    client.state = match missing {
                        1 => State::Live,
                        _ => State::Joining(missing - 1),
                    };
                }
                if client.state != State::Live && memmem::find(payload, REFUSED).is_some() {
                    client.refusal = payload.to_vec();
                }
                sink(Event::Frame(index, payload, now));
            }
        }
    }
    used
}
