//! From batches of the ledger to events of the relay: every page once, in order, and a word where
//! that cannot be.

use std::{pin::pin, sync::Arc};

use pgrelay_protocol::RefetchReason;
use pgrelay_relay::{
    FailPoint,
    change::{Operation, Page},
    ports::{FeedEvent, Stopped},
};

use crate::{
    error::Error,
    ledger::Batch,
    live::Live,
    messages,
    query::Lane,
    reader::{BatchReader, Portion, ReadError},
    source::{Exit, Told},
    statements,
};

/// Ledger rows read at once.
const BATCHES_MAX: i64 = 256;

impl Told {
    /// Whether `batch` is what comes next.
    pub(crate) fn is_followed_by(&self, batch: &Batch) -> bool {
        self.seq == i64::MAX && batch.id == self.batch.id + 1 && batch.epoch == self.batch.epoch
    }
}

impl Live<'_, '_> {
    /// Tells every batch after the last one told; whether there was one.
    pub(crate) async fn tail(&mut self) -> Result<bool, Exit> {
        let mut found = false;
        loop {
            let after = self.told.batch.id;
            let rows = self
                .session
                .rows(
                    "read the ledger",
                    &statements::ledger::AFTER,
                    &[&after, &BATCHES_MAX],
                )
                .await?;
            if rows.is_empty() {
                return Ok(found);
            }
            found = true;
            for batch in rows.iter().map(Batch::from_row) {
                // Not where an overrun has jumped ahead of it.
                if batch.id <= self.told.batch.id {
                    continue;
                }
                if batch.epoch == self.told.batch.epoch {
                    self.deliver(batch, BatchReader::new(batch, 0)).await?;
                } else {
                    self.break_off(RefetchReason::Epoch, batch).await?;
                }
            }
        }
    }

    /// Tells the rest of a batch that an earlier connection left half told.
    pub(crate) async fn finish_batch(&mut self) -> Result<(), Exit> {
        let Told { batch, seq } = self.told;
        if seq == i64::MAX {
            return Ok(());
        }
        self.deliver(batch, BatchReader::new(batch, seq)).await?;
        // Begun in its middle, a batch cannot be counted; the floor tells whether rows went away.
        let floor: i64 = self
            .session
            .rows("read the floor", &statements::ledger::FLOOR, &[])
            .await?[0]
            .get(0);
        if floor >= batch.id {
            self.overrun().await?;
        }
        Ok(())
    }

    /// Tells a batch page by page. Waits for the relay before it reads on: the log is the buffer.
    pub(crate) async fn deliver(
        &mut self,
        batch: Batch,
        mut reader: BatchReader,
    ) -> Result<(), Exit> {
        const ACTION: &str = "read a batch";
        loop {
            let lane = Lane::direct(&self.session.client, &self.session.prepared);
            let reading = reader.next(lane, &self.run.source.catalog);
            match self
                .session
                .wire
                .drive(ACTION, self.run.patience, reading)
                .await?
            {
                Ok(Some(portion)) => self.tell(batch, portion).await?,
                Ok(None) => break,
                Err(ReadError::Gone) => return self.overrun().await,
                Err(ReadError::Database(error)) => return Err(Error::query(ACTION)(error).into()),
            }
        }
        self.run.source.metrics.batches.inc();
        Ok(())
    }

    async fn tell(&mut self, batch: Batch, portion: Portion) -> Result<(), Exit> {
        let told = Told {
            batch,
            seq: portion.end.seq,
        };
        let step = match portion.page {
            Some(page) => {
                self.count_page(&page);
                FeedEvent::Page(Arc::new(page))
            }
            None => FeedEvent::Head(portion.end),
        };
        let bytes_max = self.run.source.config.message_bytes_max;
        let mut messages = portion.messages;
        messages.retain(|message| messages::fits(message, bytes_max));
        self.run.source.metrics.messages.inc_by(count(&messages));
        let messages = (!messages.is_empty()).then(|| FeedEvent::Messages(messages.into()));
        self.publish([step].into_iter().chain(messages), told).await
    }

    fn count_page(&self, page: &Page) {
        let metrics = &self.run.source.metrics;
        let holes = page
            .changes
            .iter()
            .filter(|change| change.operation == Operation::Hole)
            .count();
        metrics.rows.inc_by(count(&page.changes));
        metrics.holes.inc_by(holes.try_into().unwrap_or(u64::MAX));
    }

    /// Batches were recycled before they were told: on from the newest.
    async fn overrun(&mut self) -> Result<(), Exit> {
        let rows = self
            .session
            .rows("read the ledger", &statements::ledger::LAST, &[])
            .await?;
        let last = rows.first().map_or(self.told.batch, Batch::from_row);
        let reason = if last.epoch == self.told.batch.epoch {
            RefetchReason::Retention
        } else {
            RefetchReason::Epoch
        };
        self.break_off(reason, last).await
    }

    /// The history up to `head` cannot be told.
    pub(crate) async fn break_off(
        &mut self,
        reason: RefetchReason,
        head: Batch,
    ) -> Result<(), Exit> {
        tracing::warn!(
            ?reason,
            batch = head.id,
            "subscribers are told to fetch again"
        );
        if reason == RefetchReason::Epoch {
            self.run.source.metrics.epochs.inc();
        }
        let told = Told {
            batch: head,
            seq: i64::MAX,
        };
        let head = head.end();
        if FailPoint::KeepsQuietAboutBreaks.is_on() {
            return self.publish([FeedEvent::Head(head)], told).await;
        }
        self.publish([FeedEvent::Break { reason, head }], told)
            .await
    }

    /// Hands events over and notes `told`. A relay that takes its time is waited for; meanwhile the
    /// connection is kept alive. Events are never handed to some shards only, nor some of them alone,
    /// so this is finished even when the connection ends.
    pub(crate) async fn publish(
        &mut self,
        events: impl IntoIterator<Item = FeedEvent, IntoIter: Send>,
        told: Told,
    ) -> Result<(), Exit> {
        let feed = self.run.feed;
        let events = events.into_iter();
        let mut publishing = pin!(async move {
            for event in events {
                feed.publish(event).await?;
            }
            Ok::<_, Stopped>(())
        });
        let lost = tokio::select! {
            biased;
            published = &mut publishing => {
                published?;
                None
            }
            lost = self.session.keep_alive() => Some(lost),
        };
        if lost.is_some() {
            publishing.await?;
        }
        self.told = told;
        self.run.note(told);
        lost.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn count<T>(items: &[T]) -> u64 {
    items.len().try_into().unwrap_or(u64::MAX)
}
