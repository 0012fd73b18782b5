//! Housekeeping beside the live stream, over the pool: retention, holes, missing triggers, and news of
//! the catalog. Its failures are logged and tried again in the next round; they never end the source.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pgrelay_relay::ports::{Feed, FeedEvent, Stopped};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    catalog::Catalog,
    config::Config,
    error::Error,
    health::Health,
    metrics::Metrics,
    pool::Pool,
    query::{Params, Query},
    source::Source,
    statements,
};

const ROUND: Duration = Duration::from_secs(1);
/// In rounds.
const SYNC_EVERY: u64 = 5;
const NEWS_EVERY: u64 = 2;
const SIZES_EVERY: u64 = 10;
const KEEP_EVERY: u64 = 60;
/// A step that takes longer is given up.
const STEP_MAX: Duration = Duration::from_secs(30);

/// The rounds.
pub(crate) struct Upkeep<'a> {
    pool: Pool,
    feed: &'a dyn Feed,
    config: Arc<Config>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    health: Health,
    news: Option<String>,
    /// The round in which the table of messages is looked after next.
    keep_at: u64,
    /// What was complained of already.
    complaints: HashSet<String>,
}

impl<'a> Upkeep<'a> {
    pub(crate) fn new(source: &Source, feed: &'a dyn Feed) -> Self {
        Self {
            pool: source.pool.clone(),
            feed,
            config: Arc::clone(&source.config),
            catalog: Arc::clone(&source.catalog),
            metrics: Arc::clone(&source.metrics),
            health: source.health.clone(),
            news: None,
            keep_at: 0,
            complaints: HashSet::new(),
        }
    }

    /// Until the relay stops.
    pub(crate) async fn run(mut self) -> Stopped {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            rounds.tick().await;
            if !self.health.is_live() {
                continue;
            }
            match self.round(round).await {
                Ok(false) => self
                    .complaints
                    .retain(|complaint| !complaint.starts_with(FAILED)),
                Ok(true) => {
                    self.catalog.changed();
                    if let Err(stopped) = self.feed.publish(FeedEvent::CatalogChanged).await {
                        return stopped;
                    }
                }
                Err(error) => self.complain(format!("{FAILED}{}", error.report())),
            }
        }
        Stopped
    }

    /// Whether the catalog has news.
    async fn round(&mut self, round: u64) -> Result<bool, Error> {
        let mut attached = false;
        if self.health.is_leader() {
            self.ask(
                "settle holes",
                &statements::administration::SETTLE_HOLES,
                &[],
            )
            .await?;
            self.maintain().await?;
            if round.is_multiple_of(SYNC_EVERY) {
                attached = self.sync().await?;
            }
            if round >= self.keep_at && self.config.ddl {
                self.keep_at = round + KEEP_EVERY;
                self.keep_messages().await?;
            }
        }
        if round.is_multiple_of(SIZES_EVERY) {
            let row = &self
                .ask("measure the log", &statements::administration::SIZES, &[])
                .await?[0];
            self.metrics.log_bytes.set(row.get(0));
            self.metrics.floor_batch.set(row.get(1));
            let lag = row.get::<_, i64>(2) - self.metrics.batch_id.get();
            self.metrics.ledger_lag.set(lag.max(0));
            self.metrics.log_full.set(row.get::<_, bool>(3).into());
            self.metrics.holes_pending.set(row.get(4));
            self.metrics.queue_usage.set(row.get(5));
            self.metrics.lock_waits.set(row.get(6));
        }
        Ok(attached | (round.is_multiple_of(NEWS_EVERY) && self.has_news().await?))
    }

    async fn maintain(&mut self) -> Result<(), Error> {
        let retention = self.config.log_retention.as_secs_f64();
        let bytes_max = i64::try_from(self.config.log_bytes_max).unwrap_or(i64::MAX);
        for row in self
            .ask(
                "maintain the log",
                &statements::administration::MAINTAIN,
                &[&retention, &bytes_max],
            )
            .await?
        {
            tracing::debug!(
                action = row.get::<_, &str>(0),
                detail = row.get::<_, &str>(1),
                "maintained the log"
            );
        }
        Ok(())
    }

    /// Attaches triggers where they are missing; whether any were attached.
    async fn sync(&mut self) -> Result<bool, Error> {
        let mut attached = false;
        for row in self
            .ask(
                "attach triggers",
                &statements::catalog::SYNC,
                &[&None::<u32>, &self.config.ddl],
            )
            .await?
        {
            let (table, action): (&str, &str) = (row.get(1), row.get(2));
            let (statement, error): (&str, &str) = (row.get(3), row.get(4));
            match action {
                "attached" => {
                    attached = true;
                    tracing::info!(table, statement, "attached triggers");
                }
                // Somebody holds the table; the next round tries again.
                "locked" => tracing::debug!(table, "a table is locked, its triggers must wait"),
                _ => self.complain(format!(
                    "triggers of {table} are missing; run: {statement} {error}"
                )),
            }
        }
        Ok(attached)
    }

    /// Partitions for the messages of the next days, none for those that are too old.
    async fn keep_messages(&mut self) -> Result<(), Error> {
        for row in self
            .ask("keep messages", &statements::messages::KEEP, &[])
            .await?
        {
            let (action, statement): (&str, &str) = (row.get(0), row.get(1));
            match action {
                "kept" => tracing::info!(statement, "kept the table of messages"),
                // Somebody holds it; the next round tries again.
                "locked" => tracing::debug!(statement, "the table of messages is locked"),
                _ => self.complain(format!(
                    "the table of messages needs: {statement} ({})",
                    row.get::<_, Option<&str>>(2).unwrap_or_default()
                )),
            }
        }
        Ok(())
    }

    async fn has_news(&mut self) -> Result<bool, Error> {
        let news: Option<String> = self
            .ask("look at the catalog", &statements::catalog::NEWS, &[])
            .await?[0]
            .get(0);
        // The first look counts as news: something may have been refused before it and changed since.
        let changed = self.news != news;
        self.news = news;
        Ok(changed)
    }

    /// Once per complaint, not once per round.
    fn complain(&mut self, complaint: String) {
        if !self.complaints.contains(&complaint) {
            tracing::warn!("{complaint}");
            self.complaints.insert(complaint);
        }
    }

    async fn ask(
        &self,
        action: &'static str,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        self.pool.ask(action, STEP_MAX, query, params).await
    }
}

const FAILED: &str = "housekeeping failed: ";
