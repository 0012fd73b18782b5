//! The live source: connects, takes up the history where it was left, and follows the log for ever.
//!
//! What happens on a connection is in `live.rs`; here outages are waited out, and only what no retry
//! can cure ends the source. What was handed to the relay is remembered to the page, so that a reconnect
//! neither skips nor repeats.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use pgrelay_relay::{
    FailPoint,
    ports::{ChangeSource, Feed, Stopped},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Catalog,
    config::Config,
    continuity,
    error::Error,
    health::Health,
    ledger::Batch,
    live::Live,
    metrics::Metrics,
    migrate,
    pool::Pool,
    reader,
    retry::{Backoff, Retry, spread},
    sequencer::{self, Keys},
    session::{Session, refuse_pooler},
    statements,
    upkeep::Upkeep,
};

/// An answer that takes longer comes from a frozen server, or from one with a large backlog: the next
/// attempt waits twice as long.
pub(crate) const PATIENCE_MIN: Duration = Duration::from_secs(8);
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// Follows the change log of one database. See [`crate::open`].
#[derive(Debug)]
pub struct Source {
    pub(crate) config: Arc<Config>,
    pub(crate) pool: Pool,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
}

/// Why following ends.
pub(crate) enum Exit {
    Stopped,
    Failed(Error),
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for Exit {
    fn from(_stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// What was handed to the relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) batch: Batch,
    /// Changes of it up to here; `i64::MAX` for the whole.
    pub(crate) seq: i64,
}

/// State that outlives a connection.
pub(crate) struct Run<'a> {
    pub(crate) source: &'a Source,
    pub(crate) feed: &'a dyn Feed,
    pub(crate) told: Option<Told>,
    pub(crate) patience: Duration,
    pooler_refused: bool,
    backoff: Backoff,
    quiet: bool,
}

impl ChangeSource for Source {
    fn run(
        self: Box<Self>,
        feed: Arc<dyn Feed>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        async move {
            let upkeep = Upkeep::new(&self, &*feed);
            let mut run = Run::new(&self, &*feed);
            // Dropping the connection gives back every lock.
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ended = run.follow_for_ever().boxed() => ended,
                stopped = upkeep.run().boxed() => match stopped { Stopped => Ok(()) },
            };
            self.set_live(false);
            ended.map_err(Into::into)
        }
        .boxed()
    }
}

impl Source {
    fn set_live(&self, live: bool) {
        self.health.set_live(live);
        self.metrics.live.set(live.into());
        if !live {
            self.set_leader(false);
            self.metrics.armed.set(0);
        }
    }

    pub(crate) fn set_leader(&self, leader: bool) {
        self.health.set_leader(leader);
        self.metrics.leader.set(leader.into());
    }
}

impl<'a> Run<'a> {
    fn new(source: &'a Source, feed: &'a dyn Feed) -> Self {
        Self {
            source,
            feed,
            told: None,
            patience: PATIENCE_MIN,
            pooler_refused: false,
            backoff: Backoff::new(),
            quiet: false,
        }
    }

    /// Until the relay stops, or nothing can help.
    async fn follow_for_ever(&mut self) -> Result<(), Error> {
        loop {
            let error = match self.connected().await {
                Err(Exit::Failed(error)) => error,
                Err(Exit::Stopped) => return Ok(()),
                Ok(never) => match never {},
            };
            self.source.set_live(false);
            self.source.metrics.reconnects.inc();
            if matches!(error, Error::Frozen { .. }) {
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            }
            let pause = match Retry::after(&error) {
                // Once it has worked, what looks final may be a restore or a migration under way.
                Retry::Stop(_) if self.told.is_none() => return Err(error),
                _ if FailPoint::StopsAfterAnOutage.is_on() => Duration::MAX,
                Retry::Now => Duration::ZERO,
                Retry::Stop(_) | Retry::Backoff => self.backoff.pause(spread()),
            };
            if self.quiet || pause.is_zero() {
                tracing::debug!(error = %error.report(), ?pause, "still not following the change log");
            } else {
                tracing::warn!(error = %error.report(), ?pause, "lost the change log");
            }
            self.quiet = true;
            sleep(pause).await;
        }
    }

    /// One connection, from its start to its end.
    async fn connected(&mut self) -> Result<Infallible, Exit> {
        let config = Arc::clone(&self.source.config);
        let mut session = Session::connect(&config.direct).await?;
        if session.server.standby {
            return Err(Error::Standby.into());
        }
        if !self.pooler_refused {
            refuse_pooler(&mut session, &config.direct).await?;
            self.pooler_refused = true;
        }
        session.configure().await?;
        migrate::require_current(&mut session).await?;
        session
            .rows(
                "note the publication",
                &statements::administration::SET_PUBLICATION,
                &[&config.publication],
            )
            .await?;
        // Heard from before the first look: nothing falls between them.
        session.listen().await?;
        session.prepare(&reader::LIVE).await?;
        session.prepare(&sequencer::LIVE).await?;
        let keys = Keys::load(&mut session).await?;
        let continuity = continuity::check(&mut session, self.told.map(|told| told.batch)).await?;
        let mut live = Live::new(self, session, keys, continuity);
        live.take_up(continuity).await?;
        live.run.recovered();
        live.lead_or_follow().await
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.quiet = false;
        self.source.catalog.changed();
        self.source.set_live(true);
        tracing::info!(
            batch = self.told.map(|told| told.batch.id),
            "following the change log"
        );
    }

    /// Notes what was handed to the relay.
    pub(crate) fn note(&mut self, told: Told) {
        self.told = Some(told);
        self.source.health.set_head(told.batch.at(told.seq));
        self.source.metrics.batch_id.set(told.batch.id);
    }
}
