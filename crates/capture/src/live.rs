//! Following the change log over one connection.
//!
//! One relay holds the lease: it sequences and owns the doorbell (`lead`). Others follow the ledger it
//! writes (`follow`) and sequence themselves when it stands still, which is safe because two
//! sequencers collide on the ledger's key. Whatever fails here ends the connection; `source.rs` makes
//! the next one.

use std::{convert::Infallible, time::Duration};

use pgrelay_protocol::RefetchReason;
use pgrelay_relay::{FailPoint, change::Operation, ports::FeedEvent};
use tokio::time::Instant;

use crate::{
    config::Arm,
    continuity::Continuity,
    doorbell::{Action, Doorbell, Find, Key, Pace, Stepped},
    ledger::Batch,
    logged::{Logged, Matter},
    metrics::{Cause, FindLabels},
    reader::BatchReader,
    sequencer::{self, Keys, Outcome, Stepping},
    session::{Heard, Session},
    source::{Exit, PATIENCE_MIN, Run, Told},
};

/// Between looks for other relays, and between a follower's attempts to take the lease.
const ROUND: Duration = Duration::from_secs(1);
/// A follower looks into the ledger this often even if nobody tells it to.
const FOLLOW_POLL: Duration = Duration::from_millis(250);
/// A ledger that stands still for this long makes a follower look into the log itself.
const STANDSTILL: Duration = Duration::from_millis(500);
/// While a transaction holds the doorbell's key.
const REFUSED_MAX: Duration = Duration::from_millis(10);
/// Where the doorbell must not be used.
const UNARMED: Duration = Duration::from_millis(20);

/// State of a connection.
pub(crate) struct Live<'a, 'b> {
    pub(crate) run: &'a mut Run<'b>,
    pub(crate) session: Session,
    pub(crate) told: Told,
    keys: Keys,
}

impl<'a, 'b> Live<'a, 'b> {
    pub(crate) fn new(
        run: &'a mut Run<'b>,
        session: Session,
        keys: Keys,
        continuity: Continuity,
    ) -> Self {
        let told = match (continuity, run.told) {
            (Continuity::Same(batch), Some(before)) => Told {
                batch,
                seq: before.seq,
            },
            (
                Continuity::Same(batch) | Continuity::Broken(batch) | Continuity::Overrun(batch),
                _,
            ) => Told {
                batch,
                seq: i64::MAX,
            },
        };
        Self {
            run,
            session,
            told,
            keys,
        }
    }

    /// Tells what was left half told, or that the history ended, then what others have sequenced.
    pub(crate) async fn take_up(&mut self, continuity: Continuity) -> Result<(), Exit> {
        match continuity {
            Continuity::Same(_) => self.finish_batch().await?,
            // Nobody was told anything yet.
            Continuity::Broken(_) if self.run.told.is_none() => {}
            Continuity::Broken(batch) => self.break_off(RefetchReason::Epoch, batch).await?,
            Continuity::Overrun(batch) => self.break_off(RefetchReason::Retention, batch).await?,
        }
        self.tail().await?;
        self.publish([FeedEvent::Head(self.told.batch.end())], self.told)
            .await
    }

    pub(crate) async fn lead_or_follow(mut self) -> Result<Infallible, Exit> {
        if !self.keys.take_lease(&mut self.session).await? {
            tracing::info!("another relay sequences; following its ledger");
            self.follow().await?;
        }
        self.run.source.set_leader(true);
        tracing::info!("sequencing the change log");
        self.lead().await
    }

    /// Follows the ledger until the lease is ours.
    async fn follow(&mut self) -> Result<(), Exit> {
        let mut announced = self.keys.announce(&mut self.session).await?;
        let mut round_due = Instant::now() + ROUND;
        let mut progress = Instant::now();
        loop {
            let heard = self
                .session
                .wire
                .listen(Instant::now() + FOLLOW_POLL)
                .await?;
            self.tell_catalog(heard).await?;
            let now = Instant::now();
            if self.tail().await? {
                progress = now;
            } else if now.duration_since(progress) >= STANDSTILL {
                let Stepping { outcome, .. } = self.step(Key::Leave, true).await?;
                self.take_in(outcome).await?;
                progress = now;
            }
            if round_due <= now {
                round_due = now + ROUND;
                if self.keys.take_lease(&mut self.session).await? {
                    if announced {
                        self.keys.withdraw(&mut self.session).await?;
                    }
                    return Ok(());
                }
                if !announced {
                    announced = self.keys.announce(&mut self.session).await?;
                }
            }
        }
    }

    /// Sequences, asleep or awake as the doorbell says.
    async fn lead(&mut self) -> Result<Infallible, Exit> {
        let mut bell = Doorbell::new(self.pace(), Instant::now());
        let mut round_due = Instant::now();
        let mut tell = false;
        loop {
            let now = Instant::now();
            if let Some(find) = bell.explain(now) {
                self.count(find);
            }
            if round_due <= now {
                round_due = now + ROUND;
                tell = self.keys.has_followers(&mut self.session).await?;
                // Another node may have sequenced while this one seemed to stand still.
                self.tail().await?;
            }
            match bell.next(now) {
                Action::Sleep(until) => {
                    let heard = self.session.wire.listen(until.min(round_due)).await?;
                    self.hear(&mut bell, heard).await?;
                }
                Action::Step(key) => {
                    let outcome = self.turn(&mut bell, key, tell).await?;
                    // Also what was heard in that round trip, which counts only now.
                    let heard = self.session.wire.take_heard();
                    self.hear(&mut bell, heard).await?;
                    self.take_in(outcome).await?;
                }
            }
        }
    }

    /// One STEP of the leader, told to the doorbell.
    async fn turn(&mut self, bell: &mut Doorbell, key: Key, tell: bool) -> Result<Outcome, Exit> {
        let started = Instant::now();
        let Stepping { taken, outcome } = self.step(key, tell).await?;
        let (rows, holes_only) = match &outcome {
            Outcome::Batch(batch, rows) => (batch.n.unsigned_abs(), is_holes_only(batch, rows)),
            Outcome::Empty | Outcome::Collided => (0, false),
        };
        let was_armed = bell.is_armed();
        bell.stepped(
            Instant::now(),
            Stepped {
                started,
                key,
                taken,
                rows,
                holes_only,
            },
        );
        let metrics = &self.run.source.metrics;
        metrics.armed.set(bell.is_armed().into());
        if bell.is_armed() && !was_armed {
            metrics.arms.inc();
        }
        Ok(outcome)
    }

    async fn step(&mut self, key: Key, tell: bool) -> Result<Stepping, Exit> {
        let last = self.told.batch.id;
        let stepping = sequencer::step(
            &mut self.session,
            &self.keys,
            key,
            last,
            (tell, self.run.patience),
        )
        .await?;
        self.run.patience = PATIENCE_MIN;
        self.run.source.metrics.steps.inc();
        Ok(stepping)
    }

    /// Tells what a STEP brought; what others have sequenced meanwhile comes first.
    async fn take_in(&mut self, outcome: Outcome) -> Result<(), Exit> {
        match outcome {
            Outcome::Empty => {}
            Outcome::Batch(batch, rows) if self.told.is_followed_by(&batch) => {
                self.deliver(batch, BatchReader::prefetched(batch, rows))
                    .await?;
            }
            Outcome::Batch(..) => drop(self.tail().await?),
            Outcome::Collided => {
                self.run.source.metrics.collisions.inc();
                self.tail().await?;
            }
        }
        Ok(())
    }

    async fn hear(&mut self, bell: &mut Doorbell, heard: Heard) -> Result<(), Exit> {
        if heard.bell && bell.is_armed() && !FailPoint::SleepsThroughBells.is_on() {
            self.run.source.metrics.rings.inc();
            bell.rang();
        }
        if heard.ledger {
            self.tail().await?;
        }
        self.tell_catalog(heard).await
    }

    async fn tell_catalog(&mut self, heard: Heard) -> Result<(), Exit> {
        if heard.catalog {
            self.run.source.catalog.changed();
            self.publish([FeedEvent::CatalogChanged], self.told).await?;
        }
        Ok(())
    }

    fn count(&self, find: Find) {
        let metrics = &self.run.source.metrics;
        let cause = match find {
            Find::BellInTheAir => Cause::BellInTheAir,
            Find::Hole => Cause::Hole,
            Find::LostWakeUp => {
                metrics.lost_wakeups.inc();
                tracing::warn!(
                    batch = self.told.batch.id,
                    "a writer committed without ringing"
                );
                Cause::LostWakeUp
            }
        };
        metrics
            .safety_finds
            .get_or_create(&FindLabels { cause })
            .inc();
    }

    fn pace(&self) -> Pace {
        let config = &self.run.source.config;
        Pace {
            busy: config.poll_busy,
            refused_max: REFUSED_MAX.max(config.poll_busy),
            safety: if FailPoint::SleepsThroughBells.is_on() {
                Duration::from_secs(3_600)
            } else {
                config.safety_poll
            },
            unarmed: UNARMED,
            arm: config.arm == Arm::Auto && !self.session.server.prepares_transactions,
        }
    }
}

fn is_holes_only(batch: &Batch, rows: &[Logged]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|len| len == batch.n)
        && rows
            .iter()
            .all(|row| row.matter == Matter::Change(Operation::Hole))
}
