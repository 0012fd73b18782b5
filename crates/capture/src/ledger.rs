//! Batches: what the ledger says of them, and positions in them.

use pgrelay_protocol::Position;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::query::Query;

/// The newest batch.
pub(crate) const LAST: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger order by id desc limit 1",
    &[],
);
/// One batch.
pub(crate) const BY_ID: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger where id = $1",
    &[Type::INT8],
);
/// The batches after one, oldest first.
pub(crate) const AFTER: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger where id > $1 order by id limit $2",
    &[Type::INT8, Type::INT8],
);
/// The last batch whose rows may be gone.
pub(crate) const FLOOR: Query = Query::new(
    "select coalesce(max(value::bigint), 0) from pgrelay.meta where key = 'floor'",
    &[],
);

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
