//! What the writers did, on the clock of the run. Which transactions came to be is asked of the database at the end: each
//! leaves its tag in table `outcomes`.

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
}

/// A version of a row. A row that is made again has another life; each UPDATE counts `v` up by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Version {
    /// Place in [`crate::table::TABLES`].
    pub(crate) table: usize,
    pub(crate) id: i64,
    pub(crate) life: i64,
    pub(crate) v: i64,
}

/// One change of one row: the version it made, or took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) version: Version,
}

/// One transaction.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Its rows carry it.
    pub(crate) tag: String,
    pub(crate) began: u64,
    /// Unix time, seconds.
    pub(crate) began_at: u64,
    /// When the server said that it is committed.
    pub(crate) acknowledged: Option<u64>,
    /// In order, without what was rolled back to a savepoint.
    pub(crate) changes: Vec<Change>,
}

/// All transactions.
#[derive(Debug, Default)]
pub(crate) struct Book(pub(crate) Vec<Attempt>);

impl Book {
    /// Opens an entry; its place.
    pub(crate) fn begin(&mut self, tag: String, began: u64, began_at: u64) -> usize {
        self.0.push(Attempt {
            tag,
            began,
            began_at,
            acknowledged: None,
            changes: Vec::new(),
        });
        self.0.len() - 1
    }
}
