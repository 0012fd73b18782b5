//! A shard without its sockets: everything that decides what a client receives.
//!
//! Pure: frames, feed events, answers and the passing of time go in; parcels, calls and due times
//! come out. It never waits and never looks at a clock, so that any interleaving can be replayed
//! from a seed. Refuses to know sockets, threads and SQL. Driven by the shard, and by the
//! simulation.

mod attach;
mod call;
mod client;
mod encode;
mod fanout;
mod hold;
mod live;
mod look;
mod notice;
mod replay;
mod resolve;
mod rights;
mod scan;
mod subscription;
mod tally;
mod timer;

use std::{collections::VecDeque, fmt, hash::RandomState, sync::Arc};

use pgrelay_protocol::{BindingSpec, Position};
use tokio::time::Instant;

pub use call::{Answer, Call};
pub use client::{Client, ClientKey, StreamRequest};
pub use hold::{Evaluation, EvaluationKey};
pub use look::{Round, RoundKey};
pub use scan::{Scan, ScanKey};
pub use subscription::{Subscription, SubscriptionKey};
pub(crate) use tally::Tally;

use crate::{
    arena::Arena,
    config::Config,
    filter::FilterTest,
    intern::Interner,
    outlet::Outlets,
    ports::{Claims, TokenVerifier},
    registry::Hits,
    ring::Ring,
    timers::Timers,
};
use encode::Encoder;
use hold::Evaluations;
use live::Live;
use look::Looks;
use replay::Replays;
use resolve::Resolutions;
use rights::KnownRights;
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
    /// An engine without clients, before the first word of its source.
    #[must_use]
    pub fn new(config: Arc<Config>, tokens: Arc<dyn TokenVerifier>) -> Self {
        let nowhere = Position {
            epoch: 0,
            batch: 0,
            seq: 0,
            tag: 0,
        };
        Self {
            encoder: Encoder::new(config.cursor_key.clone()),
            ring: Ring::new(nowhere, config.ring_bytes_max),
            config,
            tokens,
            marks: RandomState::new(),
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
mod tests;
