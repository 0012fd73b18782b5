//! What became of a writer's transaction, as the writer knows it.

/// One transaction of a writer.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// The text that its rows carry.
    pub(crate) tag: String,
    /// When it was begun, on the clock of the run.
    pub(crate) began: u64,
    /// The transaction id, known to all that got as far as their ending.
    pub(crate) xid: Option<u64>,
    /// Rows changed by what was not rolled back to a savepoint.
    pub(crate) changes: usize,
    /// Whether its COMMIT waited for the disk.
    pub(crate) synchronous: bool,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server said so, at this time on the clock of the run.
    Committed { acknowledged: u64 },
    /// Rolled back, or never came to its end.
    Never,
    /// The connection was lost while the end was under way.
    Unknown,
}

impl Attempt {
    pub(crate) fn begin(tag: String, began: u64, synchronous: bool) -> Self {
        Self {
            tag,
            began,
            xid: None,
            changes: 0,
            synchronous,
            outcome: Outcome::Never,
        }
    }
}
