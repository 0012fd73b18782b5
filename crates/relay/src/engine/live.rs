//! The newest end of the stream: what the source says, and how it is handed out.

use std::{sync::Arc, time::Duration};

use pgrelay_protocol::{Position, RefetchReason};

use super::{
    ClientKey, Engine, Turn, fanout::Lane, hold::HELD_MAX, subscription::Stage, timer::Timer,
};
use crate::{change::Page, ports::FeedEvent, registry::Registry, ring::Ring, session::Incarnation};

/// How long a channel waits to be told that the database is followed.
const READY_MAX: Duration = Duration::from_secs(60);

/// Live changes looked at in one turn.
const CHANGES_PER_TURN: usize = 256;

/// The newest end of the stream.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) registry: Registry,
    /// Everything up to here was handed out; `None` until the source has said where it is.
    pub(super) at: Option<Position>,
    /// The page that is being handed out.
    page: Option<Arc<Page>>,
    /// Channels that want to know when the source has said where it is.
    awaiting: Vec<(ClientKey, Incarnation)>,
}

impl Engine {
    /// Whether [`Self::feed`] may be called: what was fed before has been handed out.
    #[must_use]
    pub fn wants_feed(&self) -> bool {
        self.live.page.is_none() && self.evaluations.held < HELD_MAX && self.wants_deliveries()
    }

    /// The next word of the source.
    pub fn feed(&mut self, event: FeedEvent, turn: &mut Turn<'_>) {
        match event {
            FeedEvent::Head(position) => self.reach(position, turn),
            FeedEvent::Page(page) => match self.live.at {
                // Nobody is live yet, and where the page starts is not known.
                None => self.reach(page.end, turn),
                Some(at) if at < page.end => {
                    self.rights.notice(&page);
                    self.ring.push(Arc::clone(&page));
                    self.live.page = Some(page);
                }
                Some(_) => {}
            },
            FeedEvent::Break { reason, head } => self.break_stream(reason, head, turn),
            FeedEvent::CatalogChanged => self.catalog_changed(),
            FeedEvent::Messages(messages) => self.feed_messages(&messages),
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

    /// Tells a channel when broadcasts of the database will be delivered, which may be now.
    pub(super) fn await_ready(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        turn: &mut Turn<'_>,
    ) {
        if self.live.at.is_some() {
            self.with_session(client, turn, |session, _| session.ready(incarnation, true));
            return;
        }
        self.live.awaiting.push((client, incarnation));
        let over = Timer::ReadyOver(client, incarnation);
        self.timers.schedule(turn.now.instant + READY_MAX, over);
    }

    /// A channel has waited long enough.
    pub(super) fn ready_over(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        turn: &mut Turn<'_>,
    ) {
        let awaiting = &mut self.live.awaiting;
        let before = awaiting.len();
        awaiting.retain(|waiting| *waiting != (client, incarnation));
        if awaiting.len() < before {
            self.with_session(client, turn, |session, _| session.ready(incarnation, false));
        }
    }

    fn wake_early(&mut self, turn: &mut Turn<'_>) {
        for (client, incarnation) in std::mem::take(&mut self.live.awaiting) {
            self.with_session(client, turn, |session, _| session.ready(incarnation, true));
        }
        for key in self.subscriptions.keys() {
            if self
                .subscriptions
                .get(key)
                .is_some_and(|subscription| subscription.stage == Stage::Early)
            {
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
            let stage = self.subscriptions.get(*key).map(|it| it.stage);
            self.detach(*key);
            stage
                .into_iter()
                .for_each(|stage| self.set_stage(*key, stage));
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
            // The others begin at the head anyway, or have their cursors judged by the log.
            if self
                .subscriptions
                .get(key)
                .is_some_and(|it| it.settled.is_some())
            {
                self.restart_at(key, reason, head, turn);
            }
        }
    }

    pub(super) fn step_live(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(page) = self.live.page.take() else {
            return false;
        };
        let at = self.live.at;
        let start = page
            .changes
            .partition_point(|change| Some(page.position(change)) <= at);
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
}
