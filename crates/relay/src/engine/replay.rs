//! From where a subscription stands to the live stream.
//!
//! A scan is a reader somewhere behind the live stream, with a registry of its own. Subscriptions
//! that stand at or after it join it, each binding silent until its start; when the scan reaches
//! the live stream, they go over. Nothing live is buffered meanwhile. Recent positions are read
//! from the ring, older ones from the log; a reconnect storm shares a handful of scans, ordered by
//! cursor, instead of reading the log once per client.
//!
//! A cursor names a batch and its tag. Before anything is delivered from it, the tag is proven to
//! be that batch's: by the ring, by the log's answer for that very cursor, or by a page the scan
//! comes past.

use std::collections::{BTreeMap, VecDeque};

use pgrelay_protocol::{Position, RefetchReason};

use super::{
    Engine, Turn,
    scan::{Scan, ScanKey},
    subscription::{BindingKey, BindingState, Stage, Start, SubscriptionKey},
};
use crate::{FailPoint, arena::Arena};

/// Scans that read the log, and scans that read the ring: at most so many of each.
const SCANS_MAX: usize = 4;

/// All scans, and who waits for one.
#[derive(Debug)]
pub(super) struct Replays {
    pub(super) scans: Arena<Scan>,
    parked: BTreeMap<Position, Vec<SubscriptionKey>>,
}

impl Replays {
    pub(super) fn new() -> Self {
        Self {
            scans: Arena::new(),
            parked: BTreeMap::new(),
        }
    }
}

impl Engine {
    /// Finds a subscription a place to get its changes from.
    pub(super) fn place(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        if !self.try_place(key, turn) {
            let from = self.stands_at(key);
            if let (Some(from), Some(subscription)) = (from, self.subscriptions.get_mut(key)) {
                subscription.stage = Stage::Parked;
                self.replays.parked.entry(from).or_default().push(key);
            }
        }
    }

    /// Where a subscription's replay has to start.
    fn stands_at(&self, key: SubscriptionKey) -> Option<Position> {
        self.subscriptions.get(key)?.settled
    }

    /// The earliest position that a binding claims and nobody has proven.
    pub(super) fn first_claim(&self, key: SubscriptionKey) -> Option<Position> {
        let bindings = &self.subscriptions.get(key)?.bindings;
        bindings
            .iter()
            .filter_map(|key| self.bindings.get(*key)?.claim())
            .min()
    }

    fn try_place(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) -> bool {
        let (Some(head), Some(from)) = (self.live.at, self.stands_at(key)) else {
            return true;
        };
        let mut claim = self.first_claim(key);
        while let Some(position) =
            claim.filter(|claim| *claim <= head && self.ring.vouches_for(*claim))
        {
            self.prove(key, position);
            claim = self.first_claim(key);
        }
        if claim.is_none() && (from == head || FailPoint::GoesLiveTooEarly.is_on()) {
            self.go_live(key, turn);
            return true;
        }
        let claimed = claim == Some(from);
        let recent = !claimed && self.ring.covers(from);
        let Some(scan) = self
            .find_scan(from, recent)
            .or_else(|| self.open_scan(from, !claimed, recent))
        else {
            return false;
        };
        self.join(key, scan, from, claimed, turn);
        true
    }

    /// The scan to join at `from`. An old position takes a scan of its own while there is room.
    fn find_scan(&self, from: Position, recent: bool) -> Option<ScanKey> {
        let scans = self
            .replays
            .scans
            .iter()
            .filter(|(_, scan)| scan.recent == recent);
        let best = scans
            .clone()
            .filter(|(_, scan)| scan.at <= from)
            .max_by_key(|(_, scan)| scan.at);
        let (key, scan) = best?;
        (scan.at == from || recent || scans.count() >= SCANS_MAX).then_some(key)
    }

    fn open_scan(&mut self, at: Position, proven: bool, recent: bool) -> Option<ScanKey> {
        if self
            .replays
            .scans
            .iter()
            .filter(|(_, scan)| scan.recent == recent)
            .count()
            >= SCANS_MAX
        {
            return None;
        }
        self.tally.replays += 1;
        Some(self.replays.scans.insert(Scan::new(at, proven, recent)))
    }

    fn join(
        &mut self,
        key: SubscriptionKey,
        scan_key: ScanKey,
        from: Position,
        claimed: bool,
        turn: &mut Turn<'_>,
    ) {
        let Some(scan) = self.replays.scans.get_mut(scan_key) else {
            return;
        };
        if claimed && !(scan.proven && scan.at == from) {
            scan.waiting.entry(from).or_default().push(key);
            if let Some(subscription) = self.subscriptions.get_mut(key) {
                subscription.stage = Stage::Waiting(scan_key);
            }
            return;
        }
        if claimed {
            self.prove(key, from);
        }
        self.admit(key, scan_key, turn);
    }

    /// The claim of `position` is true.
    fn prove(&mut self, key: SubscriptionKey, position: Position) {
        for binding in self.claimants(key, position) {
            if let Some(binding) = self.bindings.get_mut(binding) {
                binding.start = Start::At(position);
            }
        }
    }

    /// The claim of `position` is false, or nobody can tell any more: the bindings that made it go
    /// on where their channel does, and are told.
    fn disprove(
        &mut self,
        key: SubscriptionKey,
        position: Position,
        reason: RefetchReason,
        turn: &mut Turn<'_>,
    ) {
        self.detach(key);
        for binding in self.claimants(key, position) {
            if let Some(binding) = self.bindings.get_mut(binding) {
                binding.start = Start::Broken(reason);
            }
        }
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            // Who waited for the proof stood at the claim, that is, nowhere.
            subscription.settled.take_if(|settled| *settled == position);
        }
        self.find_settled(key);
        self.place(key, turn);
    }

    fn claimants(&self, key: SubscriptionKey, position: Position) -> Vec<BindingKey> {
        let claims = |key: &BindingKey| {
            self.bindings.get(*key).and_then(|binding| binding.claim()) == Some(position)
        };
        let all = self
            .subscriptions
            .get(key)
            .map(|subscription| &*subscription.bindings)
            .unwrap_or_default();
        all.iter().copied().filter(claims).collect()
    }

    /// A subscription whose position is proven takes part in a scan.
    fn admit(&mut self, key: SubscriptionKey, scan_key: ScanKey, turn: &mut Turn<'_>) {
        let claim = self.first_claim(key);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        let Some(scan) = self.replays.scans.get_mut(scan_key) else {
            return;
        };
        let joins = subscription.stage != Stage::Replaying(scan_key);
        subscription.stage = Stage::Replaying(scan_key);
        if joins {
            scan.members.push(key);
        }
        if let Some(claim) = claim {
            scan.waiting.entry(claim).or_default().push(key);
        }
        self.welcome(key, turn);
    }

    pub(super) fn go_live(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.stage = Stage::Live;
        self.welcome(key, turn);
    }

    /// Has a subscription fed from where it was placed, and tells it what it has to know first.
    fn welcome(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        self.mend(key, turn);
        for binding in self.live_bindings(key) {
            self.register(binding);
        }
        if self.subscriptions.get(key).is_some_and(|it| !it.greeted) {
            self.greet(key, turn);
        }
    }

    /// Lets every scan work a little. `true` if one could go on at once.
    pub(super) fn step_replays(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut more = false;
        for key in self.replays.scans.keys() {
            more |= self.step_scan(key, turn);
        }
        // Scans that ended have made room.
        while let Some(entry) = self.replays.parked.first_entry() {
            let (position, parked) = entry.remove_entry();
            let mut left = parked
                .into_iter()
                .filter(|key| self.is_parked_at(*key, position))
                .collect::<VecDeque<_>>();
            while let Some(key) = left.front().copied() {
                if !self.try_place(key, turn) {
                    break;
                }
                left.pop_front();
                more = true;
            }
            if !left.is_empty() {
                self.replays
                    .parked
                    .entry(position)
                    .or_default()
                    .extend(left);
                break;
            }
        }
        more
    }

    fn is_parked_at(&self, key: SubscriptionKey, position: Position) -> bool {
        self.subscriptions
            .get(key)
            .is_some_and(|subscription| subscription.stage == Stage::Parked)
            && self.stands_at(key) == Some(position)
    }

    /// Decides the claims a scan comes past when it moves on to `next`.
    pub(super) fn settle_claims(&mut self, key: ScanKey, next: Position, turn: &mut Turn<'_>) {
        while let Some(scan) = self.replays.scans.get_mut(key) {
            let Some(entry) = scan.waiting.first_entry() else {
                return;
            };
            // A claim of exactly `next` is decided with it, before anything after it is delivered.
            if *entry.key() > next {
                return;
            }
            let (claim, holders) = entry.remove_entry();
            let proof = scan.proof(claim, next);
            for holder in holders {
                let stage = self
                    .subscriptions
                    .get(holder)
                    .map(|subscription| subscription.stage);
                let is_here =
                    stage == Some(Stage::Waiting(key)) || stage == Some(Stage::Replaying(key));
                if !is_here || self.first_claim(holder) != Some(claim) {
                    continue;
                }
                match proof {
                    Some(true) => {
                        self.prove(holder, claim);
                        self.admit(holder, key, turn);
                    }
                    Some(false) => self.disprove(holder, claim, RefetchReason::Epoch, turn),
                    // Nothing of that batch came by. Only the log can tell.
                    None => self.spill(holder, claim),
                }
            }
        }
    }

    /// Takes a subscription out of its scan to have its claim proven by a scan of its own. Nothing
    /// lies between where the scan stands and the claim.
    fn spill(&mut self, holder: SubscriptionKey, claim: Position) {
        self.detach(holder);
        if let Some(subscription) = self.subscriptions.get_mut(holder) {
            subscription.stage = Stage::Parked;
            subscription.settled = subscription.settled.map(|settled| settled.max(claim));
            self.replays.parked.entry(claim).or_default().push(holder);
        }
    }

    /// The log cannot give what a scan needs.
    pub(super) fn abandon_scan(
        &mut self,
        key: ScanKey,
        reason: RefetchReason,
        turn: &mut Turn<'_>,
    ) {
        let (Some(scan), Some(head)) = (self.replays.scans.remove(key), self.live.at) else {
            return;
        };
        for member in scan.members {
            let Some(subscription) = self.subscriptions.get(member) else {
                continue;
            };
            if subscription.stage != Stage::Replaying(key) {
                continue;
            }
            if subscription
                .settled
                .is_some_and(|settled| settled > scan.at)
            {
                // It joined a scan from further back than it needs.
                self.detach(member);
                self.place(member, turn);
            } else {
                self.restart_at(member, reason, head, turn);
            }
        }
        for (claim, holders) in scan.waiting {
            for holder in holders {
                if self
                    .subscriptions
                    .get(holder)
                    .is_none_or(|subscription| subscription.stage != Stage::Waiting(key))
                {
                    continue;
                }
                if claim == scan.at {
                    self.disprove(holder, claim, reason, turn);
                } else {
                    self.detach(holder);
                    self.place(holder, turn);
                }
            }
        }
    }

    /// Lets a subscription go on at `head` whatever it missed, and tells it so.
    pub(super) fn restart_at(
        &mut self,
        key: SubscriptionKey,
        reason: RefetchReason,
        head: Position,
        turn: &mut Turn<'_>,
    ) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let (stage, bindings) = (subscription.stage, subscription.bindings.clone());
        self.detach(key);
        for binding in &bindings {
            if let Some(binding) = self.bindings.get_mut(*binding)
                && binding.start != Start::Head
                && !matches!(binding.state, BindingState::Refused { .. })
            {
                binding.start = Start::At(head);
            }
        }
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.settled = Some(head);
        }
        self.break_off(key, &bindings, reason, head, turn);
        match stage {
            // It begins, at the head, when its bindings are resolved.
            Stage::Resolving | Stage::Idle | Stage::Early => self.set_stage(key, stage),
            Stage::Parked
            | Stage::Waiting(_)
            | Stage::Replaying(_)
            | Stage::Paused
            | Stage::Live => self.place(key, turn),
        }
    }

    /// Drops every scan; their subscriptions have been told.
    pub(super) fn drop_scans(&mut self) {
        for key in self.replays.scans.keys() {
            self.replays.scans.remove(key);
        }
        self.replays.parked.clear();
    }
}
