//! What subscribers may see of changes that only the database can decide about.
//!
//! Subscribers with one role and byte-identical claims are one viewer. Everything that collects while
//! the database answers is one round, and the next question: the more there is to do, the larger the
//! rounds. A viewer that fails (its policies raise, or take too long) goes on by itself until it
//! succeeds, so that the others do not wait for it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Engine, Turn, call::Call, subscription::SubscriptionKey, timer::Timer};
use crate::{
    arena::{Arena, Key},
    change::{Change, Page},
    ports::{Claims, EvaluateError},
    view::{Glance, Sight, View, Viewer},
};

/// Where a round ends: changes, and bytes of their images. One more page of bytes may exceed it.
const ROUND_CHANGES_MAX: usize = 1024;
const ROUND_BYTES_MAX: usize = 4 << 20;

/// Suspects that are remembered while they have nothing to ask.
const SUSPECTS_MAX: usize = 1024;

const RETRY_AFTER: Duration = Duration::from_millis(50);
const RETRY_DOUBLINGS_MAX: u32 = 6;

/// Names a [`Round`].
pub type RoundKey = Key<Round>;

pub(super) type SpectatorKey = Key<Spectator>;

type LaneKey = Key<Lane>;

/// One question to the database.
#[derive(Debug)]
pub struct Round {
    lane: LaneKey,
    changes: Vec<Glance>,
    bytes: usize,
    spectators: Vec<SpectatorKey>,
    by_claims: HashMap<usize, SpectatorKey, RandomState>,
    asked: Option<Asked>,
}

/// A round that was asked.
#[derive(Debug)]
struct Asked {
    changes: Arc<[Glance]>,
    /// Of what was known of rights then.
    generation: u64,
    /// Who is in the question that is under way.
    viewers: Vec<SpectatorKey>,
    retries: u32,
}

/// One viewer of one round, and what it waits for.
#[derive(Debug)]
pub(super) struct Spectator {
    claims: Arc<Claims>,
    places: Vec<u32>,
    state: State,
    waiting: Vec<SubscriptionKey>,
    /// Held changes that refer to it.
    users: usize,
}

#[derive(Debug)]
enum State {
    Waiting,
    Decided(Sight),
    Failed,
}

/// Rounds that are asked one after the other.
#[derive(Debug)]
struct Lane {
    rounds: VecDeque<RoundKey>,
    running: bool,
    /// Who has it for itself; kept, so that its address stays its own.
    suspect: Option<Arc<Claims>>,
}

/// All rounds of an engine.
#[derive(Debug)]
pub(super) struct Looks {
    rounds: Arena<Round>,
    spectators: Arena<Spectator>,
    lanes: Arena<Lane>,
    /// Of everybody who is not suspect.
    common: LaneKey,
    /// By the address of claims.
    suspects: HashMap<usize, LaneKey, RandomState>,
    /// Lanes that may have something to ask, in the order they got it.
    ready: Vec<LaneKey>,
}

/// What is known of a change for one spectator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outlook {
    Wait,
    Hidden,
    Seen(View),
    Failed,
}

impl Lane {
    fn new(suspect: Option<Arc<Claims>>) -> Self {
        Self {
            rounds: VecDeque::new(),
            running: false,
            suspect,
        }
    }
}

impl Round {
    fn new(lane: LaneKey) -> Self {
        Self {
            lane,
            changes: Vec::new(),
            bytes: 0,
            spectators: Vec::new(),
            by_claims: HashMap::default(),
            asked: None,
        }
    }

    fn is_open(&self) -> bool {
        self.asked.is_none()
            && self.changes.len() < ROUND_CHANGES_MAX
            && self.bytes < ROUND_BYTES_MAX
    }

    /// The place of a change, which is put there unless it is the last.
    fn place(&mut self, page: &Arc<Page>, index: u32) -> u32 {
        let is_last = self
            .changes
            .last()
            .is_some_and(|(last, at)| Arc::ptr_eq(last, page) && *at == index);
        if !is_last {
            self.bytes += page.changes[index as usize].bytes();
            self.changes.push((Arc::clone(page), index));
        }
        u32::try_from(self.changes.len() - 1).expect("a round is bounded")
    }
}

impl Spectator {
    fn new(claims: &Arc<Claims>) -> Self {
        Self {
            claims: Arc::clone(claims),
            places: Vec::new(),
            state: State::Waiting,
            waiting: Vec::new(),
            users: 0,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }
}

impl Looks {
    pub(super) fn new() -> Self {
        let mut lanes = Arena::new();
        let common = lanes.insert(Lane::new(None));
        Self {
            rounds: Arena::new(),
            spectators: Arena::new(),
            lanes,
            common,
            suspects: HashMap::default(),
            ready: Vec::new(),
        }
    }

    /// Asks what `claims` may see of change `index` of `page`, on behalf of `subscription`; with the
    /// next question.
    pub(super) fn collect(
        &mut self,
        page: &Arc<Page>,
        index: u32,
        claims: &Arc<Claims>,
        subscription: SubscriptionKey,
    ) -> (SpectatorKey, u32) {
        let name = Arc::as_ptr(claims).addr();
        let lane = self.suspects.get(&name).copied().unwrap_or(self.common);
        let key = self.open_round(lane);
        let round = self.rounds.get_mut(key).expect("an open round is kept");
        let place = round.place(page, index);
        let key = *round.by_claims.entry(name).or_insert_with(|| {
            let key = self.spectators.insert(Spectator::new(claims));
            round.spectators.push(key);
            key
        });
        let spectator = self
            .spectators
            .get_mut(key)
            .expect("spectators of an open round are kept");
        if spectator.places.last() != Some(&place) {
            spectator.places.push(place);
        }
        if spectator.waiting.last() != Some(&subscription) {
            spectator.waiting.push(subscription);
        }
        spectator.users += 1;
        (key, place)
    }

    fn open_round(&mut self, key: LaneKey) -> RoundKey {
        let lane = self
            .lanes
            .get_mut(key)
            .expect("lanes are kept while they are named");
        let last = lane.rounds.back().copied();
        let is_open = |round: &RoundKey| self.rounds.get(*round).is_some_and(Round::is_open);
        if let Some(round) = last.filter(is_open) {
            return round;
        }
        let round = self.rounds.insert(Round::new(key));
        lane.rounds.push_back(round);
        self.ready.push(key);
        round
    }

    pub(super) fn outlook(&self, key: SpectatorKey, place: u32, change: &Change) -> Outlook {
        let Some(spectator) = self.spectators.get(key) else {
            return Outlook::Failed;
        };
        let sight = match &spectator.state {
            State::Waiting => return Outlook::Wait,
            State::Failed => return Outlook::Failed,
            State::Decided(sight) => sight,
        };
        let oid = change.relation.oid;
        let Some((_, rights)) = sight.rights.iter().find(|(table, _)| *table == oid) else {
            return Outlook::Hidden;
        };
        let mut view = View::logged(Arc::clone(rights));
        if rights.needs_row(change) {
            match sight.rows.binary_search_by_key(&place, |(place, _)| *place) {
                Ok(found) => view.current.clone_from(&sight.rows[found].1),
                Err(_) => return Outlook::Hidden,
            }
        }
        Outlook::Seen(view)
    }

    /// A held change that referred to a spectator left its queue.
    pub(super) fn let_go(&mut self, key: SpectatorKey) {
        let Some(spectator) = self.spectators.get_mut(key) else {
            return;
        };
        spectator.users -= 1;
        // One that waits is removed when it would be asked.
        if spectator.users == 0 && !spectator.is_waiting() {
            self.spectators.remove(key);
        }
    }

    /// Spectators of a round that still wait for an answer and are waited for.
    fn unanswered(&mut self, key: RoundKey) -> Vec<SpectatorKey> {
        let Some(round) = self.rounds.get(key) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for key in &round.spectators {
            match self.spectators.get(*key) {
                Some(spectator) if spectator.is_waiting() && spectator.users == 0 => {
                    self.spectators.remove(*key);
                }
                Some(spectator) if spectator.is_waiting() => left.push(*key),
                Some(_) | None => {}
            }
        }
        left
    }

    /// The round in front of a lane has all its answers.
    fn finish(&mut self, key: RoundKey) {
        let Some(round) = self.rounds.remove(key) else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(round.lane) else {
            return;
        };
        lane.running = false;
        lane.rounds.retain(|other| *other != key);
        self.ready.push(round.lane);
    }

    /// A spectator failed among others: it tries again by itself, with all that comes after.
    fn set_apart(&mut self, key: SpectatorKey, changes: &Arc<[Glance]>) -> Option<RoundKey> {
        let claims = Arc::clone(&self.spectators.get(key)?.claims);
        if self.suspects.len() >= SUSPECTS_MAX {
            let lanes: Vec<LaneKey> = self.suspects.values().copied().collect();
            lanes.into_iter().for_each(|lane| self.rehabilitate(lane));
        }
        let lane = *self
            .suspects
            .entry(Arc::as_ptr(&claims).addr())
            .or_insert_with(|| self.lanes.insert(Lane::new(Some(claims))));
        let mut round = Round::new(lane);
        round.spectators.push(key);
        round.asked = Some(Asked {
            changes: Arc::clone(changes),
            generation: 0,
            viewers: Vec::new(),
            retries: 0,
        });
        let round = self.rounds.insert(round);
        self.lanes.get_mut(lane)?.rounds.push_back(round);
        self.ready.push(lane);
        Some(round)
    }

    /// A suspect that succeeded and has nothing more to ask is one of the others again.
    fn rehabilitate(&mut self, key: LaneKey) {
        let idle = |lane: &&Lane| lane.rounds.is_empty() && !lane.running;
        let suspect = self.lanes.get(key).filter(idle);
        if let Some(claims) = suspect.and_then(|lane| lane.suspect.as_ref()) {
            self.suspects.remove(&Arc::as_ptr(claims).addr());
            self.lanes.remove(key);
        }
    }
}

impl Engine {
    /// Asks what was collected, where nothing is under way.
    pub(super) fn ask_looks(&mut self, turn: &Turn<'_>) {
        for lane in std::mem::take(&mut self.looks.ready) {
            while let Some(front) = self.looks.lanes.get(lane).and_then(|lane| {
                let front = lane.rounds.front().copied();
                front.filter(|_| !lane.running)
            }) {
                if self.looks.unanswered(front).is_empty() {
                    self.looks.finish(front);
                    continue;
                }
                if let Some(lane) = self.looks.lanes.get_mut(lane) {
                    lane.running = true;
                }
                let deadline = turn.now.instant + self.config.evaluate_deadline;
                self.timers.schedule(deadline, Timer::LookOver(front));
                self.look(front);
            }
        }
    }

    /// Asks the database about a round.
    pub(super) fn look(&mut self, key: RoundKey) {
        let spectators = self.looks.unanswered(key);
        if spectators.is_empty() {
            self.looks.finish(key);
            return;
        }
        let Some(round) = self.looks.rounds.get_mut(key) else {
            return;
        };
        let asked = round.asked.get_or_insert_with(|| Asked {
            changes: std::mem::take(&mut round.changes).into(),
            generation: 0,
            viewers: Vec::new(),
            retries: 0,
        });
        asked.generation = self.rights.generation();
        asked.viewers = spectators;
        let known = asked
            .viewers
            .iter()
            .filter_map(|key| self.looks.spectators.get(*key));
        let viewers = known.map(|spectator| Viewer {
            claims: Arc::clone(&spectator.claims),
            places: spectator.places.clone(),
        });
        self.calls.push_back(Call::Look {
            key,
            changes: Arc::clone(&asked.changes),
            viewers: viewers.collect(),
        });
    }

    pub(super) fn looked(
        &mut self,
        key: RoundKey,
        outcome: Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(round) = self.looks.rounds.get_mut(key) else {
            return;
        };
        let lane = round.lane;
        let Some(asked) = round.asked.as_mut() else {
            return;
        };
        let delay = RETRY_AFTER * (1 << asked.retries.min(RETRY_DOUBLINGS_MAX));
        asked.retries += 1;
        let changes = Arc::clone(&asked.changes);
        let generation = asked.generation;
        let viewers = std::mem::take(&mut asked.viewers);
        let results = match outcome {
            Ok(results) if results.len() == viewers.len() => results,
            Ok(_) | Err(_) => {
                self.timers
                    .schedule(turn.now.instant + delay, Timer::LookAgain(key));
                return;
            }
        };
        let is_suspect = lane != self.looks.common;
        let mut failed = Vec::new();
        for (spectator, result) in viewers.into_iter().zip(results) {
            match result {
                Ok(sight) => self.decide(spectator, sight, generation, turn),
                Err(_) => failed.push(spectator),
            }
        }
        match (failed.is_empty(), is_suspect) {
            (true, _) => {
                self.looks.finish(key);
                self.looks.rehabilitate(lane);
            }
            (false, true) => self
                .timers
                .schedule(turn.now.instant + delay, Timer::LookAgain(key)),
            (false, false) => {
                for spectator in failed {
                    self.looks.set_apart(spectator, &changes);
                }
                self.looks.finish(key);
            }
        }
    }

    fn decide(
        &mut self,
        key: SpectatorKey,
        mut sight: Sight,
        generation: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(spectator) = self.looks.spectators.get_mut(key) else {
            return;
        };
        for (oid, rights) in &mut sight.rights {
            *rights = self.rights.share(rights);
            self.rights
                .hear(*oid, &spectator.claims.role, rights, generation);
        }
        spectator.state = State::Decided(sight);
        self.release_spectator(key, turn);
    }

    /// The deadline of a round has passed. What waits behind it waits for the same suspect, and has
    /// waited too.
    pub(super) fn look_over(&mut self, key: RoundKey, turn: &mut Turn<'_>) {
        let Some(round) = self.looks.rounds.get(key) else {
            return;
        };
        let mut over = vec![key];
        if round.lane != self.looks.common
            && let Some(lane) = self.looks.lanes.get(round.lane)
        {
            over = lane.rounds.iter().copied().collect();
        }
        for key in over {
            for spectator in self.looks.unanswered(key) {
                if let Some(spectator) = self.looks.spectators.get_mut(spectator) {
                    spectator.state = State::Failed;
                }
                self.release_spectator(spectator, turn);
            }
            self.looks.finish(key);
        }
    }

    fn release_spectator(&mut self, key: SpectatorKey, turn: &mut Turn<'_>) {
        let Some(spectator) = self.looks.spectators.get_mut(key) else {
            return;
        };
        for subscription in std::mem::take(&mut spectator.waiting) {
            self.release(subscription, turn);
        }
    }
}
