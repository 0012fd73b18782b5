//! A `postgres_changes` entry of a join.

use crate::{filter::Filter, inspect::Inspect};

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
    /// Columns asked for; `None` means all. Never empty.
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

impl EventKind {
    /// Reads an event in any letter case; what is not known means all of them.
    #[must_use]
    pub fn parse(event: &str) -> Self {
        [Self::Insert, Self::Update, Self::Delete]
            .into_iter()
            .find(|kind| event.eq_ignore_ascii_case(kind.as_str()))
            .unwrap_or(Self::All)
    }

    /// The event's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

impl NamePattern {
    /// Reads a name; `*` is every name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "*" => Self::Any,
            name => Self::Exact(name.into()),
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(name) => name,
        }
    }
}

/// The parameters of `spec` as subscribe errors print them:
/// `[event: INSERT, schema: public, table: todos, filters: [{"id", "eq", "1", false}], select: nil]`.
#[must_use]
pub fn describe(spec: &BindingSpec) -> String {
    let BindingSpec {
        event,
        schema,
        table,
        filters,
        select,
    } = spec;
    let mut text = Inspect::after(format!(
        "[event: {}, schema: {}, table: {}, filters: ",
        event.as_str(),
        schema.as_str(),
        table.as_str()
    ));
    text.list(("[", "]"), filters, |text, filter| {
        text.raw("{");
        for part in [&*filter.column, filter.op.as_str(), &*filter.value] {
            text.string(part);
            text.raw(", ");
        }
        text.raw(if filter.negate { "true}" } else { "false}" });
    });
    text.raw(", select: ");
    match select {
        None => text.raw("nil"),
        Some(columns) => text.list(("[", "]"), columns, |text, column| text.string(column)),
    }
    text.raw("]");
    text.finish()
}
