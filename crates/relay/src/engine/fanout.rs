//! From a change to the parcels of its receivers.

use std::sync::Arc;

use pgrelay_protocol::Position;
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    encode::Receivers,
    scan::ScanKey,
    subscription::{BindingKey, Stage, Subscription, SubscriptionKey},
};
use crate::{
    FailPoint,
    change::{Operation, Page},
    filter::FilterTest,
    registry::{BindingIndex, Hits},
};

/// A stream of changes with its own position and registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Live,
    Scan(ScanKey),
}

impl Lane {
    fn carries(self, subscription: &Subscription) -> bool {
        match self {
            Self::Live => subscription.stage == Stage::Live,
            Self::Scan(scan) => subscription.stage == Stage::Replaying(scan),
        }
    }
}

/// A binding that a change concerns, with the filters that are still to be decided.
type Found = (BindingKey, Option<Arc<[FilterTest]>>);

impl Engine {
    /// Hands change `index` of `page` to the subscriptions of `lane`. `false`: not now, come again.
    pub(super) fn fan_out(
        &mut self,
        lane: Lane,
        page: &Arc<Page>,
        index: u32,
        turn: &mut Turn<'_>,
    ) -> bool {
        let change = &page.changes[index as usize];
        if change.operation == Operation::Hole {
            self.fan_out_hole(lane, page, index, turn);
            return true;
        }
        let mut hits = std::mem::take(&mut self.hits);
        let registry = match lane {
            Lane::Live => Some(&mut self.live.registry),
            Lane::Scan(scan) => self
                .replays
                .scans
                .get_mut(scan)
                .map(|scan| &mut scan.registry),
        };
        if let Some(registry) = registry {
            registry.find(change, &mut hits);
        }
        let admitted = hits.is_empty() || turn.outlets.admits(hits.len());
        if admitted {
            self.dispatch(lane, page, index, &hits, turn);
        }
        self.hits = hits;
        admitted
    }

    fn dispatch(
        &mut self,
        lane: Lane,
        page: &Arc<Page>,
        index: u32,
        hits: &Hits,
        turn: &mut Turn<'_>,
    ) {
        let position = page.position(&page.changes[index as usize]);
        let hides_rows = page.changes[index as usize].relation.row_security;
        // What cannot be sent right away: channels with several bindings, or with something held.
        let mut rest: Vec<(SubscriptionKey, Found)> = Vec::new();
        for place in &hits.sure {
            let Some((key, owner, is_alone)) = self.receiver(lane, *place, position, hides_rows)
            else {
                continue;
            };
            if is_alone {
                self.deliver(owner, page, index, &[*place], turn);
                self.pace(owner, position, false, turn);
            } else {
                rest.push((owner, (key, None)));
            }
        }
        for (place, list) in &hits.undecided {
            let Some((key, owner, _)) = self.receiver(lane, *place, position, hides_rows) else {
                continue;
            };
            rest.push((owner, (key, self.filters(lane, *list))));
        }
        rest.sort_unstable_by_key(|(owner, (key, _))| (owner.index(), key.index()));
        for run in rest.chunk_by(|left, right| left.0 == right.0) {
            self.deliver_or_hold(run, page, index, turn);
        }
    }

    /// The binding at `place` with its subscription, if it gets the change at `position`; and
    /// whether the change can go out without looking at anything else.
    fn receiver(
        &self,
        lane: Lane,
        place: BindingIndex,
        position: Position,
        hides_rows: bool,
    ) -> Option<(BindingKey, SubscriptionKey, bool)> {
        let key = self.bindings.key_at(place.0)?;
        let binding = self.bindings.get(key)?;
        if hides_rows && !binding.bypasses_row_security && !FailPoint::ShowsHiddenTables.is_on() {
            return None;
        }
        let started = lane == Lane::Live || binding.starts_before(position);
        let subscription = self
            .subscriptions
            .get(binding.subscription)
            .filter(|it| started && lane.carries(it))?;
        let overtakes = FailPoint::OvertakesHeldChanges.is_on();
        let is_alone =
            subscription.bindings.len() == 1 && (subscription.held.is_none() || overtakes);
        Some((key, binding.subscription, is_alone))
    }

    fn filters(&self, lane: Lane, list: crate::registry::ListId) -> Option<Arc<[FilterTest]>> {
        let registry = match lane {
            Lane::Live => &self.live.registry,
            Lane::Scan(scan) => &self.replays.scans.get(scan)?.registry,
        };
        Some(Arc::clone(registry.tests(list)))
    }

    /// Sends one change to one subscription, or queues it there.
    fn deliver_or_hold(
        &mut self,
        run: &[(SubscriptionKey, Found)],
        page: &Arc<Page>,
        index: u32,
        turn: &mut Turn<'_>,
    ) {
        let key = run[0].0;
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let undecided = run.iter().any(|(_, (_, tests))| tests.is_some());
        let overtakes = FailPoint::OvertakesHeldChanges.is_on();
        if undecided || (subscription.held.is_some() && !overtakes) {
            let found: SmallVec<[Found; 2]> = run.iter().map(|(_, found)| found.clone()).collect();
            self.hold(key, page, index, &found);
        } else {
            let places: SmallVec<[BindingIndex; 4]> = run
                .iter()
                .map(|(_, (binding, _))| binding.place())
                .collect();
            self.deliver(key, page, index, &places, turn);
            self.pace(
                key,
                page.position(&page.changes[index as usize]),
                false,
                turn,
            );
        }
    }

    /// Sends one change for these bindings of one subscription: a parcel per column list.
    pub(super) fn deliver(
        &mut self,
        key: SubscriptionKey,
        page: &Arc<Page>,
        index: u32,
        bindings: &[BindingIndex],
        turn: &mut Turn<'_>,
    ) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let found = bindings
            .iter()
            .filter_map(|place| self.bindings.get(self.bindings.key_at(place.0)?));
        let mut left: SmallVec<[_; 4]> = found.filter(|binding| binding.is_live()).collect();
        while let Some(first) = left.first().copied() {
            let mut ids: SmallVec<[u32; 4]> = SmallVec::new();
            let mut cursor = false;
            left.retain(|binding| {
                let same = binding.select.as_ref().map(Arc::as_ptr)
                    == first.select.as_ref().map(Arc::as_ptr);
                if same {
                    ids.push(binding.id);
                    cursor |= binding.wants_cursor;
                }
                !same
            });
            let receivers = Receivers::new(&subscription.voice, &ids, &first.select, cursor);
            let parcel = self.encoder.encode(page, index, receivers);
            self.tally.deliveries += 1;
            self.tally.delivered_bytes += parcel.bytes() as u64;
            turn.outlets.send(subscription.client, &parcel);
            if FailPoint::SendsTwice.is_on() && index.is_multiple_of(7) {
                turn.outlets.send(subscription.client, &parcel);
            }
        }
    }

    /// Tells those who asked for cursors that changes of a table may be missing.
    fn fan_out_hole(&mut self, lane: Lane, page: &Arc<Page>, index: u32, turn: &mut Turn<'_>) {
        let change = &page.changes[index as usize];
        let position = page.position(change);
        let concerned = |key: &BindingKey| {
            self.bindings.get(*key).is_some_and(|binding| {
                binding.wants_cursor
                    && binding.is_live()
                    && (lane == Lane::Live || binding.starts_before(position))
                    && binding.interest().scope.covers(&change.relation)
            })
        };
        let mut told: Vec<(SubscriptionKey, SmallVec<[BindingKey; 2]>)> = Vec::new();
        for (key, subscription) in self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| lane.carries(subscription))
        {
            let bindings: SmallVec<[BindingKey; 2]> = subscription
                .bindings
                .iter()
                .copied()
                .filter(concerned)
                .collect();
            if !bindings.is_empty() {
                told.push((key, bindings));
            }
        }
        for (key, bindings) in told {
            if self
                .subscriptions
                .get(key)
                .is_some_and(|subscription| subscription.held.is_some())
            {
                let found: SmallVec<[Found; 2]> = bindings
                    .into_iter()
                    .map(|binding| (binding, None))
                    .collect();
                self.hold(key, page, index, &found);
            } else {
                self.tell_refetch(
                    key,
                    &bindings,
                    pgrelay_protocol::RefetchReason::Hole,
                    position,
                    turn,
                );
            }
        }
    }
}
