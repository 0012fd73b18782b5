//! What a reader of the ledger was given.

use uuid::Uuid;

use crate::table::{Life, Table};

/// A batch, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) id: i64,
    pub(crate) tag: Uuid,
    /// How many rows the ledger says it has.
    pub(crate) n: i64,
    /// Other batches with its number.
    pub(crate) namesakes: usize,
    /// In delivered order.
    pub(crate) rows: Vec<Row>,
}

/// A row of the log at its place in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it is delivered: its own seq, or that of another version of the same row where a user's trigger upset the order.
    pub(crate) place: i64,
    pub(crate) seq: i64,
    pub(crate) xid: u64,
    /// `None`: a table that is not of the workload, or no table at all.
    pub(crate) table: Option<Table>,
    pub(crate) change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Insert {
        new: Image,
    },
    Update {
        old: Image,
        new: Image,
    },
    Delete {
        old: Image,
    },
    /// Changes may be missing before this.
    Hole,
}

/// A version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: i64,
    pub(crate) life: i64,
    pub(crate) v: i64,
    pub(crate) tag: String,
}

/// Where a version stands in the life of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) life: Life,
    /// 1 for the insert, one more for each change.
    pub(crate) number: i64,
    /// The row is gone after it.
    pub(crate) last: bool,
}

impl Change {
    /// The text of the transaction that made it; a delete carries none.
    pub(crate) fn tag(&self) -> Option<&str> {
        match self {
            Self::Insert { new } | Self::Update { new, .. } => Some(&new.tag),
            Self::Delete { .. } | Self::Hole => None,
        }
    }
}

impl Row {
    pub(crate) fn version(&self) -> Option<Version> {
        let (image, number, last) = match &self.change {
            Change::Insert { new } | Change::Update { new, .. } => (new, new.v, false),
            Change::Delete { old } => (old, old.v + 1, true),
            Change::Hole => return None,
        };
        let life = Life {
            table: self.table?,
            number: image.life,
        };
        Some(Version { life, number, last })
    }
}
