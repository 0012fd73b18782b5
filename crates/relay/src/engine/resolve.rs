//! From what a client asked for to bindings that are live.
//!
//! Equal questions that are under way are asked once: a thousand clients of one room, reconnecting,
//! are one question.

use std::{sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::{BindingSpec, Position, RefetchReason, SystemMessage};

use super::{
    Engine, Turn,
    call::Call,
    subscription::{Binding, BindingKey, BindingState, Stage, Start, SubscriptionKey},
    timer::Timer,
};
use crate::{
    filter::ResolvedBinding,
    ports::{BindingError, Claims},
};

const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_DOUBLINGS_MAX: u8 = 3;

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Resolutions {
    /// By the addresses of spec and claims, which the entry keeps alive.
    asked: HashMap<(usize, usize), Asked, RandomState>,
}

#[derive(Debug)]
struct Asked {
    spec: Arc<BindingSpec>,
    claims: Arc<Claims>,
    /// Who waits for the answer, with the number of their question.
    waiting: Vec<(BindingKey, u32)>,
    /// The catalog has changed since: a refusal may be out of date.
    stale: bool,
    /// Of what was known of rights then.
    generation: u64,
}

fn name(spec: &Arc<BindingSpec>, claims: &Arc<Claims>) -> (usize, usize) {
    (Arc::as_ptr(spec).addr(), Arc::as_ptr(claims).addr())
}

impl Engine {
    /// Asks again for a binding that could not be resolved.
    pub(super) fn ask_binding_again(&mut self, key: BindingKey) {
        let state = self.bindings.get(key).map(|binding| binding.state);
        if state != Some(BindingState::Refused { retryable: false }) {
            self.ask_binding(key);
        }
    }

    /// Asks whether a binding may be live.
    pub(super) fn ask_binding(&mut self, key: BindingKey) {
        let Some(binding) = self.bindings.get_mut(key) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get(binding.subscription) else {
            return;
        };
        binding.asked += 1;
        let (spec, claims) = (&binding.spec, &subscription.claims);
        let asked = self
            .resolutions
            .asked
            .entry(name(spec, claims))
            .or_insert_with(|| {
                self.calls.push_back(Call::Resolve {
                    spec: Arc::clone(spec),
                    claims: Arc::clone(claims),
                });
                Asked {
                    spec: Arc::clone(spec),
                    claims: Arc::clone(claims),
                    waiting: Vec::new(),
                    stale: false,
                    generation: self.rights.generation(),
                }
            });
        asked.waiting.push((key, binding.asked));
    }

    pub(super) fn resolved(
        &mut self,
        spec: &Arc<BindingSpec>,
        claims: &Arc<Claims>,
        outcome: &Result<ResolvedBinding, BindingError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut asked) = self.resolutions.asked.remove(&name(spec, claims)) else {
            return;
        };
        if outcome.is_err() && std::mem::take(&mut asked.stale) {
            self.calls.push_back(Call::Resolve {
                spec: Arc::clone(&asked.spec),
                claims: Arc::clone(&asked.claims),
            });
            asked.generation = self.rights.generation();
            self.resolutions.asked.insert(name(spec, claims), asked);
            return;
        }
        if let Ok(ResolvedBinding {
            relation: Some(oid),
            rights: Some(rights),
            ..
        }) = outcome
        {
            self.rights
                .hear(*oid, &claims.role, rights, asked.generation);
        }
        for (key, question) in asked.waiting {
            let Some(binding) = self.bindings.get(key) else {
                continue;
            };
            if binding.asked != question {
                continue;
            }
            match outcome {
                Ok(resolved) => self.accept(key, resolved, turn),
                Err(error) => self.refuse(key, error, turn),
            }
        }
    }

    fn accept(&mut self, key: BindingKey, resolved: &ResolvedBinding, turn: &mut Turn<'_>) {
        let tests = self.shared.tests.share(Arc::clone(&resolved.tests));
        let Some(binding) = self.bindings.get(key) else {
            return;
        };
        let (owner, before) = (binding.subscription, binding.state);
        if before == BindingState::Live {
            self.unregister(key);
        }
        let Some(binding) = self.bindings.get_mut(key) else {
            return;
        };
        binding.resolve(resolved, tests);
        match before {
            BindingState::Asking => self.answered(owner, turn),
            BindingState::Live => self.register(key),
            BindingState::Refused { .. } => self.revive(owner, turn),
        }
    }

    fn refuse(&mut self, key: BindingKey, error: &BindingError, turn: &mut Turn<'_>) {
        let Some(binding) = self.bindings.get(key) else {
            return;
        };
        let (owner, before, id) = (binding.subscription, binding.state, binding.id);
        let Some(subscription) = self.subscriptions.get(owner) else {
            return;
        };
        let now = BindingState::Refused {
            retryable: error.retryable,
        };
        // What has a position keeps it until the question is answered; what is live stays so.
        let has_to_wait = error.retryable
            && match before {
                BindingState::Asking => {
                    subscription.wants_cursors || subscription.settled.is_some()
                }
                BindingState::Live => true,
                BindingState::Refused { .. } => false,
            };
        if before == BindingState::Live && !has_to_wait {
            self.unregister(key);
        }
        let Some(binding) = self.bindings.get_mut(key) else {
            return;
        };
        let is_news = before != now && !(has_to_wait && (binding.retries > 0 || binding.is_live()));
        if !has_to_wait {
            binding.state = now;
            // Should it be live one day, from where it is has to be said.
            binding.start = Start::Broken(RefetchReason::Schema);
        }
        if error.retryable {
            let delay = RETRY_AFTER * (1 << binding.retries.min(RETRY_DOUBLINGS_MAX));
            binding.retries = binding.retries.saturating_add(1);
            self.timers
                .schedule(turn.now.instant + delay, Timer::ResolveAgain(key));
        }
        if is_news && let Some(subscription) = self.subscriptions.get(owner) {
            subscription.tell(
                SystemMessage::BindingRefused {
                    binding: id,
                    message: &error.message,
                },
                turn,
            );
        }
        if before == BindingState::Asking && !has_to_wait {
            self.answered(owner, turn);
        }
    }

    /// One question of a subscription has its answer.
    fn answered(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.asking -= 1;
        if subscription.asking == 0 {
            self.begin(key, turn);
        }
    }

    /// All bindings have their answers: the live ones start.
    pub(super) fn begin(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let live = self.live_bindings(key);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.stage = Stage::Idle;
        if live.is_empty() {
            return;
        }
        let Some(head) = self.live.at else {
            subscription.stage = Stage::Early;
            return;
        };
        let settled = subscription.settled;
        for key in live {
            let Some(binding) = self.bindings.get_mut(key) else {
                continue;
            };
            binding.start = match (binding.start, settled) {
                (Start::Head, settled) => Start::At(settled.unwrap_or(head)),
                // The others of its channel went on without it; going back would break their order.
                (Start::Claimed(position), Some(settled)) if position < settled => {
                    Start::Broken(RefetchReason::Schema)
                }
                (Start::At(position), Some(settled)) => Start::At(position.max(settled)),
                (start, _) => start,
            };
        }
        self.find_settled(key);
        self.place(key, turn);
    }

    pub(super) fn live_bindings(&self, key: SubscriptionKey) -> Vec<BindingKey> {
        let all = self
            .subscriptions
            .get(key)
            .map(|subscription| &*subscription.bindings)
            .unwrap_or_default();
        all.iter()
            .copied()
            .filter(|key| self.bindings.get(*key).is_some_and(Binding::is_live))
            .collect()
    }

    /// Sets where a subscription stands: at the earliest start of its bindings, else where it was,
    /// else at the head.
    pub(super) fn find_settled(&mut self, key: SubscriptionKey) {
        let live = self.live_bindings(key);
        let starts = live
            .iter()
            .filter_map(|key| self.bindings.get(*key)?.start.position());
        let earliest = starts.min();
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.settled = earliest.or(subscription.settled).or(self.live.at);
        }
    }

    /// A binding that was refused may be live now: its subscription starts over where it stands.
    fn revive(&mut self, owner: SubscriptionKey, turn: &mut Turn<'_>) {
        let stage = self.subscriptions.get(owner).map(|it| it.stage);
        if matches!(stage, None | Some(Stage::Resolving | Stage::Early)) {
            // It begins with the others.
            return;
        }
        self.detach(owner);
        if let Some(subscription) = self.subscriptions.get_mut(owner) {
            subscription.greeted = false;
        }
        self.find_settled(owner);
        self.place(owner, turn);
    }

    /// Gives broken bindings the position their subscription has now, and tells them so.
    pub(super) fn mend(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(here) = self.subscriptions.get(key).and_then(|it| self.settled(it)) else {
            return;
        };
        let mut broken: Vec<(RefetchReason, Vec<BindingKey>)> = Vec::new();
        for key in self.live_bindings(key) {
            let Some(binding) = self.bindings.get_mut(key) else {
                continue;
            };
            let Start::Broken(reason) = binding.start else {
                continue;
            };
            binding.start = Start::At(here);
            match broken.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, bindings)) => bindings.push(key),
                None => broken.push((reason, vec![key])),
            }
        }
        for (reason, bindings) in broken {
            self.break_off(key, &bindings, reason, here, turn);
        }
    }

    /// Tells a subscription that some of its bindings are not continued.
    pub(super) fn break_off(
        &mut self,
        key: SubscriptionKey,
        bindings: &[BindingKey],
        reason: RefetchReason,
        at: Position,
        turn: &mut Turn<'_>,
    ) {
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.resumes = false;
        }
        self.tell_refetch(key, bindings, reason, at, turn);
    }

    /// New claims: every binding is asked for again, and nothing flows until then.
    pub(super) fn reclaim(&mut self, key: SubscriptionKey, claims: Arc<Claims>) {
        self.detach(key);
        let claims = self.shared.claims.share(claims);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.claims = claims;
        subscription.stage = Stage::Resolving;
        subscription.greeted = false;
        let bindings = subscription.bindings.clone();
        subscription.asking = u32::try_from(bindings.len()).unwrap_or(u32::MAX);
        for key in bindings {
            if let Some(binding) = self.bindings.get_mut(key) {
                binding.state = BindingState::Asking;
                binding.retries = 0;
            }
            self.ask_binding(key);
        }
    }

    /// Asks again for what the catalog may have changed.
    pub(super) fn catalog_changed(&mut self) {
        self.rights.forget();
        for asked in self.resolutions.asked.values_mut() {
            asked.stale = true;
        }
        for key in self.bindings.keys() {
            let Some(binding) = self.bindings.get(key) else {
                continue;
            };
            let may_differ = match binding.state {
                BindingState::Asking => false,
                BindingState::Live => binding.is_wildcard(),
                BindingState::Refused { .. } => true,
            };
            if may_differ {
                self.ask_binding(key);
            }
        }
    }
}
