//! Why the database refuses a binding that parses, in the words clients match on.

use std::borrow::Cow;

use crate::{
    binding::{self, BindingSpec},
    limits::IN_VALUES_MAX,
    sqlstate,
};

/// A refusal of the database. Each is final: asking again gives the same answer until the table,
/// its privileges or the publication change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// No published table matches.
    NotEnabled,
    /// The filtered column is unknown or not readable by the role.
    FilterColumn(&'a str),
    /// The selected column is unknown or not readable by the role.
    SelectColumn(&'a str),
    /// The type of the column was not found.
    ColumnType(&'a str),
    /// More than [`IN_VALUES_MAX`] values.
    InValues,
    /// Another word than `null`, `true`, `false`, `unknown`.
    IsValue,
    /// `is.true` and its like on a column that is not boolean.
    IsNotBoolean {
        /// The value: `true`, `false` or `unknown`.
        value: &'a str,
        /// The column's type, as `format_type` names it.
        type_name: &'a str,
    },
    /// `like`, `ilike`, `match` or `imatch` on a type that has no such operator.
    NotText {
        /// The operator's name in the filter grammar.
        op: &'a str,
        /// The column's type, as `format_type` names it.
        type_name: &'a str,
    },
    /// The pattern of `match` or `imatch` is no regular expression; holds PostgreSQL's words.
    Regex(&'a str),
    /// PostgreSQL raised an error of its own, most often a value that is none of the type.
    Raised {
        /// Five characters.
        sqlstate: &'a str,
        /// The primary message.
        message: &'a str,
    },
}

impl Refusal<'_> {
    /// The `message` of the `system` error for the binding `spec`.
    #[must_use]
    pub fn message(&self, spec: &BindingSpec) -> String {
        const PREFIX: &str = "Unable to subscribe to changes with given parameters.";
        let parameters = binding::describe(spec);
        let Some((code, message)) = self.exception() else {
            return format!(
                "{PREFIX} Please check Realtime is enabled for the given connect parameters: {parameters}"
            );
        };
        let condition = sqlstate::condition(code);
        format!(
            "{PREFIX} An exception happened so please check your connect parameters: {parameters}. \
             Exception: ERROR {code} ({condition}) {message}"
        )
    }

    /// SQLSTATE and message of the exception; `None` where nothing was raised.
    fn exception(&self) -> Option<(&str, Cow<'_, str>)> {
        let message = match self {
            Self::NotEnabled => return None,
            Self::Raised { sqlstate, message } => return Some((sqlstate, (*message).into())),
            Self::FilterColumn(column) => format!("invalid column for filter {column}"),
            Self::SelectColumn(column) => format!("invalid column for select {column}"),
            Self::ColumnType(column) => format!("failed to lookup type for column {column}"),
            Self::InValues => format!("too many values for `in` filter. Maximum {IN_VALUES_MAX}"),
            Self::IsValue => {
                "invalid value for is filter: must be null, true, false, or unknown".to_owned()
            }
            Self::IsNotBoolean { value, type_name } => {
                format!("is {value} filter requires a boolean column, got {type_name}")
            }
            Self::NotText { op, type_name } => {
                format!("operator {op} requires a text-compatible column type, got {type_name}")
            }
            Self::Regex(message) => {
                format!("invalid regular expression for match filter: {message}")
            }
        };
        Some(("P0001", message.into()))
    }
}
