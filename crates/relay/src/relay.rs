//! The handle of a relay: what the server and the source hold of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use pgrelay_protocol::Vsn;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Config,
    engine::StreamRequest,
    mail::{Cast, Errand, home},
    meters::Meters,
    metrics::Metrics,
    ports::{
        Authorizer, ChangeLog, Claims, Feed, FeedEvent, MessageLog, SessionStore, Stopped,
        TokenVerifier,
    },
    shard::{Shard, mailbox},
    stream::EventStream,
};

/// Clients on their way to one shard.
const VISITORS_MAX: usize = 1_024;

/// Feed events on their way to one shard. Few: the log is the buffer.
const FEED_MAX: usize = 16;

/// What a relay needs from outside.
#[derive(Clone)]
pub struct Ports {
    /// Past changes.
    pub log: Arc<dyn ChangeLog>,
    /// Messages stored in the database.
    pub messages: Arc<dyn MessageLog>,
    /// Where sockets that named a session stood.
    pub sessions: Arc<dyn SessionStore>,
    /// What only the database decides.
    pub authorizer: Arc<dyn Authorizer>,
    /// What a token says.
    pub tokens: Arc<dyn TokenVerifier>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// A WebSocket after its upgrade.
#[derive(Debug)]
pub struct NewSocket {
    /// Non-blocking.
    pub socket: std::net::TcpStream,
    /// What came behind the request for the upgrade.
    pub early: Bytes,
    /// The serializer version asked for.
    pub vsn: Vsn,
    /// The token it came with.
    pub token: Arc<str>,
    /// What the token says.
    pub claims: Arc<Claims>,
    /// The session it names, if any: it goes on where that stood.
    pub session: Option<Uuid>,
}

/// Somebody at the door of a shard.
#[derive(Debug)]
pub(crate) enum Visitor {
    Socket(NewSocket),
    Stream(StreamRequest, oneshot::Sender<EventStream>),
}

/// The order that everybody has to leave, given once.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    order: CancellationToken,
    window_millis: AtomicU64,
}

impl Drain {
    /// Waits for the order.
    pub(crate) async fn ordered(&self) {
        self.order.cancelled().await;
    }

    /// Within which time everybody has to leave, once ordered.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis.load(Ordering::Acquire))
    }
}

/// Why a client is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// More clients are on their way to a shard than it takes; try again later.
    #[error("the relay cannot take another client now")]
    Busy,
    /// The relay goes down.
    #[error("the relay is going down")]
    Stopped,
}

impl<T> From<TrySendError<T>> for AcceptError {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Busy,
            TrySendError::Closed(_) => Self::Stopped,
        }
    }
}

/// A running relay. Clones are the same relay.
#[derive(Debug, Clone)]
pub struct Relay {
    shards: Arc<[Door]>,
    drain: Arc<Drain>,
    config: Arc<Config>,
    meters: Arc<Meters>,
}

/// The way into one shard.
#[derive(Debug)]
struct Door {
    visitors: mpsc::Sender<Visitor>,
    feed: mpsc::Sender<FeedEvent>,
    errands: mpsc::Sender<Errand>,
    load: Arc<AtomicUsize>,
}

impl Door {
    fn let_in(&self, visitor: Visitor) -> Result<(), AcceptError> {
        self.load.fetch_add(1, Ordering::AcqRel);
        self.visitors.try_send(visitor).map_err(|error| {
            self.load.fetch_sub(1, Ordering::AcqRel);
            error.into()
        })
    }
}

/// Why no further socket is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// Too many clients are connected.
    Clients,
    /// Too many joins in this second.
    Joins,
}

/// Makes a relay and the shards that do its work once they run.
#[must_use]
pub fn build(config: Config, ports: &Ports, metrics: &Arc<Metrics>) -> (Relay, Vec<Shard>) {
    let count = config.shards.max(1);
    let (config, drain) = (Arc::new(config), Arc::new(Drain::default()));
    let meters = Arc::new(Meters::default());
    let (peers, mailboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mailbox()).unzip();
    let made = mailboxes.into_iter().enumerate().map(|(index, mailbox)| {
        let (visitors_in, visitors) = mpsc::channel(VISITORS_MAX);
        let (feed_in, feed) = mpsc::channel(FEED_MAX);
        let load = Arc::new(AtomicUsize::new(0));
        let door = Door {
            visitors: visitors_in,
            feed: feed_in,
            errands: peers[index].errands.clone(),
            load: Arc::clone(&load),
        };
        let shard = Shard {
            config: Arc::clone(&config),
            ports: ports.clone(),
            metrics: Arc::clone(metrics),
            visitors,
            feed,
            index,
            meters: Arc::clone(&meters),
            peers: peers.clone(),
            mailbox,
            load,
            drain: Arc::clone(&drain),
        };
        (door, shard)
    });
    let (doors, shards): (Vec<_>, Vec<_>) = made.unzip();
    let relay = Relay {
        shards: doors.into(),
        drain,
        config,
        meters,
    };
    (relay, shards)
}

impl Relay {
    /// Gives a socket to the shard with the fewest clients. Never waits.
    ///
    /// # Errors
    /// When that shard is busy or gone; the socket is closed.
    pub fn accept(&self, socket: NewSocket) -> Result<(), AcceptError> {
        self.least_loaded().let_in(Visitor::Socket(socket))
    }

    /// Has `cast` told to every channel of its topic. Waits while the topic's shard is busy.
    ///
    /// # Errors
    /// When the relay has stopped.
    pub async fn tell(&self, cast: Cast) -> Result<(), Stopped> {
        let shard = home(&cast.topic, self.shards.len());
        let errands = &self.shards[shard].errands;
        let told = errands.send(Errand::Tell(cast)).await;
        told.map_err(|_closed| Stopped)
    }

    /// Whether a socket at Unix time `now`, in seconds, comes too many.
    #[must_use]
    pub fn crowded(&self, now: u64) -> Option<Crowded> {
        let joins_max = self.config.joins_per_second_max;
        if self.meters.is_full(self.config.clients_max) {
            Some(Crowded::Clients)
        } else if joins_max.is_some_and(|max| self.meters.joins.count(now) >= max) {
            Some(Crowded::Joins)
        } else {
            None
        }
    }

    /// Counts `amount` messages at Unix time `now`, in seconds, as clients' broadcasts are.
    /// `false`, and nothing counted, when they are too many.
    #[must_use]
    pub fn admits_events(&self, now: u64, amount: u32) -> bool {
        let max = self.config.events_per_second_max;
        self.meters.events.take(now, amount, max)
    }

    /// What clients have said in the second `now`, and what they may say in one, where that is
    /// limited.
    #[must_use]
    pub fn event_rate(&self, now: u64) -> Option<(u32, u32)> {
        let max = self.config.events_per_second_max?;
        Some((self.meters.events.count(now), max))
    }

    /// Largest payload of one broadcast, in bytes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.config.payload_bytes_max
    }

    /// Subscribes a client without channels. Whether its bindings are live, and why not, comes as
    /// events.
    ///
    /// # Errors
    /// When no shard takes it.
    pub async fn subscribe(&self, request: StreamRequest) -> Result<EventStream, AcceptError> {
        let (reply, stream) = oneshot::channel();
        self.least_loaded()
            .let_in(Visitor::Stream(request, reply))?;
        stream.await.map_err(|_dropped| AcceptError::Stopped)
    }

    /// Has every client leave within `window`, evenly spread: sockets are closed with 1012, streams
    /// end. No joins are taken meanwhile. A shard whose last client is gone finishes.
    pub fn drain(&self, window: Duration) {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.drain.window_millis.store(millis, Ordering::Release);
        self.drain.order.cancel();
    }

    fn least_loaded(&self) -> &Door {
        let doors = self.shards.iter();
        doors
            .min_by_key(|door| door.load.load(Ordering::Acquire))
            .expect("a relay has a shard")
    }
}

impl Feed for Relay {
    fn publish(&self, event: FeedEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async move {
            for door in &*self.shards {
                door.feed
                    .send(event.clone())
                    .await
                    .map_err(|_closed| Stopped)?;
            }
            Ok(())
        })
    }
}
