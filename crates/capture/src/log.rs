//! Past changes for clients that were away, from the log through the ledger.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use pgrelay_protocol::{Position, RefetchReason, Topic};
use pgrelay_relay::{
    FailPoint,
    change::Page,
    ports::{ChangeLog, MessageLog, Replay, ReplayError, StoredMessage},
};
use tokio::time::timeout;

use crate::{
    catalog::Catalog,
    error::Error,
    ledger::Batch,
    messages,
    metrics::Metrics,
    pool::{self, Pool},
    query::{Lane, Params},
    reader::{self, BatchReader, PAGE_ROWS, ReadError},
    statements,
};

/// A part of a replay that takes longer is given up; the session asks again.
const REPLAY_MAX: Duration = Duration::from_secs(30);
/// Ledger rows looked at in one round trip.
const BATCHES_MAX: i64 = 256;

/// Reads past changes over pooled connections.
#[derive(Debug, Clone)]
pub struct Log {
    pool: Pool,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    message_bytes_max: usize,
}

impl Log {
    pub(crate) fn new(
        pool: Pool,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        message_bytes_max: usize,
    ) -> Self {
        Self {
            pool,
            catalog,
            metrics,
            message_bytes_max,
        }
    }

    async fn replay(&self, after: Position, bytes_max: usize) -> Result<Replay, Failure> {
        let client = self.pool.get().await.map_err(Failure::Error)?;
        match timeout(
            REPLAY_MAX,
            self.scan(Lane::pooled(&client), after, bytes_max),
        )
        .await
        {
            Ok(replay) => replay,
            Err(_elapsed) => {
                pool::discard(client);
                Err(Failure::Error(Error::Frozen {
                    action: "read the change log",
                    limit: REPLAY_MAX,
                }))
            }
        }
    }

    async fn scan(
        &self,
        lane: Lane<'_>,
        after: Position,
        bytes_max: usize,
    ) -> Result<Replay, Failure> {
        let (start, following) = self.locate(lane, after).await?;
        let mut scan = Scan {
            catalog: &self.catalog,
            lane,
            bytes_left: bytes_max,
            pages: Vec::new(),
            reached: after,
        };
        scan.batch(BatchReader::new(start, after.seq)).await?;
        let mut rest = &following[..];
        while !rest.is_empty() && scan.bytes_left > 0 {
            let (group, later) = rest.split_at(group_len(rest));
            for reader in reader::read_range(lane, group[0].id - 1, group).await? {
                if scan.bytes_left > 0 {
                    scan.batch(reader).await?;
                }
            }
            rest = later;
        }
        let Scan { pages, reached, .. } = scan;
        // What a TRUNCATE took away meanwhile is not seen by counting when the scan began within a batch.
        let floor = floor(lane).await?;
        if floor >= start.id && after.seq != i64::MAX && !FailPoint::IgnoresTheFloor.is_on() {
            return Err(Failure::Refetch(RefetchReason::Retention));
        }
        self.metrics.replays.inc();
        Ok(Replay { pages, reached })
    }

    /// The batch of `after`, which must be the one the cursor was made in, and the batches behind it.
    async fn locate(
        &self,
        lane: Lane<'_>,
        after: Position,
    ) -> Result<(Batch, Vec<Batch>), Failure> {
        let id = i64::try_from(after.batch)
            .map_err(|_beyond| Failure::Refetch(RefetchReason::Forged))?;
        let (one, many): (Params<'_>, Params<'_>) = (&[&id], &[&id, &BATCHES_MAX]);
        let (this, last, floor, following) = futures::try_join!(
            lane.first(&statements::ledger::BY_ID, one),
            lane.first(&statements::ledger::LAST, &[]),
            floor(lane),
            lane.rows(&statements::ledger::AFTER, many),
        )?;
        let this = this.as_ref().map(Batch::from_row);
        let last = last.as_ref().map(Batch::from_row);
        let following = following.iter().map(Batch::from_row);
        let following = following
            .take_while(|batch| batch.epoch.unsigned_abs() == after.epoch)
            .collect();
        let floor = if FailPoint::IgnoresTheFloor.is_on() {
            0
        } else {
            floor
        };
        match judge(after, this, last, floor) {
            Ok(start) => Ok((start, following)),
            Err(reason) => Err(Failure::Refetch(reason)),
        }
    }
}

/// Whether the history after `after` can be told; the batch to start in.
fn judge(
    after: Position,
    this: Option<Batch>,
    last: Option<Batch>,
    floor: i64,
) -> Result<Batch, RefetchReason> {
    let Some(last) = last else {
        return Err(RefetchReason::Epoch);
    };
    let epoch = last.epoch.unsigned_abs();
    if after.epoch != epoch {
        // Ours end with the epoch; a later one was made by a history that was undone.
        return Err(RefetchReason::Epoch);
    }
    match this {
        // The batch is not there any more, or not yet: a tail that was lost.
        None if after.batch > last.id.unsigned_abs() => Err(RefetchReason::Epoch),
        None => Err(RefetchReason::Retention),
        Some(batch) if !batch.holds(after) && !FailPoint::TakesAnyTag.is_on() => {
            Err(RefetchReason::Epoch)
        }
        Some(batch) if batch.id < floor || batch.id == floor && after.seq != i64::MAX => {
            Err(RefetchReason::Retention)
        }
        Some(_) if after.seq < 0 => Err(RefetchReason::Forged),
        Some(batch) => Ok(batch),
    }
}

/// How many of the next batches fit one page together; at least one.
fn group_len(batches: &[Batch]) -> usize {
    let mut rows = 0;
    let fit = batches.iter().take_while(|batch| {
        rows += batch.n;
        rows <= i64::from(PAGE_ROWS)
    });
    fit.count().max(1)
}

/// A replay under way.
struct Scan<'a> {
    catalog: &'a Catalog,
    lane: Lane<'a>,
    bytes_left: usize,
    pages: Vec<Arc<Page>>,
    reached: Position,
}

impl Scan<'_> {
    async fn batch(&mut self, mut reader: BatchReader) -> Result<(), Failure> {
        while self.bytes_left > 0
            && let Some(portion) = reader.next(self.lane, self.catalog).await?
        {
            self.reached = portion.end;
            if let Some(page) = portion.page {
                self.bytes_left = self.bytes_left.saturating_sub(page.bytes);
                self.pages.push(Arc::new(page));
            }
        }
        Ok(())
    }
}

async fn floor(lane: Lane<'_>) -> Result<i64, tokio_postgres::Error> {
    lane.scalar(&statements::ledger::FLOOR).await
}

enum Failure {
    Refetch(RefetchReason),
    Error(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Error(Error::query("read the change log")(error))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Refetch(RefetchReason::Retention),
            ReadError::Database(error) => error.into(),
        }
    }
}

impl ChangeLog for Log {
    fn read(
        &self,
        after: Position,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Replay, ReplayError>> {
        let log = self.clone();
        async move {
            match log.replay(after, bytes_max.max(1)).await {
                Ok(replay) => Ok(replay),
                Err(Failure::Refetch(reason)) => Err(ReplayError::Refetch(reason)),
                Err(Failure::Error(error)) => {
                    Err(ReplayError::Unavailable(error.report().to_string()))
                }
            }
        }
        .boxed()
    }
}

impl MessageLog for Log {
    fn replay(
        &self,
        topic: Topic,
        since_ms: i64,
        limit: u8,
    ) -> BoxFuture<'static, Result<Vec<StoredMessage>, ReplayError>> {
        let (pool, bytes_max) = (self.pool.clone(), self.message_bytes_max);
        async move {
            messages::replay(&pool, &topic, since_ms, limit, bytes_max)
                .await
                .map_err(|error| {
                    let report = error.report().to_string();
                    tracing::warn!(error = report, "stored messages cannot be read");
                    ReplayError::Unavailable(report)
                })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn batch(epoch: i32, id: i64) -> Batch {
        Batch {
            epoch,
            id,
            tag: Uuid::from_u128(7 << 64),
            n: 10,
        }
    }

    #[test]
    fn a_cursor_is_honoured_only_in_its_own_history() {
        let here = Position {
            epoch: 2,
            batch: 5,
            seq: 100,
            tag: 7,
        };
        let end = Position {
            seq: i64::MAX,
            ..here
        };
        let check = |after, this, floor, want: Result<i64, RefetchReason>| {
            assert_eq!(
                judge(after, this, Some(batch(2, 9)), floor).map(|batch| batch.id),
                want,
                "{after:?}"
            );
        };
        check(here, Some(batch(2, 5)), 0, Ok(5));
        check(here, Some(batch(2, 5)), 4, Ok(5));
        check(here, Some(batch(2, 5)), 5, Err(RefetchReason::Retention));
        check(end, Some(batch(2, 5)), 5, Ok(5));
        check(end, Some(batch(2, 5)), 6, Err(RefetchReason::Retention));
        check(here, None, 0, Err(RefetchReason::Retention));
        check(
            Position { batch: 10, ..here },
            None,
            0,
            Err(RefetchReason::Epoch),
        );
        check(
            Position { tag: 8, ..here },
            Some(batch(2, 5)),
            0,
            Err(RefetchReason::Epoch),
        );
        check(
            Position { epoch: 1, ..here },
            Some(batch(1, 5)),
            0,
            Err(RefetchReason::Epoch),
        );
        check(
            Position { epoch: 3, ..here },
            Some(batch(2, 5)),
            0,
            Err(RefetchReason::Epoch),
        );
        check(
            Position { seq: -1, ..here },
            Some(batch(2, 5)),
            0,
            Err(RefetchReason::Forged),
        );
        assert_eq!(judge(here, None, None, 0), Err(RefetchReason::Epoch));
    }

    #[test]
    fn small_batches_are_read_together_and_large_ones_alone() {
        let sized = |n| Batch { n, ..batch(1, 1) };
        assert_eq!(group_len(&[sized(500), sized(12), sized(1)]), 2);
        assert_eq!(group_len(&[sized(1_000_000), sized(1)]), 1);
        assert_eq!(group_len(&[sized(0), sized(512), sized(1)]), 2);
    }
}
