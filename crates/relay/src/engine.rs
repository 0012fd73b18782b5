//! A shard without its sockets: everything that decides what a client receives.
//!
//! Pure: frames, feed events, answers and the passing of time go in; parcels, calls and due times
//! come out. It never waits and never looks at a clock, so that any interleaving can be replayed
//! from a seed. Refuses to know sockets, threads and SQL. Driven by the shard, and by the
//! simulation.

mod attach;
mod authorize;
mod broadcast;
mod call;
mod client;
mod encode;
mod failures;
mod fanout;
mod hold;
mod keep;
mod live;
mod look;
mod notice;
mod presence;
mod replay;
mod resolve;
mod rights;
mod rooms;
mod scan;
mod subscription;
mod tally;
mod timer;

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use pgrelay_protocol::{BindingSpec, Position};
use tokio::time::Instant;

pub use call::{Answer, Call};
pub use client::{Client, ClientKey, StreamRequest};
pub use hold::{Evaluation, EvaluationKey};
pub use look::{Round, RoundKey};
pub use rooms::{Member, MemberKey};
pub use scan::{Scan, ScanKey};
pub use subscription::{Subscription, SubscriptionKey};
pub(crate) use tally::Tally;

use crate::{
    arena::Arena,
    config::Config,
    filter::FilterTest,
    intern::Interner,
    mail::{Delivery, Errand},
    meters::Meters,
    outlet::Outlets,
    ports::{Claims, TokenVerifier},
    registry::Hits,
    ring::Ring,
    timers::Timers,
};
use authorize::Authorizations;
use encode::Encoder;
use hold::Evaluations;
use live::Live;
use look::Looks;
use presence::Presences;
use replay::Replays;
use resolve::Resolutions;
use rights::KnownRights;
use rooms::Rooms;
use subscription::Binding;
use timer::Timer;

/// The time, as whoever runs the engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For tokens: Unix time, seconds.
    pub unix: u64,
}

/// What an engine needs to act.
#[allow(
    missing_debug_implementations,
    reason = "outlets are whatever the caller has"
)]
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// The ways out.
    pub outlets: &'a mut dyn Outlets,
}

/// The pure part of a shard.
pub struct Engine {
    config: Arc<Config>,
    tokens: Arc<dyn TokenVerifier>,
    marks: RandomState,
    restarting: bool,
    clients: Arena<Client>,
    subscriptions: Arena<Subscription>,
    bindings: Arena<Binding>,
    shared: Shared,
    live: Live,
    ring: Ring,
    replays: Replays,
    resolutions: Resolutions,
    evaluations: Evaluations,
    looks: Looks,
    rights: KnownRights,
    calls: VecDeque<Call>,
    timers: Timers<Timer>,
    encoder: Encoder,
    hits: Hits,
    tally: Tally,
    /// Which shard this is, of all that the configuration names.
    shard: usize,
    meters: Arc<Meters>,
    rooms: Rooms,
    presences: Presences,
    authorizations: Authorizations,
    /// What was said and is not handed out yet.
    pending: VecDeque<Delivery>,
    /// What goes to the homes of topics on other shards.
    errands: VecDeque<(usize, Errand)>,
    /// What goes to other shards from here.
    deliveries: VecDeque<(usize, Delivery)>,
}

/// One copy of what many have.
#[derive(Debug)]
struct Shared {
    claims: Interner<Claims>,
    specs: Interner<BindingSpec>,
    selects: Interner<[Box<str>]>,
    tests: Interner<[FilterTest]>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("clients", &self.clients.len())
            .field("at", &self.live.at)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without clients, before the first word of its source, that is alone.
    #[must_use]
    pub fn new(config: Config, tokens: Arc<dyn TokenVerifier>) -> Self {
        let config = Config {
            shards: 1,
            ..config
        };
        Self::one_of_many(config.into(), tokens, Arc::default(), 0)
    }

    /// The engine of one shard of many.
    pub(crate) fn one_of_many(
        config: Arc<Config>,
        tokens: Arc<dyn TokenVerifier>,
        meters: Arc<Meters>,
        shard: usize,
    ) -> Self {
        let nowhere = Position {
            epoch: 0,
            batch: 0,
            seq: 0,
            tag: 0,
        };
        let marks = RandomState::new();
        Self {
            encoder: Encoder::new(config.cursor_key.clone()),
            ring: Ring::new(nowhere, config.ring_bytes_max),
            config,
            tokens,
            presences: Presences::new(marks.hash_one(shard)),
            marks,
            restarting: false,
            clients: Arena::new(),
            subscriptions: Arena::new(),
            bindings: Arena::new(),
            shared: Shared {
                claims: Interner::new(),
                specs: Interner::new(),
                selects: Interner::new(),
                tests: Interner::new(),
            },
            live: Live::default(),
            replays: Replays::new(),
            resolutions: Resolutions::default(),
            evaluations: Evaluations::new(),
            looks: Looks::new(),
            rights: KnownRights::new(),
            calls: VecDeque::new(),
            timers: Timers::new(),
            hits: Hits::default(),
            tally: Tally::default(),
            shard,
            meters,
            rooms: Rooms::new(),
            authorizations: Authorizations::default(),
            pending: VecDeque::new(),
            errands: VecDeque::new(),
            deliveries: VecDeque::new(),
        }
    }

    /// An answer to a call.
    pub fn answer(&mut self, answer: Answer, turn: &mut Turn<'_>) {
        match answer {
            Answer::Resolved {
                spec,
                claims,
                outcome,
            } => self.resolved(&spec, &claims, &outcome, turn),
            Answer::Evaluated { key, outcome } => self.evaluated(key, outcome, turn),
            Answer::Looked { key, outcome } => self.looked(key, outcome, turn),
            Answer::Read { key, outcome } => self.has_read(key, outcome, turn),
            Answer::Channel {
                topic,
                claims,
                outcome,
            } => self.channel_answered(topic, claims, &outcome, turn),
            Answer::SessionLoaded { client, outcome } => {
                self.session_loaded(client, outcome, turn);
            }
            Answer::Messages {
                client,
                incarnation,
                outcome,
            } => self.messages_answered(client, incarnation, outcome, turn),
        }
    }

    /// The next question to the ports.
    pub fn next_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// Hands out a bounded amount of changes. `true` when there is more to do at once.
    pub fn step(&mut self, turn: &mut Turn<'_>) -> bool {
        let more = self.step_live(turn);
        let more = self.step_replays(turn) || more;
        let more = self.step_deliveries(turn) || more;
        self.ask_evaluations(turn);
        self.ask_looks(turn);
        more
    }

    pub(crate) fn take_tally(&mut self) -> Tally {
        self.tally.encoded += std::mem::take(&mut self.encoder.encoded);
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod tests;
