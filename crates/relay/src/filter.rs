//! Filters after the database has looked at them: values canonical, ready to test against a row.

use std::sync::Arc;

use crate::view::Rights;

/// A binding that may go live.
#[derive(Debug, Clone)]
pub struct ResolvedBinding {
    /// The one table, by oid; `None` for wildcard bindings, which match by name at change time.
    pub relation: Option<u32>,
    /// All must hold. Empty: every row.
    pub tests: Arc<[FilterTest]>,
    /// What the subscriber's role may see of the one table.
    pub rights: Option<Arc<Rights>>,
}

/// One filter of a binding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterTest {
    /// Column name.
    pub column: Box<str>,
    /// `not.` was given. NULL results stay "no match" after negation, except for `IsNull`.
    pub negate: bool,
    /// The comparison.
    pub test: Test,
}

/// A comparison. The first group is decided by the relay on the row's JSON text; the capture side
/// chooses it only for types where that equals what PostgreSQL would say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// `is.null`, `is.unknown`.
    IsNull,
    /// `is.true`, `is.false`.
    IsBool(bool),
    /// `eq` and `in`: the column's value is one of these. `neq` is this, negated.
    OneOf(Arc<[Scalar]>),
    /// `isdistinct`: null-safe inequality.
    IsDistinct(Scalar),
    /// Ordering on integer columns.
    Order(Ordering, i64),
    /// Only PostgreSQL can tell. `op` is the filter's operator name, `value` its decoded text.
    Database {
        /// Operator, as in the filter grammar.
        op: pgrelay_protocol::FilterOp,
        /// Decoded value text.
        value: Box<str>,
    },
}

/// `lt`, `lte`, `gt`, `gte`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
}

/// A canonical value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// int2, int4, int8.
    Int(i64),
    /// bool.
    Bool(bool),
    /// uuid, as 16 bytes.
    Uuid([u8; 16]),
    /// Types whose equality is equality of their JSON string (text, varchar, enum, date,
    /// timestamp, timestamptz), decoded, in the database's canonical rendering.
    Text(Box<str>),
}
