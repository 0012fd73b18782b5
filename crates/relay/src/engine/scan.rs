//! A reader behind the live stream, and how it moves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use pgrelay_protocol::Position;

use super::{
    Engine, Turn,
    call::Call,
    fanout::Lane,
    hold::HELD_MAX,
    subscription::{Stage, SubscriptionKey},
    timer::Timer,
};
use crate::{
    FailPoint,
    arena::Key,
    change::Page,
    ports::{Replay, ReplayError},
    registry::Registry,
};

/// Names a [`Scan`].
pub type ScanKey = Key<Scan>;

/// Subscriptions that go over to the live stream in one turn.
const MOVES_PER_TURN: usize = 512;

/// Changes a scan may look at in one turn.
const CHANGES_PER_TURN: usize = 256;

const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A reader behind the live stream.
#[derive(Debug)]
pub struct Scan {
    /// Everything up to here was looked at.
    pub(super) at: Position,
    /// `at` is known to be of this stream.
    pub(super) proven: bool,
    /// It started within the ring.
    pub(super) recent: bool,
    pub(super) registry: Registry,
    pub(super) members: Vec<SubscriptionKey>,
    /// Cursors that are not proven yet, with those who hold them.
    pub(super) waiting: BTreeMap<Position, Vec<SubscriptionKey>>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Nothing at hand.
    None,
    /// The log was asked, or will be again.
    Asked,
    /// Pages that follow `at`, and what they settle once looked at.
    Pages {
        pages: VecDeque<Arc<Page>>,
        reached: Position,
    },
}

/// What a scan does next.
enum Next {
    /// Look at a change.
    Change(Arc<Page>, u32),
    /// Nothing but silence up to here.
    Silence(Position),
    /// It has reached the live stream.
    Caught,
    /// Ask the log.
    Ask,
    /// Nothing now.
    Wait,
}

impl Scan {
    pub(super) fn new(at: Position, proven: bool, recent: bool) -> Self {
        Self {
            at,
            proven,
            recent,
            registry: Registry::default(),
            members: Vec::new(),
            waiting: BTreeMap::new(),
            source: Source::None,
        }
    }

    /// What is known about the batch of `cursor`, when the scan stands before it and `next` comes
    /// right after it: `Some(true)` that it is this stream's.
    pub(super) fn proof(&self, cursor: Position, next: Position) -> Option<bool> {
        [Some(self.at).filter(|_| self.proven), Some(next)]
            .into_iter()
            .flatten()
            .find(|known| (known.epoch, known.batch) == (cursor.epoch, cursor.batch))
            .map(|known| known.tag == cursor.tag || FailPoint::TakesAnyTag.is_on())
    }
}

impl Engine {
    pub(super) fn step_scan(&mut self, key: ScanKey, turn: &mut Turn<'_>) -> bool {
        if self
            .replays
            .scans
            .get(key)
            .is_some_and(|scan| scan.registry.is_empty())
        {
            self.drop_unused_scan(key);
        }
        for _ in 0..CHANGES_PER_TURN {
            match self.next_of_scan(key) {
                Next::Change(page, index) => {
                    let position = page.position(&page.changes[index as usize]);
                    self.settle_claims(key, position, turn);
                    if !self.fan_out(Lane::Scan(key), &page, index, turn) {
                        return true;
                    }
                    self.move_scan(key, position);
                }
                Next::Silence(position) => {
                    self.settle_claims(key, position, turn);
                    self.move_scan(key, position);
                }
                Next::Caught => return self.finish_scan(key, turn),
                Next::Ask => {
                    self.ask_log(key);
                    return false;
                }
                Next::Wait => return false,
            }
        }
        true
    }

    fn move_scan(&mut self, key: ScanKey, position: Position) {
        if let Some(scan) = self.replays.scans.get_mut(key) {
            scan.at = position;
            scan.proven = true;
        }
    }

    fn next_of_scan(&mut self, key: ScanKey) -> Next {
        let (Some(scan), Some(head)) = (self.replays.scans.get_mut(key), self.live.at) else {
            return Next::Wait;
        };
        if self.evaluations.held >= HELD_MAX {
            return Next::Wait;
        }
        match &mut scan.source {
            Source::Asked => Next::Wait,
            Source::Pages { pages, reached } => {
                let Some(page) = pages.front() else {
                    let reached = (*reached).max(scan.at);
                    scan.source = Source::None;
                    return Next::Silence(reached);
                };
                let index = page
                    .changes
                    .partition_point(|change| page.position(change) <= scan.at);
                if index < page.changes.len() {
                    let index = u32::try_from(index).expect("a page has less than 2^32 changes");
                    return Next::Change(Arc::clone(page), index);
                }
                let end = page.end.max(scan.at);
                pages.pop_front();
                Next::Silence(end)
            }
            Source::None if !scan.proven => Next::Ask,
            Source::None if scan.at == head => Next::Caught,
            // The log was ahead of the live stream, which will come here.
            Source::None if scan.at > head => Next::Wait,
            Source::None if !self.ring.covers(scan.at) => Next::Ask,
            Source::None => match self.ring.page_after(scan.at) {
                Some(page) => {
                    let pages = VecDeque::from([Arc::clone(page)]);
                    let reached = page.end;
                    scan.source = Source::Pages { pages, reached };
                    Next::Silence(scan.at)
                }
                None => Next::Silence(head),
            },
        }
    }

    fn ask_log(&mut self, key: ScanKey) {
        let Some(scan) = self.replays.scans.get_mut(key) else {
            return;
        };
        scan.source = Source::Asked;
        self.calls.push_back(Call::Read {
            key,
            after: scan.at,
            bytes_max: self.config.replay_bytes_max,
        });
    }

    pub(super) fn read_again(&mut self, key: ScanKey) {
        if self
            .replays
            .scans
            .get(key)
            .is_some_and(|scan| matches!(scan.source, Source::Asked))
        {
            self.ask_log(key);
        }
    }

    pub(super) fn has_read(
        &mut self,
        key: ScanKey,
        outcome: Result<Replay, ReplayError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(scan) = self.replays.scans.get_mut(key) else {
            return;
        };
        match outcome {
            Ok(Replay { pages, reached }) => {
                pages.iter().for_each(|page| self.rights.notice(page));
                let is_stuck = scan.proven && pages.is_empty() && reached <= scan.at;
                scan.proven = true;
                if is_stuck {
                    self.timers
                        .schedule(turn.now.instant + READ_AGAIN_AFTER, Timer::ReadAgain(key));
                } else {
                    scan.source = Source::Pages {
                        pages: pages.into(),
                        reached,
                    };
                }
                let at = scan.at;
                self.settle_claims(key, at, turn);
            }
            Err(ReplayError::Unavailable(reason)) => {
                tracing::debug!(%reason, "log cannot be read now");
                self.timers
                    .schedule(turn.now.instant + READ_AGAIN_AFTER, Timer::ReadAgain(key));
            }
            Err(ReplayError::Refetch(reason)) => self.abandon_scan(key, reason, turn),
        }
    }

    /// A scan has reached the live stream: its members go over, some in each turn.
    fn finish_scan(&mut self, key: ScanKey, turn: &mut Turn<'_>) -> bool {
        let Some(scan) = self.replays.scans.get_mut(key) else {
            return false;
        };
        let rest = scan.members.len().saturating_sub(MOVES_PER_TURN);
        let (mut more, mut ahead) = (rest > 0, Vec::new());
        for member in scan.members.split_off(rest) {
            let stage = self.subscriptions.get(member).map(|it| it.stage);
            if stage != Some(Stage::Replaying(key)) {
                continue;
            }
            if self.first_claim(member).is_some() || self.is_ahead(member) {
                // It claims, or stands at, a position that the live stream has not reached.
                ahead.push(member);
                continue;
            }
            for binding in self.live_bindings(member) {
                self.unregister(binding);
            }
            self.go_live(member, turn);
        }
        if let Some(scan) = self.replays.scans.get_mut(key) {
            // In front, so that the others have their turn.
            more &= ahead.len() < MOVES_PER_TURN;
            scan.members.splice(..0, ahead);
        }
        self.drop_unused_scan(key);
        more
    }

    /// A replay from the log was faster than the live stream: what comes next there was delivered.
    fn is_ahead(&self, key: SubscriptionKey) -> bool {
        let subscription = self.subscriptions.get(key);
        subscription.is_some_and(|it| self.settled(it) > self.live.at)
    }

    /// Removes a scan that nobody needs any more.
    fn drop_unused_scan(&mut self, key: ScanKey) {
        let Some(scan) = self.replays.scans.get(key) else {
            return;
        };
        let stage_is = |key: &SubscriptionKey, stage| {
            self.subscriptions
                .get(*key)
                .is_some_and(|subscription| subscription.stage == stage)
        };
        let is_used = scan
            .members
            .iter()
            .any(|member| stage_is(member, Stage::Replaying(key)))
            || scan
                .waiting
                .values()
                .flatten()
                .any(|holder| stage_is(holder, Stage::Waiting(key)));
        if !is_used {
            self.replays.scans.remove(key);
        }
    }
}
