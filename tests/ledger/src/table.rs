//! The tables of the workload.

/// A table of `workload.sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// Nothing but our triggers.
    Plain,
    /// A trigger of the user's changes other rows of the statement that fired it.
    Chained,
    /// A function of the user's, called in the middle of an UPDATE, changes rows of the same table.
    Calling,
}

/// Rows that exist at the beginning, and the ids that writers use: `0..IDS`.
pub(crate) const IDS: u32 = 40;

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Chained, Self::Calling];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Chained => "chained",
            Self::Calling => "calling",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// A row from its insert to its delete: a key that is used again begins another life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) table: Table,
    pub(crate) number: i64,
}
