//! What a running shard does in a turn, a bounded amount of everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pgrelay_protocol::{Vsn, client_frame};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use super::calls::Calls;
use super::outlets::{Way, Ways};
use super::peers::{Mailbox, Peers};
use super::ready::{Bell, Ready};
use super::socket::{Socket, close_frame, close_reply, pong};
use crate::{
    config::Config,
    engine::{ClientKey, Engine, Now, Turn},
    metrics::Metrics,
    outlet::Goodbye,
    ports::FeedEvent,
    relay::{Drain, NewSocket, Visitor},
    stream,
    timers::Timers,
};

use super::Shard;

/// New clients taken in one turn.
const VISITORS_PER_TURN: usize = 64;
/// Sockets read in one turn.
const READS_PER_TURN: usize = 256;
/// Answers taken in one turn.
const ANSWERS_PER_TURN: usize = 256;
/// Feed events taken in one turn; each is followed by a step of the engine.
const FEEDS_PER_TURN: usize = 8;
/// Mail of either kind taken in one turn.
const MAIL_PER_TURN: usize = 128;
/// Bytes read from one socket at once. One buffer serves all sockets of the shard.
const READ_BYTES: usize = 16 * 1024;
/// How long a closed socket is kept for its peer to close too.
const LINGER: Duration = Duration::from_secs(2);

/// What a socket is looked at for, later.
enum Due {
    /// It may have been silent for too long.
    Silence(ClientKey),
    /// Its peer had time enough to close.
    Gone(ClientKey),
    /// Its turn in a drain.
    Restart(ClientKey),
}

/// A running shard.
pub(super) struct Worker {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    visitors: mpsc::Receiver<Visitor>,
    feed: mpsc::Receiver<FeedEvent>,
    load: Arc<AtomicUsize>,
    drain: Arc<Drain>,
    engine: Engine,
    peers: Peers,
    mailbox: Mailbox,
    ways: Ways,
    calls: Calls,
    ready: Arc<Ready>,
    /// Names taken from `ready` and not looked at yet.
    named: Vec<ClientKey>,
    due: Timers<Due>,
    buffer: Box<[u8]>,
    pub(super) draining: bool,
}

impl Worker {
    pub(super) fn new(shard: Shard) -> Self {
        let Shard {
            config,
            ports,
            metrics,
            visitors,
            feed,
            index,
            meters,
            peers,
            mailbox,
            load,
            drain,
        } = shard;
        let tokens = Arc::clone(&ports.tokens);
        Self {
            engine: Engine::one_of_many(Arc::clone(&config), tokens, meters, index),
            peers: Peers::new(&peers),
            mailbox,
            ways: Ways::new(config.queue_bytes_max),
            calls: Calls::new(ports),
            ready: Arc::default(),
            named: Vec::new(),
            due: Timers::new(),
            buffer: vec![0; READ_BYTES].into(),
            draining: false,
            config,
            metrics,
            visitors,
            feed,
            load,
            drain,
        }
    }

    /// The engine, and what it needs to act.
    fn engine(&mut self, now: Now) -> (&mut Engine, Turn<'_>) {
        (
            &mut self.engine,
            Turn {
                now,
                outlets: &mut self.ways,
            },
        )
    }

    pub(super) fn has_finished(&self) -> bool {
        self.draining && self.ways.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.engine.next_due(), self.due.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does some of everything. `true` when there is more to do at once.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let now = Now {
            instant: Instant::now(),
            unix,
        };
        self.ready.register(cx.waker());
        let mut more = self.receive_visitors(now, cx);
        more |= self.serve_ready(now);
        for _ in 0..ANSWERS_PER_TURN {
            let Some(answer) = self.calls.poll(cx) else {
                break;
            };
            let (engine, mut turn) = self.engine(now);
            engine.answer(answer, &mut turn);
        }
        let (engine, mut turn) = self.engine(now);
        engine.tick(&mut turn);
        self.look_at_due(now);
        more |= self.take_mail(cx);
        more |= self.take_feed(now, cx);
        self.peers.post(&mut self.engine, cx);
        while let Some(call) = self.engine.next_call() {
            self.calls.ask(call);
            more = true;
        }
        self.ways.flush_turn();
        self.clear_up(now);
        self.metrics.add(&self.engine.take_tally());
        more || self.ways.has_dirty()
    }

    fn receive_visitors(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        for _ in 0..VISITORS_PER_TURN {
            match self.visitors.poll_recv(cx) {
                Poll::Ready(Some(Visitor::Socket(socket))) => self.accept(socket, now),
                Poll::Ready(Some(Visitor::Stream(request, reply))) => {
                    let key = self.engine.connect_stream();
                    let bell = Bell::new(&self.ready, key);
                    let (sender, events) = stream::channel(Waker::from(Arc::clone(&bell)));
                    self.ways.insert(
                        key,
                        Way::Stream {
                            sender,
                            bell,
                            is_full: false,
                        },
                    );
                    self.metrics.streams.inc();
                    let (engine, mut turn) = self.engine(now);
                    engine.open_stream(key, request, &mut turn);
                    if self.draining || reply.send(events).is_err() {
                        self.forget(key);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    fn accept(&mut self, new: NewSocket, now: Now) {
        let NewSocket {
            socket,
            early,
            vsn,
            token,
            claims,
            session,
        } = new;
        let key = self.engine.connect(vsn, &token, claims);
        match Socket::new(socket, vsn, (&self.ready, key), now.instant) {
            Ok(socket) => {
                // Its first read registers it with the reactor.
                socket.ring();
                self.ways.insert(key, Way::Socket(Box::new(socket)));
                self.metrics.sockets.inc();
            }
            Err(error) => {
                tracing::warn!(%error, "socket cannot be watched");
                self.engine.disconnect(key);
                self.load.fetch_sub(1, Ordering::AcqRel);
                return;
            }
        }
        self.due
            .schedule(now.instant + self.config.idle_timeout, Due::Silence(key));
        if let Some(session) = session {
            let (engine, mut turn) = self.engine(now);
            engine.keep(key, session, &mut turn);
        }
        if !early.is_empty() {
            self.receive(key, &early, now);
        }
        if self.draining {
            self.close(key, Goodbye::Restart, now);
        }
    }

    /// Takes what other shards and HTTP have left, as far as the engine wants it.
    fn take_mail(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..MAIL_PER_TURN {
            if !self.engine.wants_deliveries() {
                return true;
            }
            match self.mailbox.deliveries.poll_recv(cx) {
                Poll::Ready(Some(delivery)) => self.engine.take_delivery(delivery),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        for _ in 0..MAIL_PER_TURN {
            if !self.engine.wants_errands() {
                return true;
            }
            match self.mailbox.errands.poll_recv(cx) {
                Poll::Ready(Some(errand)) => self.engine.run(errand),
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    /// Looks at the clients that rang, unless they are not to be listened to now.
    fn serve_ready(&mut self, now: Now) -> bool {
        self.ready.take(&mut self.named);
        let mut served = 0;
        while served < READS_PER_TURN.min(self.named.len()) && self.engine.wants_frames() {
            let key = self.named[served];
            served += 1;
            match self.ways.get(key) {
                Some(Way::Socket(_)) => self.serve_socket(key, now),
                Some(Way::Stream {
                    sender,
                    bell,
                    is_full,
                }) => {
                    bell.listen();
                    if sender.is_abandoned() {
                        self.forget(key);
                    } else if *is_full && !sender.is_full(self.config.queue_bytes_max) {
                        *is_full = false;
                        let (engine, mut turn) = self.engine(now);
                        engine.drained(key, &mut turn);
                    }
                }
                None => {}
            }
        }
        self.named.drain(..served);
        !self.named.is_empty()
    }

    fn serve_socket(&mut self, key: ClientKey, now: Now) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_whole = match self.ways.socket(key).map(|socket| socket.read(&mut buffer)) {
            Some(Poll::Ready(Ok([]) | Err(_))) => {
                self.forget(key);
                false
            }
            Some(Poll::Ready(Ok(bytes))) => {
                self.receive(key, bytes, now);
                true
            }
            Some(Poll::Pending) | None => false,
        };
        self.buffer = buffer;
        if let Some(socket) = self.ways.socket(key) {
            if is_whole {
                // There may be more; the next read says so, or has the bell set.
                socket.ring();
            }
            if !socket.outbox.is_empty() {
                self.ways.mark(key);
            }
        }
    }

    /// Handles bytes of a client.
    fn receive(&mut self, key: ClientKey, bytes: &[u8], now: Now) {
        let Some(socket) = self.ways.socket(key) else {
            return;
        };
        socket.heard = now.instant;
        if socket.outbox.is_closing() {
            return;
        }
        let vsn = socket.vsn;
        let mut messages = Vec::new();
        let outcome = socket
            .inbound
            .receive(bytes, self.config.frame_bytes_max, |message| {
                messages.push(message);
            });
        for message in messages {
            self.handle(key, vsn, message, now);
        }
        if let Err(goodbye) = outcome {
            self.close(key, goodbye, now);
        }
    }

    fn handle(&mut self, key: ClientKey, vsn: Vsn, message: Message, now: Now) {
        let frame = match message {
            Message::Text(text) => client_frame::decode_text(vsn, &text),
            Message::Binary(bytes) => client_frame::decode_binary(vsn, bytes),
            Message::Ping(payload) => {
                return self.answer(key, |socket| socket.outbox.push_control(pong(payload)));
            }
            Message::Close(frame) => {
                self.answer(key, |socket| socket.outbox.close(close_reply(frame), false));
                return self.hang_up(key, now);
            }
            Message::Pong(payload) => return self.engine.pong(key, &payload),
            Message::Frame(_) => return,
        };
        match frame {
            Ok(frame) => {
                let (engine, mut turn) = self.engine(now);
                engine.receive(key, frame, &mut turn);
            }
            Err(malformed) => tracing::debug!(%malformed, "frame dropped"),
        }
    }

    fn answer(&mut self, key: ClientKey, answer: impl FnOnce(&mut Socket)) {
        if let Some(socket) = self.ways.socket(key) {
            answer(socket);
            self.ways.mark(key);
        }
    }

    /// Closes a socket with a code, after what waits for it.
    fn close(&mut self, key: ClientKey, goodbye: Goodbye, now: Now) {
        self.answer(key, |socket| {
            socket.outbox.close(close_frame(goodbye), false);
        });
        self.hang_up(key, now);
    }

    /// The socket gets nothing more, and some time to close.
    fn hang_up(&mut self, key: ClientKey, now: Now) {
        self.engine.abandon(key);
        self.due.schedule(now.instant + LINGER, Due::Gone(key));
    }

    /// The client is gone.
    fn forget(&mut self, key: ClientKey) {
        match self.ways.remove(key) {
            Some(Way::Socket(_)) => self.metrics.sockets.dec(),
            Some(Way::Stream { .. }) => self.metrics.streams.dec(),
            None => return,
        };
        self.engine.disconnect(key);
        self.load.fetch_sub(1, Ordering::AcqRel);
    }

    fn look_at_due(&mut self, now: Now) {
        while let Some(due) = self.due.pop(now.instant) {
            match due {
                Due::Silence(key) => {
                    let Some(socket) = self
                        .ways
                        .socket(key)
                        .filter(|socket| !socket.outbox.is_closing())
                    else {
                        continue;
                    };
                    let end = socket.heard + self.config.idle_timeout;
                    if end <= now.instant {
                        self.close(key, Goodbye::Idle, now);
                    } else {
                        self.due.schedule(end, Due::Silence(key));
                    }
                }
                Due::Gone(key) => self.forget(key),
                Due::Restart(key) => match self.ways.get(key) {
                    Some(Way::Socket(socket)) if !socket.outbox.is_closing() => {
                        let (engine, mut turn) = self.engine(now);
                        engine.say_farewell(key, &mut turn);
                        self.close(key, Goodbye::Restart, now);
                    }
                    Some(Way::Stream { .. }) => self.forget(key),
                    Some(Way::Socket(_)) | None => {}
                },
            }
        }
    }

    /// Tells every client to come back elsewhere, spread over the window.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.engine.restart();
        let keys = self.ways.keys();
        let step = self
            .drain
            .window()
            .checked_div(u32::try_from(keys.len()).unwrap_or(u32::MAX))
            .unwrap_or_default();
        let mut at = Instant::now();
        for key in keys {
            self.due.schedule(at, Due::Restart(key));
            at += step;
        }
    }

    /// Takes what the source says, as far as the engine wants it, and hands it out.
    fn take_feed(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let (engine, mut turn) = self.engine(now);
        let mut more = engine.step(&mut turn);
        for _ in 0..FEEDS_PER_TURN {
            if !self.engine.wants_feed() {
                return true;
            }
            match self.feed.poll_recv(cx) {
                Poll::Ready(Some(event)) => {
                    let (engine, mut turn) = self.engine(now);
                    engine.feed(event, &mut turn);
                }
                Poll::Ready(None) | Poll::Pending => return more,
            }
            let (engine, mut turn) = self.engine(now);
            more |= engine.step(&mut turn);
        }
        true
    }

    /// Deals with what writing has shown.
    fn clear_up(&mut self, now: Now) {
        for key in std::mem::take(&mut self.ways.overflowed) {
            self.metrics.overflows.inc();
            match self.ways.get(key) {
                Some(Way::Socket(_)) => self.hang_up(key, now),
                Some(Way::Stream { .. }) => self.forget(key),
                None => {}
            }
        }
        for key in std::mem::take(&mut self.ways.failed) {
            self.forget(key);
        }
        for (key, goodbye) in std::mem::take(&mut self.ways.leaving) {
            self.close(key, goodbye, now);
        }
        for key in std::mem::take(&mut self.ways.drained) {
            let (engine, mut turn) = self.engine(now);
            engine.drained(key, &mut turn);
        }
    }
}
