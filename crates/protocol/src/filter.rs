//! The filter grammar of `postgres_changes`.

/// One parsed filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Column, literally.
    pub column: Box<str>,
    /// Operator.
    pub op: FilterOp,
    /// `not.` was given.
    pub negate: bool,
    /// Decoded value; for `in` a PostgreSQL array literal `{...}`.
    pub value: Box<str>,
}

/// The 13 operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the grammar's own")]
pub enum FilterOp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    Like,
    Ilike,
    Is,
    Match,
    Imatch,
    IsDistinct,
}
