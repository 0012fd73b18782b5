//! Reads batches page by page: bounded in rows and bytes whatever the batch, complete or refused.
//!
//! Used by `source.rs` for what STEP has just made and by `log.rs` for replays; both get the same
//! pages of the same changes.

use std::collections::{HashMap, VecDeque};

use pgrelay_protocol::Position;
use pgrelay_relay::{FailPoint, change::Page, ports::StoredMessage};
use tokio_postgres::{Error, Row, types::ToSql};

use crate::{
    catalog::Catalog,
    chain::{self, Link},
    ledger::Batch,
    logged::{self, Logged, Plan},
    messages,
    query::{Lane, Query},
    statements,
    values::{Timestamp, Xid},
};

/// Rows of one page.
pub(crate) const PAGE_ROWS: i32 = 512;
/// Bytes of images after which a page ends; one more row may exceed it.
pub(crate) const PAGE_BYTES: i64 = 1 << 20;

/// The statements a live session sends all the time.
pub(crate) const LIVE: [&Query; 3] = [
    &statements::ledger::READ,
    &statements::catalog::VERSIONS,
    &statements::ledger::AFTER,
];

/// Why a batch cannot be read to its end.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// Rows of it were recycled.
    Gone,
    /// The database did not answer, or not as it should.
    Database(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// A step through a batch.
#[derive(Debug)]
pub(crate) struct Portion {
    /// What is to be told; nothing where only unpublished tables changed.
    pub(crate) page: Option<Page>,
    /// Messages between its changes.
    pub(crate) messages: Vec<StoredMessage>,
    /// Everything up to here is settled.
    pub(crate) end: Position,
}

/// Parameters of [`READ`].
pub(crate) fn read_params<'a>(batch: &'a i64, after: &'a i64) -> [&'a (dyn ToSql + Sync); 4] {
    [batch, after, &PAGE_ROWS, &PAGE_BYTES]
}

/// Rows from an answer to [`READ`].
pub(crate) fn rows(answer: &[Row]) -> Vec<Logged> {
    answer.iter().map(|row| Logged::from_row(row, 0)).collect()
}

/// Reads one batch.
#[derive(Debug)]
pub(crate) struct BatchReader {
    batch: Batch,
    /// Places up to here are not told.
    after: i64,
    /// Rows read so far, counted from the start of the batch; unknown when started within it.
    seen: Option<i64>,
    /// Rows at hand: the start of the batch.
    prefetched: Option<Vec<Logged>>,
    plan: Option<Plan>,
    done: bool,
}

impl BatchReader {
    /// From the change after `after` on (0: from the start).
    pub(crate) fn new(batch: Batch, after: i64) -> Self {
        let seen = (after == 0).then_some(0);
        Self {
            batch,
            after,
            seen,
            prefetched: None,
            plan: None,
            done: batch.n == 0 || after == i64::MAX,
        }
    }

    /// From the start of the batch, whose first rows are at hand.
    pub(crate) fn prefetched(batch: Batch, rows: Vec<Logged>) -> Self {
        Self {
            prefetched: Some(rows),
            ..Self::new(batch, 0)
        }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(
        &mut self,
        lane: Lane<'_>,
        catalog: &Catalog,
    ) -> Result<Option<Portion>, ReadError> {
        if self.done {
            return Ok(None);
        }
        if self.plan.is_none() {
            self.make_plan(lane).await?;
        }
        let rows = match self.prefetched.take() {
            Some(rows) => rows,
            None => rows_after(lane, &self.batch, self.after).await?,
        };
        self.advance(&rows)?;
        let end = match rows.last() {
            Some(last) if !self.done => self.batch.at(last.seq),
            _ => self.batch.end(),
        };
        let plan = self.plan.get_or_insert_default();
        let foreign = pick(lane, &self.batch, logged::missing(&rows, plan)).await?;
        let relations = catalog.relations(lane, &logged::tables(&rows)).await?;
        let messages = messages::told(&rows);
        let changes = logged::changes(rows, foreign, plan, &relations);
        let page = (!changes.is_empty()).then(|| Page::new(changes, end));
        Ok(Some(Portion {
            page,
            messages,
            end,
        }))
    }

    /// Looks at the whole batch: itself where it fits a page, else a summary of it.
    async fn make_plan(&mut self, lane: Lane<'_>) -> Result<(), ReadError> {
        if self.prefetched.is_none() && self.batch.n <= i64::from(PAGE_ROWS) {
            self.prefetched = Some(rows_after(lane, &self.batch, 0).await?);
        }
        match &mut self.prefetched {
            Some(whole) if i64::try_from(whole.len()).is_ok_and(|len| len == self.batch.n) => {
                self.plan = Some(Plan::of_whole_batch(whole));
                whole.retain(|row| row.seq > self.after);
                self.seen = Some(self.batch.n - i64::try_from(whole.len()).unwrap_or(0));
            }
            _ => {
                self.plan = Some(plan_from_summary(lane, &self.batch).await?);
                if self.after > 0 {
                    self.prefetched = None;
                }
            }
        }
        Ok(())
    }

    /// Notes that `rows` were read; [`ReadError::Gone`] where some are missing.
    fn advance(&mut self, rows: &[Logged]) -> Result<(), ReadError> {
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if let Some(last) = rows.last() {
            self.after = last.seq;
        }
        match &mut self.seen {
            Some(seen) => {
                *seen += read;
                self.done = *seen >= self.batch.n
                    || (rows.is_empty() && FailPoint::IgnoresTheFloor.is_on());
                if rows.is_empty() && !self.done {
                    return Err(ReadError::Gone);
                }
            }
            // The caller compares with the floor afterwards.
            None => {
                let bytes: usize = rows.iter().map(Logged::bytes).sum();
                let full = read >= i64::from(PAGE_ROWS)
                    || i64::try_from(bytes).is_ok_and(|b| b >= PAGE_BYTES);
                self.done = !full;
            }
        }
        Ok(())
    }
}

/// Several small batches after `after`, up to `last`, in one round trip; `batches` are those of the
/// ledger. Each comes as a reader that has its rows at hand.
pub(crate) async fn read_range(
    lane: Lane<'_>,
    after: i64,
    batches: &[Batch],
) -> Result<VecDeque<BatchReader>, ReadError> {
    let Some(last) = batches.last() else {
        return Ok(VecDeque::new());
    };
    let answer = lane
        .rows(
            &statements::ledger::READ_RANGE,
            &[&after, &last.id, &PAGE_ROWS, &PAGE_BYTES],
        )
        .await?;
    let mut by_batch: HashMap<i64, Vec<Logged>> = HashMap::new();
    for row in &answer {
        by_batch
            .entry(row.get(0))
            .or_default()
            .push(Logged::from_row(row, 1));
    }
    let reader = |batch: &Batch| match by_batch.remove(&batch.id) {
        Some(rows) => BatchReader::prefetched(*batch, rows),
        None => BatchReader::new(*batch, 0),
    };
    Ok(batches.iter().map(reader).collect())
}

async fn rows_after(lane: Lane<'_>, batch: &Batch, after: i64) -> Result<Vec<Logged>, ReadError> {
    Ok(rows(
        &lane
            .rows(&statements::ledger::READ, &read_params(&batch.id, &after))
            .await?,
    ))
}

async fn pick(lane: Lane<'_>, batch: &Batch, seqs: Vec<i64>) -> Result<Vec<Logged>, ReadError> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(rows(
        &lane
            .rows(&statements::ledger::PICK, &[&batch.id, &seqs])
            .await?,
    ))
}

async fn plan_from_summary(lane: Lane<'_>, batch: &Batch) -> Result<Plan, ReadError> {
    let answer = lane
        .rows(&statements::ledger::SUMMARY, &[&batch.id])
        .await?;
    let mut plan = Plan::default();
    let mut followers = 0;
    for row in &answer {
        if let Some(xid) = row.get::<_, Option<Xid>>(2) {
            plan.last_at.insert(xid, row.get::<_, Timestamp>(3));
            continue;
        }
        let counted = row.get::<_, Option<i64>>(0);
        if counted != Some(batch.n) && !FailPoint::IgnoresTheFloor.is_on() {
            return Err(ReadError::Gone);
        }
        followers = row.get::<_, Option<i64>>(1).unwrap_or(0);
    }
    if followers > 0 {
        let answer = lane
            .rows(&statements::ledger::INVERSIONS, &[&batch.id])
            .await?;
        let links: Vec<Link> = answer
            .iter()
            .map(|row| Link {
                seq: row.get(0),
                after: row.get(1),
            })
            .collect();
        plan.moved = chain::reorder(&links);
    }
    Ok(plan)
}
