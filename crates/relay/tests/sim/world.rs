//! One run: an engine, its clients, and a fate that is a seed.

use std::{sync::Arc, time::Duration};

use pgrelay_protocol::{
    BindingSpec, CursorKey, RefetchReason, TokenError, Vsn, client_frame::decode_text,
};
use pgrelay_relay::{
    Config,
    engine::{Answer, Call, ClientKey, Engine, Now, Turn},
    filter::ResolvedBinding,
    outlet::{Goodbye, Outlets, Parcel},
    ports::{BindingError, Claims, EvaluateError, FeedEvent, ReplayError, TokenVerifier},
    testing,
    view::{Glance, Sight, Viewer},
};
use tokio::time::Instant;

use crate::{
    client::{Client, Told},
    random::Random,
    truth::{TABLES, Truth, Wish, evaluate, look, resolve},
};

/// Parcels that make an outlet full, and those it can hold at all.
const FULL: usize = 6;
const OVERFLOW: usize = 40;

pub(crate) struct World {
    random: Random,
    engine: Engine,
    truth: Truth,
    outlets: Queues,
    /// What was fed; everything after it is only in the log.
    fed: usize,
    pending: Vec<FeedEvent>,
    calls: Vec<Call>,
    now: Now,
    key: CursorKey,
    told: Told,
    fate: Fate,
    unpublished: Option<u32>,
}

/// What may happen in this run.
struct Fate {
    holes: bool,
    breaks: bool,
    retention: bool,
    outages: bool,
    slow_database: bool,
    forgery: bool,
    unpublishes: bool,
}

impl Fate {
    /// Why a client may be told to fetch again.
    fn reasons(&self) -> Vec<&'static str> {
        [
            (self.holes, "hole"),
            (self.breaks, "epoch"),
            (self.retention, "retention"),
            (self.forgery, "forged"),
            (self.unpublishes, "schema"),
            (self.outages || self.slow_database, "authorization"),
        ]
        .into_iter()
        .filter_map(|(happens, reason)| happens.then_some(reason))
        .collect()
    }
}

/// The clients, as outlets of the engine.
struct Queues {
    clients: Vec<Client>,
    killed: Vec<ClientKey>,
    refuses: bool,
}

impl Queues {
    fn find(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients
            .iter_mut()
            .find(|client| client.key == Some(key))
    }
}

impl Outlets for Queues {
    fn admits(&mut self, _receivers: usize) -> bool {
        !std::mem::take(&mut self.refuses)
    }

    fn send(&mut self, key: ClientKey, parcel: &Parcel) {
        let Some(client) = self.find(key) else { return };
        client.queue.push_back(parcel.clone());
        if client.queue.len() > OVERFLOW {
            client.queue.clear();
            client.key = None;
            self.killed.push(key);
        }
    }

    fn is_full(&mut self, key: ClientKey) -> bool {
        self.find(key)
            .is_some_and(|client| client.queue.len() >= FULL)
    }

    fn close(&mut self, _key: ClientKey, _goodbye: Goodbye) {}
}

struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str, _now: u64) -> Result<Arc<Claims>, TokenError> {
        Ok(claims(token))
    }
}

fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        subject: None,
        expires_at: None,
        json: "{}".into(),
    })
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let key = CursorKey::new([7; 32]);
        let fate = Fate {
            holes: random.chance(30),
            breaks: random.chance(20),
            retention: random.chance(20),
            outages: random.chance(40),
            slow_database: random.chance(30),
            forgery: random.chance(20),
            unpublishes: random.chance(25),
        };
        let config = Config {
            checkpoint_interval: Duration::from_secs(2),
            ring_bytes_max: random.pick(&[0, 2_000, 20_000]),
            replay_bytes_max: 1_000,
            evaluate_deadline: Duration::from_secs(if fate.slow_database || fate.outages {
                3
            } else {
                3_600
            }),
            cursor_key: key.clone(),
            ..testing::config()
        };
        let clients = (0..1 + random.below(6)).map(|_| {
            let mut wishes: Vec<Wish> = (0..1 + random.below(3))
                .map(|_| Wish::random(&mut random))
                .collect();
            let all = wishes.clone();
            let mut place = 0;
            wishes.retain(|wish| {
                place += 1;
                !all[place..].contains(wish)
            });
            // Who cannot be told of a loss may have one where losses happen.
            let may_lose = fate.breaks || fate.slow_database || fate.retention || fate.outages;
            Client::new(wishes, random.chance(70), may_lose, fate.reasons())
        });
        let clients = clients.collect();
        Self {
            engine: Engine::new(config, Arc::new(Tokens)),
            truth: Truth::new(),
            outlets: Queues {
                clients,
                killed: Vec::new(),
                refuses: false,
            },
            fed: 0,
            pending: Vec::new(),
            calls: Vec::new(),
            now: Now {
                instant: Instant::now(),
                unix: 1_000_000,
            },
            key,
            told: Told::default(),
            fate,
            unpublished: None,
            random,
        }
    }

    pub(crate) fn run(mut self) -> Told {
        for _ in 0..300 + self.random.below(500) {
            self.act();
        }
        self.settle();
        self.told
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..20 => {
                let most = self.random.pick(&[1, 3, 12]);
                self.truth.commit(&mut self.random, most, self.fate.holes);
            }
            20..38 => self.feed(),
            38..55 => self.step(),
            55..68 => self.answer(),
            68..80 => self.let_read(),
            80..86 => self.connect(),
            86..88 => self.rejoin(),
            88..91 => self.disconnect(),
            91..95 => {
                let time = Duration::from_millis(100 + self.random.next() % 900);
                self.pass_time(time);
            }
            95 => self.refresh(),
            96 => self.change_catalog(),
            97 if self.fate.breaks => self.break_stream(),
            98 if self.fate.retention => {
                let floor = self.random.below(self.truth.ends.len());
                self.truth.floor = self.truth.floor.max(self.truth.ends[floor]);
            }
            _ => self.feed_again(),
        }
        self.collect();
    }

    fn turn(&mut self) -> (&mut Engine, Turn<'_>) {
        (
            &mut self.engine,
            Turn {
                now: self.now,
                outlets: &mut self.outlets,
            },
        )
    }

    /// Takes the engine's calls, and lets go of clients that were killed.
    fn collect(&mut self) {
        while let Some(call) = self.engine.next_call() {
            self.calls.push(call);
        }
        for key in std::mem::take(&mut self.outlets.killed) {
            self.engine.disconnect(key);
        }
    }

    fn event(&mut self, event: FeedEvent) {
        let (engine, mut turn) = self.turn();
        if engine.wants_feed() {
            engine.feed(event, &mut turn);
        }
    }

    /// Feeds the next bit of the log: pages of the next batch one by one, then where it ends.
    fn feed(&mut self) {
        if !self.engine.wants_feed() {
            return;
        }
        if self.pending.is_empty() {
            let Some(end) = self.truth.ends.get(self.fed).copied() else {
                return;
            };
            if self.fed > 0 {
                let pages = self
                    .truth
                    .pages(self.truth.ends[self.fed - 1], end, &mut self.random);
                self.pending.extend(pages.into_iter().map(FeedEvent::Page));
            }
            if self.pending.is_empty() || self.random.chance(30) {
                self.pending.push(FeedEvent::Head(end));
            }
            self.fed += 1;
        }
        let event = self.pending.remove(0);
        self.event(event);
    }

    /// A source that reconnects says again what it said before.
    fn feed_again(&mut self) {
        if self.fed < 3 || !self.pending.is_empty() {
            return;
        }
        let (from, to) = (self.truth.ends[self.fed - 3], self.truth.ends[self.fed - 1]);
        if from.epoch == to.epoch {
            for page in self.truth.pages(from, to, &mut self.random) {
                self.event(FeedEvent::Page(page));
            }
        }
    }

    /// A table may leave the publication, or come back.
    fn change_catalog(&mut self) {
        if self.engine.wants_feed() {
            let tables = 1 + self.random.below(TABLES as usize);
            let table = u32::try_from(tables).unwrap();
            self.unpublished =
                (self.fate.unpublishes && self.unpublished.is_none()).then_some(table);
            self.event(FeedEvent::CatalogChanged);
        }
    }

    fn break_stream(&mut self) {
        if self.engine.wants_feed() && self.fed > 0 {
            // What was sent before is read before: afterwards nobody can judge it.
            for place in 0..self.outlets.clients.len() {
                self.read(place, OVERFLOW);
                self.outlets.clients[place].lose_track();
                // Whoever is away now comes back with a cursor of a history that never was.
                if self.random.chance(40) {
                    self.disconnect_client(place);
                }
            }
            let head = self.truth.break_off(&mut self.random);
            for client in &mut self.outlets.clients {
                client.look_back(&self.truth);
            }
            self.pending.clear();
            self.fed = self.truth.ends.len();
            self.event(FeedEvent::Break {
                reason: RefetchReason::Epoch,
                head,
            });
        }
    }

    fn step(&mut self) {
        self.outlets.refuses = self.random.chance(10);
        let (engine, mut turn) = self.turn();
        engine.step(&mut turn);
    }

    fn answer(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let place = self.random.below(self.calls.len());
        let call = self.calls.swap_remove(place);
        if self.fate.slow_database
            && matches!(call, Call::Evaluate { .. } | Call::Look { .. })
            && self.random.chance(10)
        {
            // The answer never comes.
            return;
        }
        let fails = self.fate.outages && self.random.chance(15);
        let answer = match call {
            Call::Resolve { spec, claims } => {
                let outcome = self.resolved(&spec, fails);
                Answer::Resolved {
                    spec,
                    claims,
                    outcome,
                }
            }
            Call::Evaluate {
                key,
                page,
                changes,
                tests,
            } => {
                let verdict = |index: &u32| evaluate(&page.changes[*index as usize], &tests);
                let outcome = if fails {
                    Err(EvaluateError("away".to_owned()))
                } else {
                    Ok(changes.iter().map(verdict).collect())
                };
                Answer::Evaluated { key, outcome }
            }
            // Nobody here joins a private channel, or names a session.
            Call::Channel { .. }
            | Call::Messages { .. }
            | Call::LoadSession { .. }
            | Call::SaveSession { .. }
            | Call::ForgetSession { .. } => return,
            Call::Look {
                key,
                changes,
                viewers,
            } => {
                let outcome = if fails {
                    Err(EvaluateError("away".to_owned()))
                } else {
                    Ok(viewers.iter().map(|it| self.look(&changes, it)).collect())
                };
                Answer::Looked { key, outcome }
            }
            Call::Read { key, after, .. } => {
                let outcome = if fails {
                    Err(ReplayError::Unavailable("away".to_owned()))
                } else {
                    self.truth.read(after, &mut self.random)
                };
                Answer::Read { key, outcome }
            }
        };
        let (engine, mut turn) = self.turn();
        engine.answer(answer, &mut turn);
    }

    fn resolved(&self, spec: &BindingSpec, fails: bool) -> Result<ResolvedBinding, BindingError> {
        let resolved = resolve(spec);
        let error = |message: &str, retryable| BindingError {
            message: message.to_owned(),
            retryable,
        };
        if fails {
            Err(error("database away", true))
        } else if resolved.relation.is_some() && resolved.relation == self.unpublished {
            Err(error("not published", false))
        } else {
            Ok(resolved)
        }
    }

    /// The policies of one viewer may fail while everything else works.
    fn look(&mut self, changes: &[Glance], viewer: &Viewer) -> Result<Sight, EvaluateError> {
        if self.fate.outages && self.random.chance(10) {
            return Err(EvaluateError("raised".to_owned()));
        }
        Ok(look(changes, viewer))
    }

    fn let_read(&mut self) {
        let place = self.random.below(self.outlets.clients.len());
        let most = 1 + self.random.below(8);
        self.read(place, most);
    }

    fn read(&mut self, place: usize, most: usize) {
        let client = &mut self.outlets.clients[place];
        for _ in 0..most {
            client.read(&self.truth, &self.key, &mut self.told);
        }
        if let Some(key) = client.key.filter(|_| client.queue.is_empty()) {
            let (engine, mut turn) = self.turn();
            engine.drained(key, &mut turn);
        }
    }

    fn connect(&mut self) {
        let place = self.random.below(self.outlets.clients.len());
        self.connect_client(place);
    }

    fn connect_client(&mut self, place: usize) {
        if self.outlets.clients[place].key.is_none() {
            let key = self.engine.connect(Vsn::V2, "connect", claims("anon"));
            self.outlets.clients[place].key = Some(key);
            self.join(place);
        }
    }

    fn join(&mut self, place: usize) {
        let forged = self.fate.forgery && self.random.chance(20);
        let text = self.outlets.clients[place].join(&self.key, forged);
        self.send(place, &text);
    }

    fn send(&mut self, place: usize, text: &str) {
        let Some(key) = self.outlets.clients[place].key else {
            return;
        };
        let frame = decode_text(Vsn::V2, text).unwrap();
        let (engine, mut turn) = self.turn();
        engine.receive(key, frame, &mut turn);
    }

    fn rejoin(&mut self) {
        let place = self.random.below(self.outlets.clients.len());
        if self.outlets.clients[place].key.is_some() {
            self.join(place);
        }
    }

    fn refresh(&mut self) {
        let place = self.random.below(self.outlets.clients.len());
        let token = format!("token{}", self.random.below(3));
        let text = self.outlets.clients[place].refresh(&token);
        self.send(place, &text);
    }

    fn disconnect(&mut self) {
        let place = self.random.below(self.outlets.clients.len());
        self.disconnect_client(place);
    }

    fn disconnect_client(&mut self, place: usize) {
        let client = &mut self.outlets.clients[place];
        client.queue.clear();
        if let Some(key) = client.key.take() {
            self.engine.disconnect(key);
        }
    }

    fn pass_time(&mut self, time: Duration) {
        self.now.instant += time;
        let (engine, mut turn) = self.turn();
        engine.tick(&mut turn);
    }

    /// Everything works again and everybody is there: what is owed has to come.
    fn settle(&mut self) {
        self.fate = Fate {
            holes: false,
            breaks: false,
            retention: false,
            outages: false,
            slow_database: false,
            forgery: false,
            unpublishes: false,
        };
        while !self.engine.wants_feed() {
            self.step();
        }
        self.change_catalog();
        self.calm();
        let from = self.truth.end();
        for _ in 0..8 {
            self.truth.commit(&mut self.random, 3, false);
            self.calm();
        }
        for client in &self.outlets.clients {
            client.check_complete(&self.truth, from);
        }
    }

    /// Lets everything that is under way come to its end.
    fn calm(&mut self) {
        for _ in 0..250 {
            self.feed();
            self.step();
            self.answer();
            self.pass_time(Duration::from_millis(80));
            for place in 0..self.outlets.clients.len() {
                self.connect_client(place);
                self.read(place, OVERFLOW);
            }
            self.collect();
        }
    }
}
