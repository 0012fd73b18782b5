//! Filters that only the database can decide, and the changes that wait for it, or for a look at
//! what may be seen of them.
//!
//! A channel with an undecided change keeps everything that follows in a queue of references, so
//! that its changes leave in position order; channels without one are not concerned. The wait is
//! bounded by a deadline, the queues by [`HELD_MAX`]: beyond it no further page is taken.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::{Position, RefetchReason};
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    call::Call,
    failures::Failures,
    look::{Outlook, SpectatorKey},
    subscription::{BindingKey, Stage, SubscriptionKey},
    timer::Timer,
};
use crate::{
    arena::{Arena, Key},
    change::{Operation, Page},
    filter::FilterTest,
    ports::EvaluateError,
    registry::BindingIndex,
    view::{Rights, View},
};

/// Changes held back on one shard, over all channels.
pub(super) const HELD_MAX: usize = 1 << 18;

const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Names an [`Evaluation`].
pub type EvaluationKey = Key<Evaluation>;

/// A change held back for one binding.
#[derive(Debug)]
pub(super) struct Held {
    page: Arc<Page>,
    index: u32,
    binding: BindingKey,
    /// The filters it waits for; `None` when they hold.
    evaluation: Option<EvaluationKey>,
    sight: Sight,
}

/// What the channel may see of a held change.
#[derive(Debug)]
enum Sight {
    /// What its rights say.
    Known(Arc<Rights>),
    /// Whatever comes of a look, at this place of it.
    Asked(SpectatorKey, u32),
    /// It is a hole.
    Nothing,
}

/// A binding that a change concerns.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) binding: BindingKey,
    /// The filters that are still to be decided.
    pub(super) tests: Option<Arc<[FilterTest]>>,
    /// The rights that decide; `None` where only a look can tell.
    pub(super) rights: Option<Arc<Rights>>,
}

/// One question to the database: which of these changes pass these filters?
#[derive(Debug)]
pub struct Evaluation {
    page: Arc<Page>,
    tests: Arc<[FilterTest]>,
    /// Places in the page, ascending once asked.
    changes: Vec<u32>,
    state: State,
    waiting: Vec<SubscriptionKey>,
    /// Held changes that refer to it.
    users: usize,
    retries: u32,
}

#[derive(Debug)]
enum State {
    /// More changes may be added.
    Collecting,
    Asked,
    /// One for each of the changes.
    Decided(Vec<bool>),
    Failed,
}

/// What a held change may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Wait,
    /// As this view shows it; a hole has none.
    Deliver(Option<View>),
    Drop,
    Fail,
}

/// All evaluations of an engine.
#[derive(Debug)]
pub(super) struct Evaluations {
    all: Arena<Evaluation>,
    /// Those that take more changes, by the addresses of page and filters.
    collecting: HashMap<(usize, usize), EvaluationKey, RandomState>,
    /// The same, in the order they were begun: every run of the same events is the same run.
    begun: Vec<EvaluationKey>,
    pub(super) held: usize,
}

impl Evaluations {
    pub(super) fn new() -> Self {
        Self {
            all: Arena::new(),
            collecting: HashMap::default(),
            begun: Vec::new(),
            held: 0,
        }
    }

    /// Adds change `index` of `page` to the question about `tests`, on behalf of `subscription`.
    fn collect(
        &mut self,
        page: &Arc<Page>,
        index: u32,
        tests: &Arc<[FilterTest]>,
        subscription: SubscriptionKey,
    ) -> EvaluationKey {
        let name = (Arc::as_ptr(page).addr(), Arc::as_ptr(tests).addr());
        let key = *self.collecting.entry(name).or_insert_with(|| {
            let key = self.all.insert(Evaluation::new(page, tests));
            self.begun.push(key);
            key
        });
        let evaluation = self
            .all
            .get_mut(key)
            .expect("an evaluation that collects is kept");
        if evaluation.changes.last() != Some(&index) {
            evaluation.changes.push(index);
        }
        if evaluation.waiting.last() != Some(&subscription) {
            evaluation.waiting.push(subscription);
        }
        evaluation.users += 1;
        key
    }

    /// What the filters of a held change say; `Deliver` when they hold.
    fn decide(&self, held: &Held) -> Decision {
        let Some(key) = held.evaluation else {
            return Decision::Deliver(None);
        };
        let Some(evaluation) = self.all.get(key) else {
            return Decision::Fail;
        };
        match &evaluation.state {
            State::Collecting | State::Asked => Decision::Wait,
            State::Failed => Decision::Fail,
            State::Decided(verdicts) => {
                let place = evaluation.changes.binary_search(&held.index).ok();
                match place.and_then(|place| verdicts.get(place)) {
                    Some(true) => Decision::Deliver(None),
                    Some(false) => Decision::Drop,
                    None => Decision::Fail,
                }
            }
        }
    }

    /// `held` left its queue.
    fn let_go(&mut self, held: &Held) {
        self.held -= 1;
        let Some(key) = held.evaluation else { return };
        let Some(evaluation) = self.all.get_mut(key) else {
            return;
        };
        evaluation.users -= 1;
        // One that collects is removed when it would be asked.
        if evaluation.users == 0 && !matches!(evaluation.state, State::Collecting) {
            self.all.remove(key);
        }
    }
}

impl Evaluation {
    fn new(page: &Arc<Page>, tests: &Arc<[FilterTest]>) -> Self {
        Self {
            page: Arc::clone(page),
            tests: Arc::clone(tests),
            changes: Vec::new(),
            state: State::Collecting,
            waiting: Vec::new(),
            users: 0,
            retries: 0,
        }
    }
}

impl Held {
    /// Everything before it: what the channel has settled while this is the first it holds.
    pub(super) fn before(&self) -> Position {
        let position = self.page.position(&self.page.changes[self.index as usize]);
        Position {
            seq: position.seq.saturating_sub(1),
            ..position
        }
    }
}

impl Engine {
    /// Queues a change of one subscription behind what it already holds.
    pub(super) fn hold(
        &mut self,
        key: SubscriptionKey,
        page: &Arc<Page>,
        index: u32,
        found: &[Found],
    ) {
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        let is_hole = page.changes[index as usize].operation == Operation::Hole;
        let queue = subscription.held.get_or_insert_default();
        for found in found {
            let evaluation = found
                .tests
                .as_ref()
                .map(|tests| self.evaluations.collect(page, index, tests, key));
            let sight = match &found.rights {
                _ if is_hole => Sight::Nothing,
                Some(rights) => Sight::Known(Arc::clone(rights)),
                None => {
                    let claims = &subscription.claims;
                    let (spectator, place) = self.looks.collect(page, index, claims, key);
                    Sight::Asked(spectator, place)
                }
            };
            self.evaluations.held += 1;
            queue.push_back(Held {
                page: Arc::clone(page),
                index,
                binding: found.binding,
                evaluation,
                sight,
            });
        }
    }

    /// What a held change may do: its filters hold, and it may be seen.
    fn decide_held(&self, held: &Held) -> Decision {
        let filters = self.evaluations.decide(held);
        let change = &held.page.changes[held.index as usize];
        let sight = match &held.sight {
            Sight::Nothing => return filters,
            Sight::Known(rights) => Decision::Deliver(Some(View::logged(Arc::clone(rights)))),
            Sight::Asked(spectator, place) => {
                match self.looks.outlook(*spectator, *place, change) {
                    Outlook::Wait => Decision::Wait,
                    Outlook::Hidden => Decision::Drop,
                    Outlook::Failed => Decision::Fail,
                    Outlook::Seen(view) => Decision::Deliver(Some(view)),
                }
            }
        };
        match (filters, sight) {
            (Decision::Drop, _) | (_, Decision::Drop) => Decision::Drop,
            (Decision::Wait, _) | (_, Decision::Wait) => Decision::Wait,
            (Decision::Fail, _) | (_, Decision::Fail) => Decision::Fail,
            (Decision::Deliver(_), sight @ Decision::Deliver(_)) => sight,
        }
    }

    /// `held` left its queue.
    fn let_go(&mut self, held: &Held) {
        self.evaluations.let_go(held);
        if let Sight::Asked(spectator, _) = held.sight {
            self.looks.let_go(spectator);
        }
    }

    /// Asks the database what was collected since the last call.
    pub(super) fn ask_evaluations(&mut self, turn: &Turn<'_>) {
        self.evaluations.collecting.clear();
        for key in std::mem::take(&mut self.evaluations.begun) {
            let Some(evaluation) = self.evaluations.all.get_mut(key) else {
                continue;
            };
            if evaluation.users == 0 {
                self.evaluations.all.remove(key);
                continue;
            }
            evaluation.changes.sort_unstable();
            evaluation.changes.dedup();
            let deadline = turn.now.instant + self.config.evaluate_deadline;
            self.timers.schedule(deadline, Timer::EvaluationOver(key));
            self.ask_evaluation(key);
        }
    }

    pub(super) fn ask_evaluation(&mut self, key: EvaluationKey) {
        let Some(evaluation) = self.evaluations.all.get_mut(key) else {
            return;
        };
        if matches!(evaluation.state, State::Decided(_) | State::Failed) {
            return;
        }
        evaluation.state = State::Asked;
        self.calls.push_back(Call::Evaluate {
            key,
            page: Arc::clone(&evaluation.page),
            changes: evaluation.changes.clone(),
            tests: Arc::clone(&evaluation.tests),
        });
    }

    pub(super) fn evaluated(
        &mut self,
        key: EvaluationKey,
        outcome: Result<Vec<bool>, EvaluateError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(evaluation) = self.evaluations.all.get_mut(key) else {
            return;
        };
        if !matches!(evaluation.state, State::Asked) {
            return;
        }
        match outcome {
            Ok(verdicts) if verdicts.len() == evaluation.changes.len() => {
                evaluation.state = State::Decided(verdicts);
                self.release_waiting(key, turn);
            }
            Ok(_) | Err(_) => {
                let delay = RETRY_AFTER * (1 << evaluation.retries.min(6));
                evaluation.retries += 1;
                self.timers
                    .schedule(turn.now.instant + delay, Timer::EvaluateAgain(key));
            }
        }
    }

    /// The deadline of an evaluation has passed.
    pub(super) fn evaluation_over(&mut self, key: EvaluationKey, turn: &mut Turn<'_>) {
        let Some(evaluation) = self.evaluations.all.get_mut(key) else {
            return;
        };
        if !matches!(evaluation.state, State::Decided(_)) {
            evaluation.state = State::Failed;
            self.release_waiting(key, turn);
        }
    }

    fn release_waiting(&mut self, key: EvaluationKey, turn: &mut Turn<'_>) {
        let Some(evaluation) = self.evaluations.all.get_mut(key) else {
            return;
        };
        for subscription in std::mem::take(&mut evaluation.waiting) {
            self.release(subscription, turn);
        }
    }

    /// Sends what a subscription holds, up to the first change that is still undecided.
    pub(super) fn release(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        // Failures are told when something else is to be delivered, so that many in a row are told once.
        let mut failures: Option<Failures> = None;
        while let Some(run) = self.take_decided(key) {
            let (page, index) = (Arc::clone(&run[0].0.page), run[0].0.index);
            let position = page.position(&page.changes[index as usize]);
            let mut deliver: SmallVec<[BindingKey; 2]> = SmallVec::new();
            let mut failed: SmallVec<[BindingKey; 2]> = SmallVec::new();
            let mut seen = None;
            for (held, decision) in run {
                match decision {
                    Decision::Deliver(view) => {
                        deliver.push(held.binding);
                        // The same for all of them: they have the same claims.
                        seen = view;
                    }
                    Decision::Fail => failed.push(held.binding),
                    Decision::Drop | Decision::Wait => {}
                }
            }
            if !deliver.is_empty() {
                self.tell_failures(key, failures.take(), turn);
            }
            if !failed.is_empty() {
                let all = failures.get_or_insert_with(|| Failures::new(position));
                all.add(position, failed);
            }
            if deliver.is_empty() {
                continue;
            }
            self.tell_failures(key, failures.take(), turn);
            match seen {
                None => self.tell_refetch(key, &deliver, RefetchReason::Hole, position, turn),
                Some(view) => {
                    let places: SmallVec<[BindingIndex; 2]> =
                        deliver.into_iter().map(BindingKey::place).collect();
                    self.deliver(key, (&page, index), &view, &places, turn);
                    self.pace(key, position, true, turn);
                }
            }
        }
        self.tell_failures(key, failures, turn);
    }

    /// Takes all entries of the first held change out of the queue, if all of them are decided.
    fn take_decided(&mut self, key: SubscriptionKey) -> Option<SmallVec<[(Held, Decision); 2]>> {
        let subscription = self.subscriptions.get(key)?;
        let queue = subscription.held.as_ref()?;
        let first = queue.front()?;
        let same = |held: &Held| Arc::ptr_eq(&held.page, &first.page) && held.index == first.index;
        let decisions: SmallVec<[Decision; 2]> = queue
            .iter()
            .take_while(|held| same(held))
            .map(|held| self.decide_held(held))
            .collect();
        if decisions.contains(&Decision::Wait) {
            return None;
        }
        let subscription = self.subscriptions.get_mut(key)?;
        let queue = subscription.held.as_mut()?;
        let run: SmallVec<[(Held, Decision); 2]> =
            queue.drain(..decisions.len()).zip(decisions).collect();
        if queue.is_empty() {
            subscription.held = None;
        }
        for (held, _) in &run {
            self.let_go(held);
        }
        Some(run)
    }

    /// Forgets what a subscription holds.
    pub(super) fn drop_held(&mut self, key: SubscriptionKey) {
        let queue = self
            .subscriptions
            .get_mut(key)
            .and_then(|subscription| subscription.held.take());
        for held in queue
            .into_iter()
            .flat_map(|queue: Box<VecDeque<Held>>| *queue)
        {
            self.let_go(&held);
        }
    }

    /// Takes a subscription out of its replay when its client has enough for now; out of the live
    /// stream too, while it catches up with what it held.
    pub(super) fn pace(
        &mut self,
        key: SubscriptionKey,
        settled: Position,
        catches_up: bool,
        turn: &mut Turn<'_>,
    ) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let is_paced = matches!(subscription.stage, Stage::Replaying(_))
            || (catches_up && subscription.held.is_some());
        if is_paced && turn.outlets.is_full(subscription.client) {
            self.pause(key, settled);
        }
    }
}
