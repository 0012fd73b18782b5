//! The filter grammar of `postgres_changes`.
//!
//! ```text
//! filter  := segment ("," segment)*          all must hold
//! segment := column "=" ["not."] operator "." value
//! ```

use std::fmt;

use crate::{
    inspect::Inspect,
    limits::{FILTER_BYTES_MAX, FILTERS_PER_BINDING_MAX},
};

/// One parsed filter.
///
/// Its `Display` is a segment that [`parse`] reads back, as long as the column's name holds none
/// of `=`, `,`, `(`, `)`, `"` and no blanks at its start: the grammar has no quoting for columns.
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

/// Reads a `filter`. Blank text is no filter. An error is the exact text the client is told.
pub fn parse(text: &str) -> Result<Vec<Filter>, String> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(error(format!(
            "filter must not be longer than {FILTER_BYTES_MAX} bytes"
        )));
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut filters = Vec::new();
    for segment in segments(text) {
        if filters.len() == FILTERS_PER_BINDING_MAX {
            return Err(error(format!(
                "filter must not have more than {FILTERS_PER_BINDING_MAX} conditions"
            )));
        }
        filters.push(parse_segment(segment.trim()).map_err(error)?);
    }
    Ok(filters)
}

fn error(detail: impl fmt::Display) -> String {
    format!("Error parsing `filter` params: {detail}")
}

/// Splits at the commas that are neither in parentheses nor in quotes.
fn segments(text: &str) -> impl Iterator<Item = &str> {
    let mut scan = Scan::default();
    let mut previous = '\0';
    text.split(move |char| scan.is_separator(char, std::mem::replace(&mut previous, char)))
}

/// Where in the text the splitter is.
#[derive(Default)]
struct Scan {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Scan {
    fn is_separator(&mut self, char: char, previous: char) -> bool {
        if self.quoted {
            match char {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.quoted = false,
                _ => {}
            }
            return false;
        }
        match char {
            // Elsewhere a quote is an ordinary character: `5" tall`.
            '"' => self.quoted = matches!(previous, '.' | '(' | ','),
            '(' => self.depth += 1,
            ')' => self.depth = self.depth.saturating_sub(1),
            ',' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

fn parse_segment(segment: &str) -> Result<Filter, String> {
    if segment.is_empty() {
        return Err("filter must not contain empty segments (check for extra commas)".to_owned());
    }
    let (column, condition) = segment
        .split_once('=')
        .ok_or_else(|| inspect_parts(&[segment]))?;
    let (negate, condition) = match condition.strip_prefix("not.") {
        Some(condition) => (true, condition),
        None => (false, condition),
    };
    let (op, value) = condition
        .split_once('.')
        .ok_or_else(|| inspect_parts(&[condition]))?;
    let op = FilterOp::parse(op).ok_or_else(|| inspect_parts(&[op, value]))?;
    let value = match op {
        FilterOp::In => array_literal(value)?,
        _ => unquote(value),
    };
    Ok(Filter {
        column: column.into(),
        op,
        negate,
        value: value.into(),
    })
}

fn inspect_parts(parts: &[&str]) -> String {
    let mut inspect = Inspect::after(String::new());
    inspect.list(("[", "]"), parts, |inspect, part| inspect.string(part));
    inspect.finish()
}

/// `(a,b)` as the PostgreSQL array literal `{a,b}`, whose quoting rules then apply.
fn array_literal(value: &str) -> Result<String, String> {
    value
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .map(|elements| format!("{{{elements}}}"))
        .ok_or_else(|| "`in` filter value must be wrapped by parentheses".to_owned())
}

/// The text inside the quotes where `value` is one quoted run, else `value` as it is.
fn unquote(value: &str) -> String {
    fn quoted(value: &str) -> Option<String> {
        let mut chars = value.strip_prefix('"')?.chars();
        let mut inner = String::with_capacity(value.len());
        loop {
            match chars.next()? {
                '"' => return chars.as_str().is_empty().then_some(inner),
                '\\' => inner.push(chars.next()?),
                char => inner.push(char),
            }
        }
    }
    quoted(value).unwrap_or_else(|| value.to_owned())
}

impl FilterOp {
    /// Every operator.
    pub const ALL: [Self; 13] = [
        Self::Eq,
        Self::Neq,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
        Self::In,
        Self::Like,
        Self::Ilike,
        Self::Is,
        Self::Match,
        Self::Imatch,
        Self::IsDistinct,
    ];

    /// The operator's name in the grammar.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Is => "is",
            Self::Match => "match",
            Self::Imatch => "imatch",
            Self::IsDistinct => "isdistinct",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == name)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negate { "not." } else { "" };
        write!(f, "{}={not}{}.", self.column, self.op.as_str())?;
        let value = &*self.value;
        if self.op == FilterOp::In {
            let elements = value
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            return write!(f, "({})", elements.unwrap_or(value));
        }
        if !value.contains([',', '(', ')', '"', '\\']) && value.trim() == value {
            return f.write_str(value);
        }
        f.write_str("\"")?;
        for char in value.chars() {
            if matches!(char, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{char}")?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_bounded() {
        let long = |length: usize| format!("a=eq.{}", "x".repeat(length - 5));
        assert!(parse(&long(FILTER_BYTES_MAX)).is_ok());
        assert_eq!(
            parse(&long(FILTER_BYTES_MAX + 1)).unwrap_err(),
            "Error parsing `filter` params: filter must not be longer than 16384 bytes"
        );
    }

    #[test]
    fn only_what_needs_quotes_is_quoted() {
        let check = |text: &str, printed: &str| {
            let filters = parse(text).unwrap();
            assert_eq!(
                filters
                    .iter()
                    .map(Filter::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
                printed
            );
        };
        check("id=eq.1,note=not.ilike.a b%", "id=eq.1,note=not.ilike.a b%");
        check("tag=in.(\"a,b\",c)", "tag=in.(\"a,b\",c)");
        check("name=eq.\"plain\"", "name=eq.plain");
        check(r#"p=eq.C:\a"b"#, r#"p=eq."C:\\a\"b""#);
        check("p=eq.\" a\"", "p=eq.\" a\"");
    }
}
