//! A broken promise.

use std::fmt;

/// Which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A committed change was not delivered.
    Lost,
    /// A change was delivered again.
    Twice,
    /// A change was delivered that was never committed, or that is not this database's.
    Phantom,
    /// A transaction was delivered in more than one batch.
    Split,
    /// The versions of a row were not delivered in their order.
    OutOfOrder,
    /// A transaction was delivered before one that was committed when it began.
    Overtaken,
    /// A batch does not have the rows that the ledger counted.
    Miscounted,
    /// Batches are not numbered one by one.
    Numbering,
    /// Batches are made though nothing happens.
    Endless,
    /// A position leads to other rows than it did, and nothing says so.
    Rewritten,
    /// History was given up that retention promises.
    TooShort,
    /// What was delivered was not durable.
    Gone,
    /// A cursor of another history was accepted.
    Confused,
    /// The log made a writer's transaction fail.
    WriterFailed,
    /// A statement of the relay failed.
    RelayFailed,
    /// A hole was spoken of though nothing was missing.
    FalseHole,
}

/// A broken promise with its circumstances.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
