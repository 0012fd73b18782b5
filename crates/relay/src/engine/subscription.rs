//! The bindings of one channel or stream, moving through positions together.

use std::{collections::VecDeque, sync::Arc};

use pgrelay_protocol::{BindingSpec, Position, Ref, RefetchReason, Topic, Vsn};
use smallvec::SmallVec;

use super::{ClientKey, hold::Held, scan::ScanKey};
use crate::{
    arena::Key,
    filter::{FilterTest, ResolvedBinding},
    ports::Claims,
    registry::{BindingIndex, Interest, Scope},
    view::Rights,
};

/// Names a [`Subscription`].
pub type SubscriptionKey = Key<Subscription>;

pub(super) type BindingKey = Key<Binding>;

/// All bindings of one channel. Its changes leave in position order, whatever binding they match,
/// so that one cursor says what the client has.
#[derive(Debug)]
pub struct Subscription {
    pub(super) client: ClientKey,
    pub(super) voice: Voice,
    pub(super) claims: Arc<Claims>,
    pub(super) bindings: SmallVec<[BindingKey; 1]>,
    pub(super) stage: Stage,
    /// Everything up to here was delivered, or is not asked for. `None` until the bindings were
    /// resolved for the first time; see [`Engine::settled`](super::Engine) while it moves.
    pub(super) settled: Option<Position>,
    /// Answers that have to come before it can begin.
    pub(super) asking: u32,
    /// Some binding asked for cursors: nothing may be skipped silently.
    pub(super) wants_cursors: bool,
    /// The next greeting may say that nothing is missing.
    pub(super) resumes: bool,
    /// The client was told that it is subscribed.
    pub(super) greeted: bool,
    /// It is told its position from time to time.
    pub(super) has_checkpoints: bool,
    /// Changes that wait for a decision, in order; `None` almost always.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 32 in every subscription"
    )]
    pub(super) held: Option<Box<VecDeque<Held>>>,
}

/// How a subscription speaks to its client.
#[derive(Debug, Clone)]
pub(super) enum Voice {
    /// As a channel of a socket.
    Channel {
        vsn: Vsn,
        topic: Topic,
        join_ref: Ref,
    },
    /// As a stream of events.
    Stream,
}

/// Where a subscription gets its changes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nowhere: its bindings are being resolved.
    Resolving,
    /// Nowhere: no binding is live.
    Idle,
    /// Nowhere yet: the source has not said where it is.
    Early,
    /// Nowhere yet: no replay can take it.
    Parked,
    /// A replay that will prove its cursor.
    Waiting(ScanKey),
    /// A replay.
    Replaying(ScanKey),
    /// Nowhere: its client has to take what waits for it first.
    Paused,
    /// The live stream.
    Live,
}

/// One binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) subscription: SubscriptionKey,
    /// Its number on the wire.
    pub(super) id: u32,
    pub(super) spec: Arc<BindingSpec>,
    pub(super) select: Option<Arc<[Box<str>]>>,
    pub(super) wants_cursor: bool,
    pub(super) state: BindingState,
    /// Numbers the questions, so that an answer to an older one is known.
    pub(super) asked: u32,
    pub(super) retries: u8,
    /// It gets what comes after this.
    pub(super) start: Start,
    /// What it resolved to; meaningless unless live.
    relation: Option<u32>,
    tests: Arc<[FilterTest]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindingState {
    /// Nothing is known yet.
    Asking,
    /// It gets changes, as far as its subscription does.
    Live,
    /// It cannot be.
    Refused {
        /// It is asked again by itself.
        retryable: bool,
    },
}

/// Where a binding starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Wherever the stream is when it goes live.
    Head,
    /// Where its subscription is when it gets changes again. It cannot have all it asked for, and
    /// is told so then.
    Broken(RefetchReason),
    /// After a position the client gave, which may never have existed.
    Claimed(Position),
    /// After a position of this stream.
    At(Position),
}

impl Start {
    pub(super) fn position(self) -> Option<Position> {
        match self {
            Self::At(position) | Self::Claimed(position) => Some(position),
            Self::Head | Self::Broken(_) => None,
        }
    }
}

impl Subscription {
    pub(super) fn new(client: ClientKey, voice: Voice, claims: Arc<Claims>) -> Self {
        Self {
            client,
            voice,
            claims,
            bindings: SmallVec::new(),
            stage: Stage::Resolving,
            settled: None,
            asking: 0,
            wants_cursors: false,
            resumes: false,
            greeted: false,
            has_checkpoints: false,
            held: None,
        }
    }
}

impl Binding {
    pub(super) fn new(
        subscription: SubscriptionKey,
        id: u32,
        spec: Arc<BindingSpec>,
        none: Arc<[FilterTest]>,
    ) -> Self {
        Self {
            subscription,
            id,
            spec,
            select: None,
            wants_cursor: false,
            state: BindingState::Asking,
            asked: 0,
            retries: 0,
            start: Start::Head,
            relation: None,
            tests: none,
        }
    }

    pub(super) fn resolve(&mut self, resolved: &ResolvedBinding, tests: Arc<[FilterTest]>) {
        self.state = BindingState::Live;
        self.retries = 0;
        self.relation = resolved.relation;
        self.tests = tests;
    }

    /// What it listens to, once resolved.
    pub(super) fn interest(&self) -> Interest<'_> {
        let scope = match self.relation {
            Some(oid) => Scope::Table(oid),
            None => Scope::Names {
                schema: &self.spec.schema,
                table: &self.spec.table,
            },
        };
        Interest {
            scope,
            event: self.spec.event,
            tests: &self.tests,
        }
    }

    /// Whether its filters look at nothing that these rights keep from it.
    pub(super) fn filters_within(&self, rights: &Rights) -> bool {
        self.tests.iter().all(|test| rights.covers(&test.column))
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.relation.is_none()
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == BindingState::Live
    }

    /// Its claimed position, while nobody has proven it.
    pub(super) fn claim(&self) -> Option<Position> {
        match self.start {
            Start::Claimed(position) if self.is_live() => Some(position),
            Start::Claimed(_) | Start::Head | Start::Broken(_) | Start::At(_) => None,
        }
    }

    /// Whether it gets the change at `position`, in a replay.
    pub(super) fn starts_before(&self, position: Position) -> bool {
        match self.start {
            Start::At(start) => start < position,
            Start::Head | Start::Broken(_) | Start::Claimed(_) => false,
        }
    }
}

impl Key<Binding> {
    pub(super) fn place(self) -> BindingIndex {
        BindingIndex(self.index())
    }
}
