//! From a change to the parcels of its receivers.

use std::sync::Arc;

use pgrelay_protocol::Position;
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    encode::Receivers,
    hold::Found,
    scan::ScanKey,
    subscription::{BindingKey, Stage, Subscription, SubscriptionKey},
};
use crate::{
    FailPoint,
    change::{Change, Operation, Page},
    filter::FilterTest,
    ports::Claims,
    registry::{BindingIndex, Hits},
    view::{Rights, View},
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

/// What those who were asked about last may see of a change: mostly the same as those asked about next.
#[derive(Debug, Default)]
struct LastRights {
    claims: Option<Arc<Claims>>,
    rights: Option<Arc<Rights>>,
}

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
        let change = &page.changes[index as usize];
        let position = page.position(change);
        let mut last = LastRights::default();
        // What cannot be sent right away: channels with several bindings, or with something held, and
        // what the database has to look at.
        let mut rest: Vec<(SubscriptionKey, Found)> = Vec::new();
        let sure = hits.sure.iter().map(|place| (*place, None));
        let undecided = hits
            .undecided
            .iter()
            .map(|(place, list)| (*place, self.filters(lane, *list)));
        let undecided: SmallVec<[_; 4]> = undecided.collect();
        for (place, tests) in sure.chain(undecided) {
            let Some((binding, owner)) = self.receiver(lane, place, position) else {
                continue;
            };
            let Some(subscription) = self.subscriptions.get(owner) else {
                continue;
            };
            let rights = self.rights_for(change, &subscription.claims, &mut last);
            let overtakes = FailPoint::OvertakesHeldChanges.is_on();
            let is_alone =
                subscription.bindings.len() == 1 && (subscription.held.is_none() || overtakes);
            if let (Some(rights), true, None) = (&rights, is_alone, &tests) {
                let view = View::logged(Arc::clone(rights));
                self.deliver(owner, (page, index), &view, &[place], turn);
                self.pace(owner, position, false, turn);
            } else {
                let found = Found {
                    binding,
                    tests,
                    rights,
                };
                rest.push((owner, found));
            }
        }
        rest.sort_unstable_by_key(|(owner, found)| (owner.index(), found.binding.index()));
        for run in rest.chunk_by(|left, right| left.0 == right.0) {
            self.deliver_or_hold(run, page, index, turn);
        }
    }

    /// The rights that decide what `claims` see of `change`; `None` where the database has to look.
    fn rights_for(
        &self,
        change: &Change,
        claims: &Arc<Claims>,
        last: &mut LastRights,
    ) -> Option<Arc<Rights>> {
        let is_same = last
            .claims
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, claims));
        if !is_same {
            let known = self.rights.get(change.relation.oid, &claims.role);
            last.rights = known
                .filter(|rights| !rights.needs_row(change) || FailPoint::ShowsHiddenTables.is_on())
                .cloned();
            last.claims = Some(Arc::clone(claims));
        }
        last.rights.clone()
    }

    /// The binding at `place` with its subscription, if it gets the change at `position`.
    fn receiver(
        &self,
        lane: Lane,
        place: BindingIndex,
        position: Position,
    ) -> Option<(BindingKey, SubscriptionKey)> {
        let key = self.bindings.key_at(place.0)?;
        let binding = self.bindings.get(key)?;
        let started = lane == Lane::Live || binding.starts_before(position);
        self.subscriptions
            .get(binding.subscription)
            .filter(|it| started && lane.carries(it))?;
        Some((key, binding.subscription))
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
        let is_decided = |(_, found): &(_, Found)| found.tests.is_none() && found.rights.is_some();
        let view = run[0].1.rights.as_ref().map(Arc::clone).map(View::logged);
        let overtakes = FailPoint::OvertakesHeldChanges.is_on();
        match view {
            Some(view)
                if (subscription.held.is_none() || overtakes) && run.iter().all(is_decided) =>
            {
                let places: SmallVec<[BindingIndex; 4]> =
                    run.iter().map(|(_, found)| found.binding.place()).collect();
                self.deliver(key, (page, index), &view, &places, turn);
                let position = page.position(&page.changes[index as usize]);
                self.pace(key, position, false, turn);
            }
            Some(_) | None => {
                let found: SmallVec<[Found; 2]> =
                    run.iter().map(|(_, found)| found.clone()).collect();
                self.hold(key, page, index, &found);
            }
        }
    }

    /// Sends what `view` shows of one change to these bindings of one subscription: a parcel per
    /// column list. One whose filters look at what is kept from it gets nothing.
    pub(super) fn deliver(
        &mut self,
        key: SubscriptionKey,
        (page, index): (&Arc<Page>, u32),
        view: &View,
        bindings: &[BindingIndex],
        turn: &mut Turn<'_>,
    ) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let found = bindings
            .iter()
            .filter_map(|place| self.bindings.get(self.bindings.key_at(place.0)?));
        let mut left: SmallVec<[_; 4]> = found
            .filter(|binding| binding.is_live() && binding.filters_within(&view.rights))
            .collect();
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
            let receivers = Receivers::new(&subscription.voice, &ids, &first.select, view, cursor);
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
                let found = |binding| Found {
                    binding,
                    tests: None,
                    rights: None,
                };
                let found: SmallVec<[Found; 2]> = bindings.into_iter().map(found).collect();
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
