//! Batches: what the ledger says of them, and positions in them.

use pgrelay_protocol::Position;
use tokio_postgres::Row;
use uuid::Uuid;

/// A row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) epoch: i32,
    pub(crate) id: i64,
    pub(crate) tag: Uuid,
    /// Rows.
    pub(crate) n: i64,
}

impl Batch {
    /// From a row that starts with `epoch, id, tag, n`.
    pub(crate) fn from_row(row: &Row) -> Self {
        Self {
            epoch: row.get(0),
            id: row.get(1),
            tag: row.get(2),
            n: row.get(3),
        }
    }

    /// Everything up to and including `seq`.
    pub(crate) fn at(&self, seq: i64) -> Position {
        let tag = self.tag.as_u64_pair().0;
        // The columns are counted up from 1.
        Position {
            epoch: self.epoch.unsigned_abs(),
            batch: self.id.unsigned_abs(),
            seq,
            tag,
        }
    }

    /// The whole batch.
    pub(crate) fn end(&self) -> Position {
        self.at(i64::MAX)
    }

    /// Whether a position claims to lie in this very batch.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.at(position.seq) == position
    }
}
