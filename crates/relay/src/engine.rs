//! A shard without its sockets: everything that decides what a client receives.
//!
//! Pure: frames, feed events, answers and the passing of time go in; parcels, calls and due times
//! come out. It never waits and never looks at a clock, so that any interleaving can be replayed
//! from a seed. Refuses to know sockets, threads and SQL. Driven by the shard, and by the
//! simulation.

mod call;
mod encode;
mod fanout;
mod hold;
mod notice;
mod replay;
mod resolve;
mod subscription;
mod tally;
mod timer;

use std::{
    collections::VecDeque,
    fmt,
    hash::RandomState,
    sync::Arc,
    time::Duration,
};

use pgrelay_protocol::{
    BindingSpec, ClientFrame, JoinBinding, Position, RefetchReason, Since, SystemMessage, Vsn,
};
use smallvec::SmallVec;
use tokio::time::Instant;

pub use call::{Answer, Call};
pub use hold::{Evaluation, EvaluationKey};
pub use replay::{Scan, ScanKey};
pub use subscription::{Subscription, SubscriptionKey};
pub(crate) use tally::Tally;

use crate::{
    arena::{Arena, Key},
    change::Page,
    config::Config,
    filter::FilterTest,
    intern::Interner,
    outlet::{Outlets, Parcel},
    ports::{Claims, FeedEvent, TokenVerifier},
    registry::{Hits, Registry},
    ring::Ring,
    session::{Effect, Incarnation, Opening, Rules, Session},
    timers::Timers,
};
use encode::Encoder;
use fanout::Lane;
use hold::{Evaluations, HELD_MAX};
use replay::Replays;
use resolve::Resolutions;
use subscription::{Binding, BindingKey, Stage, Start, Voice};
use timer::Timer;

/// Names a [`Client`].
pub type ClientKey = Key<Client>;

/// Live changes looked at in one turn.
const CHANGES_PER_TURN: usize = 256;

/// The farthest a timer is set; expiries beyond are looked at again.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// The time, as whoever runs the engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For tokens: Unix time, seconds.
    pub unix: u64,
}

/// What an engine needs to act.
#[allow(missing_debug_implementations, reason = "outlets are whatever the caller has")]
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// The ways out.
    pub outlets: &'a mut dyn Outlets,
}

/// Who receives: a socket with channels, or a plain stream.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    /// Subscriptions that go on when the outlet is no longer full.
    paused: Vec<SubscriptionKey>,
}

#[derive(Debug)]
enum Kind {
    Socket(Session),
    Stream(Option<SubscriptionKey>),
}

/// What a stream without channels asks for.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Who asks.
    pub claims: Arc<Claims>,
    /// What the claims were read from.
    pub token: Arc<str>,
    /// The bindings; their ids are their places, counted from one.
    pub specs: Vec<BindingSpec>,
    /// Where to go on; `None` means from now on.
    pub since: Option<Since>,
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

/// The newest end of the stream.
#[derive(Debug, Default)]
struct Live {
    registry: Registry,
    /// Everything up to here was handed out; `None` until the source has said where it is.
    at: Option<Position>,
    /// The page that is being handed out.
    page: Option<Arc<Page>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("clients", &self.clients.len()).field("at", &self.live.at).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without clients, before the first word of its source.
    #[must_use]
    pub fn new(config: Arc<Config>, tokens: Arc<dyn TokenVerifier>) -> Self {
        let nowhere = Position { epoch: 0, batch: 0, seq: 0, tag: 0 };
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
            calls: VecDeque::new(),
            timers: Timers::new(),
            hits: Hits::default(),
            tally: Tally::default(),
        }
    }

    /// A socket came, with the token it connected with.
    pub fn connect(&mut self, vsn: Vsn, token: &str, claims: Arc<Claims>) -> ClientKey {
        let claims = self.shared.claims.share(claims);
        let session = Session::new(vsn, token, claims, &self.marks);
        self.clients.insert(Client { kind: Kind::Socket(session), paused: Vec::new() })
    }

    /// A client gets nothing more. Its key stays its own until it is gone.
    pub fn abandon(&mut self, client: ClientKey) {
        let Some(client) = self.clients.get_mut(client) else { return };
        match std::mem::replace(&mut client.kind, Kind::Stream(None)) {
            Kind::Socket(session) => {
                self.tally.channels -= session.channel_count() as i64;
                session.subscriptions().for_each(|subscription| self.unsubscribe(subscription));
            }
            Kind::Stream(subscription) => subscription.into_iter().for_each(|subscription| self.unsubscribe(subscription)),
        }
    }

    /// A client is gone.
    pub fn disconnect(&mut self, client: ClientKey) {
        self.abandon(client);
        self.clients.remove(client);
    }

    /// No further joins are taken.
    pub fn restart(&mut self) {
        self.restarting = true;
    }

    /// A client sent a frame.
    pub fn receive(&mut self, client: ClientKey, frame: ClientFrame, turn: &mut Turn<'_>) {
        self.with_session(client, turn, |session, rules| session.receive(frame, rules));
    }

    fn expire(&mut self, client: ClientKey, incarnation: Incarnation, turn: &mut Turn<'_>) {
        self.with_session(client, turn, |session, rules| session.expire(incarnation, rules));
    }

    fn with_session(
        &mut self,
        client: ClientKey,
        turn: &mut Turn<'_>,
        decide: impl FnOnce(&mut Session, Rules<'_>) -> Vec<Effect>,
    ) {
        let Some(Client { kind: Kind::Socket(session), .. }) = self.clients.get_mut(client) else { return };
        let rules = Rules {
            channels_max: self.config.channels_per_client_max,
            unix_now: turn.now.unix,
            restarting: self.restarting,
            tokens: &*self.tokens,
            marks: &self.marks,
        };
        let before = session.channel_count() as i64;
        let effects = decide(session, rules);
        self.tally.channels += session.channel_count() as i64 - before;
        let vsn = session.vsn();
        for effect in effects {
            match effect {
                Effect::Say(text) => turn.outlets.send(client, &Parcel::text_frame(&[&text])),
                Effect::SayLater(texts) => {
                    let parcels = texts.iter().map(|text| Parcel::text_frame(&[text])).collect();
                    self.timers.schedule(turn.now.instant + self.config.join_error_delay, Timer::Say(client, parcels));
                }
                Effect::Open(opening) => self.open(client, vsn, opening, turn),
                Effect::Reclaim(subscription, claims) => self.reclaim(subscription, claims),
                Effect::Shut(subscription) => self.unsubscribe(subscription),
                Effect::ExpireAt(incarnation, at) => {
                    let left = Duration::from_secs(at.saturating_sub(turn.now.unix)).min(WAIT_MAX);
                    self.timers.schedule(turn.now.instant + left, Timer::Expire(client, incarnation));
                }
            }
        }
    }

    /// Subscribes a channel that was joined.
    fn open(&mut self, client: ClientKey, vsn: Vsn, opening: Opening, turn: &mut Turn<'_>) {
        let Opening { incarnation, topic, join_ref, bindings, claims } = opening;
        if bindings.is_empty() {
            return;
        }
        let wishes = bindings.into_iter().map(|JoinBinding { id, since, spec, .. }| (id, since, spec));
        let subscription = self.subscribe(client, Voice::Channel { vsn, topic, join_ref }, claims, wishes.collect(), turn);
        if let (Some(key), Some(Client { kind: Kind::Socket(session), .. })) = (subscription, self.clients.get_mut(client)) {
            session.attach(incarnation, key);
        }
    }

    /// A plain stream came.
    pub fn connect_stream(&mut self) -> ClientKey {
        self.clients.insert(Client { kind: Kind::Stream(None), paused: Vec::new() })
    }

    /// Subscribes a stream. What it is told, refusals too, goes to its outlet.
    pub fn open_stream(&mut self, client: ClientKey, request: StreamRequest, turn: &mut Turn<'_>) {
        let since = request.since.unwrap_or(Since::Now);
        let wishes = (1..).zip(request.specs).map(|(id, spec)| (id, Some(since.clone()), Ok(spec))).collect();
        let subscription = self.subscribe(client, Voice::Stream, request.claims, wishes, turn);
        if let Some(client) = self.clients.get_mut(client) {
            client.kind = Kind::Stream(subscription);
        }
    }

    /// Makes a subscription and asks whether its bindings may be live. `None` when none can be.
    fn subscribe(
        &mut self,
        client: ClientKey,
        voice: Voice,
        claims: Arc<Claims>,
        wishes: Vec<(u32, Option<Since>, Result<BindingSpec, String>)>,
        turn: &mut Turn<'_>,
    ) -> Option<SubscriptionKey> {
        let claims = self.shared.claims.share(claims);
        let key = self.subscriptions.insert(Subscription::new(client, voice, claims));
        let mut bindings: SmallVec<[BindingKey; 1]> = SmallVec::new();
        for (id, since, spec) in wishes {
            let spec = match spec {
                Ok(_) if bindings.len() >= self.config.bindings_per_channel_max => {
                    Err(format!("Too many postgres_changes entries: at most {} can be live", self.config.bindings_per_channel_max))
                }
                spec => spec,
            };
            match spec {
                Ok(spec) => bindings.push(self.bind(key, id, since, spec)),
                Err(message) => {
                    let subscription = self.subscriptions.get(key)?;
                    subscription.tell(SystemMessage::BindingRefused { binding: id, message: &message }, turn);
                }
            }
        }
        if bindings.is_empty() {
            self.subscriptions.remove(key);
            return None;
        }
        bindings.shrink_to_fit();
        self.tally.bindings += bindings.len() as i64;
        let subscription = self.subscriptions.get_mut(key)?;
        subscription.asking = u32::try_from(bindings.len()).unwrap_or(u32::MAX);
        subscription.bindings = bindings.clone();
        bindings.into_iter().for_each(|binding| self.ask_binding(binding));
        Some(key)
    }

    fn bind(&mut self, owner: SubscriptionKey, id: u32, since: Option<Since>, mut spec: BindingSpec) -> BindingKey {
        let select = spec.select.clone().map(|select| self.shared.selects.share(select));
        spec.filters.shrink_to_fit();
        let spec = self.shared.specs.share(spec);
        let no_tests = self.shared.tests.share(Vec::new());
        let mut binding = Binding::new(owner, id, spec, no_tests);
        binding.select = select;
        binding.wants_cursor = since.is_some();
        binding.start = match since {
            None | Some(Since::Now) => Start::Head,
            Some(Since::Cursor(cursor)) => self.config.cursor_key.open(&cursor).map_or(Start::Forged, Start::Claimed),
        };
        if let Some(subscription) = self.subscriptions.get_mut(owner) {
            subscription.wants_cursors |= binding.wants_cursor;
            subscription.resumes |= binding.start != Start::Head;
        }
        self.bindings.insert(binding)
    }

    fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.detach(key);
        let Some(subscription) = self.subscriptions.remove(key) else { return };
        self.tally.bindings -= subscription.bindings.len() as i64;
        for binding in subscription.bindings {
            self.bindings.remove(binding);
        }
    }

    /// Takes a subscription out of whatever feeds it. It can be placed again where it stood.
    fn detach(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get(key) else { return };
        let settled = self.settled(subscription);
        for binding in self.live_bindings(key) {
            self.unregister(binding);
            if let Some(binding) = self.bindings.get_mut(binding)
                && let (Start::At(start), Some(settled)) = (binding.start, settled)
            {
                binding.start = Start::At(start.max(settled));
            }
        }
        self.drop_held(key);
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.settled = settled;
            subscription.stage = Stage::Idle;
        }
    }

    /// Takes a subscription out of its replay until its client has taken what waits for it.
    fn pause(&mut self, key: SubscriptionKey, settled: Position) {
        self.detach(key);
        let Some(subscription) = self.subscriptions.get_mut(key) else { return };
        subscription.stage = Stage::Paused;
        subscription.settled = Some(settled);
        if let Some(client) = self.clients.get_mut(subscription.client) {
            client.paused.push(key);
        }
        for key in self.live_bindings(key) {
            if let Some(binding) = self.bindings.get_mut(key)
                && let Start::At(start) = binding.start
            {
                binding.start = Start::At(start.max(settled));
            }
        }
    }

    /// The outlet of a client is no longer full.
    pub fn drained(&mut self, client: ClientKey, turn: &mut Turn<'_>) {
        let Some(client) = self.clients.get_mut(client) else { return };
        for key in std::mem::take(&mut client.paused) {
            if self.subscriptions.get(key).is_some_and(|subscription| subscription.stage == Stage::Paused) {
                self.place(key, turn);
            }
        }
    }

    /// Everything up to here was delivered to the subscription, or is not asked for.
    fn settled(&self, subscription: &Subscription) -> Option<Position> {
        if let Some(held) = subscription.held.as_ref().and_then(|held| held.front()) {
            return Some(held.before());
        }
        match subscription.stage {
            Stage::Live => self.live.at,
            // It may have joined a scan that comes from further back.
            Stage::Replaying(scan) => subscription.settled.max(self.replays.scans.get(scan).map(Scan::at)),
            Stage::Resolving | Stage::Idle | Stage::Early | Stage::Parked | Stage::Waiting(_) | Stage::Paused => {
                subscription.settled
            }
        }
    }

    /// Puts a binding into the registry its subscription is fed from.
    fn register(&mut self, key: BindingKey) {
        let Some(binding) = self.bindings.get(key) else { return };
        if let Some(registry) = registry_of(&self.subscriptions, &mut self.live, &mut self.replays, binding) {
            registry.insert(key.place(), binding.interest());
        }
    }

    /// Takes a binding out of the registry its subscription is fed from.
    fn unregister(&mut self, key: BindingKey) {
        let Some(binding) = self.bindings.get(key) else { return };
        if let Some(registry) = registry_of(&self.subscriptions, &mut self.live, &mut self.replays, binding) {
            registry.remove(key.place(), binding.interest());
        }
    }

    /// Whether [`Self::feed`] may be called: what was fed before has been handed out.
    #[must_use]
    pub fn wants_feed(&self) -> bool {
        self.live.page.is_none() && self.evaluations.held < HELD_MAX
    }

    /// The next word of the source.
    pub fn feed(&mut self, event: FeedEvent, turn: &mut Turn<'_>) {
        match event {
            FeedEvent::Head(position) => self.reach(position, turn),
            FeedEvent::Page(page) => match self.live.at {
                // Nobody is live yet, and where the page starts is not known.
                None => self.reach(page.end, turn),
                Some(at) if at < page.end => {
                    self.ring.push(Arc::clone(&page));
                    self.live.page = Some(page);
                }
                Some(_) => {}
            },
            FeedEvent::Break { reason, head } => self.break_stream(reason, head, turn),
            FeedEvent::CatalogChanged => self.catalog_changed(),
        }
    }

    /// The source stands at `position` and has nothing before it.
    fn reach(&mut self, position: Position, turn: &mut Turn<'_>) {
        match self.live.at {
            None => {
                self.ring = Ring::new(position, self.config.ring_bytes_max);
                self.live.at = Some(position);
                self.wake_early(turn);
            }
            Some(at) if at < position => {
                self.ring.mark(position);
                self.live.at = Some(position);
            }
            Some(_) => {}
        }
    }

    fn wake_early(&mut self, turn: &mut Turn<'_>) {
        for key in self.subscriptions.keys() {
            if self.subscriptions.get(key).is_some_and(|subscription| subscription.stage == Stage::Early) {
                self.begin(key, turn);
            }
        }
    }

    /// The history before `head` is not continued.
    fn break_stream(&mut self, reason: RefetchReason, head: Position, turn: &mut Turn<'_>) {
        let is_first = self.live.at.is_none();
        let keys = self.subscriptions.keys();
        for key in &keys {
            // Everybody leaves before the ground changes.
            let stage = self.subscriptions.get(*key).map(|subscription| subscription.stage);
            self.detach(*key);
            if let (Some(stage), Some(subscription)) = (stage, self.subscriptions.get_mut(*key)) {
                subscription.stage = stage;
            }
        }
        self.drop_scans();
        self.live.page = None;
        self.live.at = Some(head);
        self.ring = Ring::new(head, self.config.ring_bytes_max);
        if is_first {
            self.wake_early(turn);
            return;
        }
        for key in keys {
            let Some(subscription) = self.subscriptions.get_mut(key) else { continue };
            match (subscription.stage, subscription.settled) {
                (_, None) => {}
                // It begins when its bindings are resolved, at the head.
                (Stage::Resolving | Stage::Idle | Stage::Early, Some(_)) => {
                    subscription.settled = Some(head);
                    let bindings = subscription.bindings.clone();
                    self.break_off(key, &bindings, reason, head, turn);
                }
                (Stage::Parked | Stage::Waiting(_) | Stage::Replaying(_) | Stage::Paused | Stage::Live, Some(_)) => {
                    self.restart_at(key, reason, head, turn);
                }
            }
        }
    }

    /// An answer to a call.
    pub fn answer(&mut self, answer: Answer, turn: &mut Turn<'_>) {
        match answer {
            Answer::Resolved { spec, claims, outcome } => self.resolved(&spec, &claims, &outcome, turn),
            Answer::Evaluated { key, outcome } => self.evaluated(key, outcome, turn),
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
        more
    }

    fn step_live(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(page) = self.live.page.take() else { return false };
        let at = self.live.at;
        let start = page.changes.partition_point(|change| Some(page.position(change)) <= at);
        for (index, change) in (0..).zip(&page.changes).skip(start).take(CHANGES_PER_TURN) {
            if !self.fan_out(Lane::Live, &page, index, turn) {
                self.live.page = Some(page);
                return true;
            }
            self.live.at = Some(page.position(change));
        }
        if page.changes.len() - start > CHANGES_PER_TURN {
            self.live.page = Some(page);
        } else {
            self.live.at = Some(page.end);
        }
        true
    }

    pub(crate) fn take_tally(&mut self) -> Tally {
        self.tally.encoded += std::mem::take(&mut self.encoder.encoded);
        std::mem::take(&mut self.tally)
    }
}

fn registry_of<'a>(
    subscriptions: &Arena<Subscription>,
    live: &'a mut Live,
    replays: &'a mut Replays,
    binding: &Binding,
) -> Option<&'a mut Registry> {
    match subscriptions.get(binding.subscription)?.stage {
        Stage::Live => Some(&mut live.registry),
        Stage::Replaying(scan) => replays.scans.get_mut(scan).map(|scan| &mut scan.registry),
        Stage::Resolving | Stage::Idle | Stage::Early | Stage::Parked | Stage::Waiting(_) | Stage::Paused => None,
    }
}
