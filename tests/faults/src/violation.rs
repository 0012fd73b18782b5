//! What must not happen.

use std::fmt;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A committed change never came.
    Lost,
    /// A change came twice.
    Twice,
    /// Changes came in a wrong order.
    Reordered,
    /// A change came that was never committed.
    Phantom,
    /// Something came that its receiver must not see.
    Unauthorised,
    /// A change came that its receiver did not ask for.
    Unwanted,
    /// A value is not what was written.
    Altered,
    /// A writer failed because of us.
    Aborted,
    /// Nothing moved any more, or not soon enough.
    Stalled,
    /// A client was told to fetch again without need.
    Refetch,
    /// A client does not have what the tables have.
    Diverged,
    /// One change has two cursors.
    Cursor,
    /// Memory or descriptors are out of bounds.
    Bounds,
    /// Something secret is in the log of the relay.
    Secret,
    /// The relay panicked, ended or refused what it must not.
    Broke,
}

/// One of these, with the circumstances.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
