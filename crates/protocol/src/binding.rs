//! A `postgres_changes` entry of a join.

use crate::filter::Filter;

/// What a valid entry asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BindingSpec {
    /// Which operations.
    pub event: EventKind,
    /// Schema.
    pub schema: NamePattern,
    /// Table.
    pub table: NamePattern,
    /// All must hold; empty means every row.
    pub filters: Vec<Filter>,
    /// Columns asked for; `None` means all.
    pub select: Option<Vec<Box<str>>>,
}

/// Operations of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `*`, absent or an unknown word.
    All,
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
}

/// An exact catalog name, or every name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// `*`
    Any,
    /// Exactly this name, catalog case.
    Exact(Box<str>),
}
