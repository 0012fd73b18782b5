//! What the relay needs from outside, as traits. Implementations live in `capture` and `server`.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use pgrelay_protocol::{BindingSpec, Position, RefetchReason, TokenError, Topic};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    change::Page,
    filter::{FilterTest, ResolvedBinding},
    view::{Glance, Sight, Viewer},
};

/// What a source tells every shard, in order.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// The source is live and everything up to `Position` was handed over.
    Head(Position),
    /// The next changes, of every published table whether or not somebody listens: pages are kept
    /// for clients that come back. `page.end` is the new head.
    Page(Arc<Page>),
    /// The history before `head` cannot be continued (new epoch, retention overrun): every binding
    /// is told `must_refetch` and is live from `head`.
    Break {
        /// Why.
        reason: RefetchReason,
        /// Where the stream goes on.
        head: Position,
    },
    /// Tables, publication, privileges or row security changed: failed and wildcard bindings may
    /// be resolved again.
    CatalogChanged,
    /// Messages that were stored in the database, in commit order with the pages around them. Every
    /// shard delivers them to its channels of their topic and privacy.
    Messages(Arc<[StoredMessage]>),
}

/// A broadcast that lives in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its row's key; tells a replayed message from a live one.
    pub id: Uuid,
    /// The topic without `realtime:`.
    pub topic: Box<str>,
    /// The event's name.
    pub event: Box<str>,
    /// For private channels, or for public ones; never for both.
    pub private: bool,
    /// What it says.
    pub payload: StoredPayload,
    /// When it was stored, in microseconds of Unix time.
    pub inserted_at_us: i64,
}

/// What a stored message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPayload {
    /// JSON text.
    Json(Box<str>),
    /// Bytes, which clients of vsn 1 do not receive.
    Binary(Bytes),
}

/// Hands events to every shard; waits while a shard's queue is full, so the log is the buffer.
pub trait Feed: Send + Sync + 'static {
    /// Delivers `event` to every shard, in order. Errors only when the relay has stopped.
    fn publish(&self, event: FeedEvent) -> BoxFuture<'_, Result<(), Stopped>>;
}

/// The relay is gone; the source should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Where live changes come from.
pub trait ChangeSource: Send + 'static {
    /// Feeds events until `stop` is cancelled. Outages of the database are its own business; it
    /// returns an error only for what no retry can cure.
    fn run(
        self: Box<Self>,
        feed: Arc<dyn Feed>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>>;
}

/// Past changes, for clients that were away.
pub trait ChangeLog: Send + Sync + 'static {
    /// The changes strictly after `after`, in position order, as at most about `bytes_max` bytes of
    /// pages. Empty `pages` with `reached == after` means that nothing newer is in the ledger.
    fn read(
        &self,
        after: Position,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Replay, ReplayError>>;
}

/// One answer of [`ChangeLog::read`].
#[derive(Debug)]
pub struct Replay {
    /// In position order, all strictly after the position asked for.
    pub pages: Vec<Arc<Page>>,
    /// Everything up to here is in `pages` or was not there.
    pub reached: Position,
}

/// Why a replay cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayError {
    /// The client must fetch its data again; it is live from the head.
    Refetch(RefetchReason),
    /// The database does not answer; ask again later.
    Unavailable(String),
}

/// Messages stored in the database, for channels that join later.
pub trait MessageLog: Send + Sync + 'static {
    /// The newest at most `limit` private messages of `topic` that were stored at or after
    /// `since_ms` (milliseconds of Unix time), oldest first.
    fn replay(
        &self,
        topic: Topic,
        since_ms: i64,
        limit: u8,
    ) -> BoxFuture<'static, Result<Vec<StoredMessage>, ReplayError>>;
}

/// Where channels stood whose socket named a session, kept over disconnects and restarts.
pub trait SessionStore: Send + Sync + 'static {
    /// Everything that is known of `session` and not too old.
    fn load(
        &self,
        session: Uuid,
    ) -> BoxFuture<'static, Result<Vec<SessionPlace>, SessionUnavailable>>;

    /// Remembers a place instead of the one before it. Never waits: places are written together,
    /// soon, and are read back before they are written.
    fn save(&self, session: Uuid, place: SessionPlace);

    /// Forgets the place of a topic that the client has left. Never waits.
    fn forget(&self, session: Uuid, topic: &Topic);
}

/// Where one channel stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPlace {
    /// The channel's topic, in full.
    pub topic: Box<str>,
    /// Claim `sub` of its token; another one gets nothing.
    pub subject: Option<Box<str>>,
    /// Everything up to here has reached the client.
    pub cursor: Box<str>,
}

/// The places cannot be read now; ask again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionUnavailable;

/// Who is asking: verified claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claims {
    /// Claim `role`: the PostgreSQL role.
    pub role: Box<str>,
    /// Claim `sub`.
    pub subject: Option<Box<str>>,
    /// Claim `exp`, Unix seconds; `None` for configured API keys.
    pub expires_at: Option<u64>,
    /// All claims, as JSON object text.
    pub json: Box<str>,
}

/// Turns tokens and API keys into claims. Must be quick: it runs on the shard.
pub trait TokenVerifier: Send + Sync + 'static {
    /// Verifies `token` (a JWT or a configured `sb_` key) at Unix time `now` in seconds.
    fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError>;
}

/// What only the database can decide about a subscription.
pub trait Authorizer: Send + Sync + 'static {
    /// Resolves one binding for one subscriber: table published, columns known, filter values
    /// castable, filters compiled.
    fn resolve(
        &self,
        spec: Arc<BindingSpec>,
        claims: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ResolvedBinding, BindingError>>;

    /// Evaluates filters that need PostgreSQL: for each change index of `changes` in `page`, whether
    /// all of `tests` hold. DELETE looks at the replica identity columns of the old row.
    fn evaluate(
        &self,
        page: Arc<Page>,
        changes: Vec<u32>,
        tests: Arc<[FilterTest]>,
    ) -> BoxFuture<'static, Result<Vec<bool>, EvaluateError>>;

    /// What each of `viewers` may see of `changes` now, as if it had asked for the rows itself. One
    /// answer per viewer, so that one whose policies fail does not stop the others.
    fn look(
        &self,
        changes: Arc<[Glance]>,
        viewers: Vec<Viewer>,
    ) -> BoxFuture<'static, Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>>;

    /// What the policies allow these claims on a private `topic`.
    fn channel(
        &self,
        topic: Topic,
        claims: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ChannelRights, ChannelError>>;
}

/// What policies allow on a private topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelRights {
    /// Join, and receive broadcasts.
    pub read: bool,
    /// Send broadcasts.
    pub write: bool,
    /// See who is present.
    pub presence_read: bool,
    /// Be present.
    pub presence_write: bool,
}

/// The rights on a private topic could not be found out; the text goes to the client as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelError {
    /// What a client reads.
    pub message: String,
    /// The cause may pass by itself (database away): ask again.
    pub retryable: bool,
}

/// Why a binding is not live; the text goes to the client as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingError {
    /// Text of the `system` error frame.
    pub message: String,
    /// The cause may pass by itself (database away): the session asks again.
    pub retryable: bool,
}

/// A filter or a policy could not be evaluated now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluateError(pub String);

impl fmt::Display for EvaluateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
