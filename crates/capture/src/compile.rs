//! One filter of a binding, made ready to test rows with: its value in canonical form where the relay
//! can compare by itself, else checked to be something PostgreSQL can evaluate.

use std::{sync::Arc, time::Duration};

use pgrelay_protocol::{Filter, FilterOp, Refusal, limits::IN_VALUES_MAX};
use pgrelay_relay::filter::{FilterTest, Ordering, Scalar, Test};
use uuid::Uuid;

use crate::{
    columns::{Columns, FilterColumn, Native},
    error::Error,
    pool::Pool,
    predicate,
    typed::Typed,
};

/// Why a filter cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// What PostgreSQL, or we in its words, have against it.
    Raised { sqlstate: String, message: String },
    /// Its pattern is no regular expression.
    Regex(String),
    /// One of the fixed refusals.
    Plain(Plain),
    /// The database does not answer.
    Unavailable(Error),
}

/// Refusals that name the column's type, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Column,
    InValues,
    IsValue,
    IsNotBoolean,
    NotText,
}

impl Unusable {
    /// The refusal of `filter` on a column of type `type_name`; an error where nothing was decided.
    pub(crate) fn refusal<'a>(
        &'a self,
        filter: &'a Filter,
        type_name: &'a str,
    ) -> Result<Refusal<'a>, &'a Error> {
        Ok(match self {
            Self::Unavailable(error) => return Err(error),
            Self::Raised { sqlstate, message } => Refusal::Raised { sqlstate, message },
            Self::Regex(message) => Refusal::Regex(message),
            Self::Plain(Plain::Column) => Refusal::FilterColumn(&filter.column),
            Self::Plain(Plain::InValues) => Refusal::InValues,
            Self::Plain(Plain::IsValue) => Refusal::IsValue,
            Self::Plain(Plain::IsNotBoolean) => Refusal::IsNotBoolean {
                value: &filter.value,
                type_name,
            },
            Self::Plain(Plain::NotText) => Refusal::NotText {
                op: filter.op.as_str(),
                type_name,
            },
        })
    }
}

/// Where values are put into canonical form.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    pub(crate) pool: Pool,
    pub(crate) limit: Duration,
}

impl Compiler {
    /// Compiles one filter of a table with these columns.
    pub(crate) async fn compile(
        &self,
        filter: &Filter,
        columns: &Columns,
    ) -> Result<FilterTest, Unusable> {
        let column = columns
            .get(&filter.column)
            .ok_or(Unusable::Plain(Plain::Column))?;
        let test = |test, flip| FilterTest {
            column: filter.column.clone(),
            negate: filter.negate != flip,
            test,
        };
        match filter.op {
            FilterOp::Is => Ok(test(is_test(filter, column)?, false)),
            _ if column.opaque => Err(raised(
                "0A000",
                format!(
                    "operator {} cannot be evaluated on type {}",
                    filter.op.as_str(),
                    column.shown
                ),
            )),
            FilterOp::Like | FilterOp::Ilike if !column.has_like() => {
                Err(Unusable::Plain(Plain::NotText))
            }
            FilterOp::Match | FilterOp::Imatch if !column.is_string() => {
                Err(Unusable::Plain(Plain::NotText))
            }
            FilterOp::Like | FilterOp::Ilike => {
                check_pattern(&filter.value)?;
                self.checked(test(database(filter), false), columns).await
            }
            FilterOp::Match | FilterOp::Imatch => {
                self.check_regex(&filter.value).await?;
                self.checked(test(database(filter), false), columns).await
            }
            FilterOp::In => {
                let values = self.list(filter, column).await?;
                if values.len() > IN_VALUES_MAX {
                    return Err(Unusable::Plain(Plain::InValues));
                }
                match scalars(column, &values, filter.negate) {
                    Some(scalars) => Ok(test(Test::OneOf(scalars), false)),
                    None => self.checked(test(database(filter), false), columns).await,
                }
            }
            FilterOp::Eq
            | FilterOp::Neq
            | FilterOp::IsDistinct
            | FilterOp::Lt
            | FilterOp::Lte
            | FilterOp::Gt
            | FilterOp::Gte => {
                let Some(native) = column
                    .native()
                    .filter(|native| is_native(filter.op, *native))
                else {
                    return self.checked(test(database(filter), false), columns).await;
                };
                let scalar = self.scalar(filter, column, native).await?;
                let flip = filter.op == FilterOp::Neq;
                Ok(test(comparison(filter.op, scalar), flip))
            }
        }
    }

    /// The canonical form of the value.
    async fn scalar(
        &self,
        filter: &Filter,
        column: &FilterColumn,
        native: Native,
    ) -> Result<Scalar, Unusable> {
        if !column.domain
            && let Some(scalar) = quick(native, &filter.value)
        {
            return Ok(scalar);
        }
        let typed = predicate::canonical(column, &filter.value);
        let texts = self.texts(&typed).await?;
        let text = texts.into_iter().next().flatten().unwrap_or_default();
        canonical(native, text)
            .ok_or_else(|| raised("XX000", "the value has no canonical form".to_owned()))
    }

    /// The elements of an `in` list, in canonical form; `None` for NULL.
    async fn list(
        &self,
        filter: &Filter,
        column: &FilterColumn,
    ) -> Result<Vec<Option<String>>, Unusable> {
        if let Some(native) = column.native().filter(|_| !column.domain)
            && let Some(elements) = simple_list(&filter.value)
            && elements
                .iter()
                .all(|element| quick(native, element).is_some())
        {
            return Ok(elements
                .into_iter()
                .map(|element| Some(element.to_owned()))
                .collect());
        }
        let typed = predicate::canonical_list(column, &filter.value);
        self.texts(&typed).await
    }

    async fn texts(&self, typed: &Typed) -> Result<Vec<Option<String>>, Unusable> {
        let rows = typed.run(&self.pool, self.limit).await.map_err(judge)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Lets PostgreSQL look for the operator and read the value, over no rows.
    async fn checked(&self, test: FilterTest, columns: &Columns) -> Result<FilterTest, Unusable> {
        let tests = [test];
        let typed =
            predicate::statement(&tests, columns, &[]).ok_or(Unusable::Plain(Plain::Column))?;
        typed.run(&self.pool, self.limit).await.map_err(judge)?;
        let [test] = tests;
        Ok(test)
    }

    async fn check_regex(&self, pattern: &str) -> Result<(), Unusable> {
        let typed = predicate::regex(pattern);
        match typed.run(&self.pool, self.limit).await.map_err(judge) {
            Ok(_rows) => Ok(()),
            Err(Unusable::Raised { sqlstate, message }) if sqlstate == "2201B" => {
                Err(Unusable::Regex(message))
            }
            Err(other) => Err(other),
        }
    }
}

fn raised(sqlstate: &str, message: String) -> Unusable {
    Unusable::Raised {
        sqlstate: sqlstate.to_owned(),
        message,
    }
}

/// Tells what PostgreSQL says of the value from what it says of itself.
fn judge(error: Error) -> Unusable {
    let said = error
        .postgres()
        .and_then(tokio_postgres::Error::as_db_error);
    match said.map(|db| (db.code().code(), db.message())) {
        Some((sqlstate, message))
            if !matches!(
                &sqlstate[..2],
                "08" | "53" | "55" | "57" | "58" | "40" | "25"
            ) =>
        {
            raised(sqlstate, message.to_owned())
        }
        _ => Unusable::Unavailable(error),
    }
}

fn database(filter: &Filter) -> Test {
    Test::Database {
        op: filter.op,
        value: filter.value.clone(),
    }
}

fn is_test(filter: &Filter, column: &FilterColumn) -> Result<Test, Unusable> {
    let test = match &*filter.value {
        "null" => return Ok(Test::IsNull),
        "unknown" => Test::IsNull,
        "true" => Test::IsBool(true),
        "false" => Test::IsBool(false),
        _ => return Err(Unusable::Plain(Plain::IsValue)),
    };
    if column.is_bool() {
        Ok(test)
    } else {
        Err(Unusable::Plain(Plain::IsNotBoolean))
    }
}

/// LIKE would complain of it only when a row gets that far.
fn check_pattern(pattern: &str) -> Result<(), Unusable> {
    let escapes = pattern.chars().rev().take_while(|c| *c == '\\').count();
    if escapes % 2 == 1 {
        return Err(raised(
            "22025",
            "LIKE pattern must not end with escape character".to_owned(),
        ));
    }
    Ok(())
}

/// Order is native for integers only; equality for every native type.
fn is_native(op: FilterOp, native: Native) -> bool {
    matches!(op, FilterOp::Eq | FilterOp::Neq | FilterOp::IsDistinct)
        || matches!(native, Native::Int(..))
}

fn comparison(op: FilterOp, scalar: Scalar) -> Test {
    let ordering = match op {
        FilterOp::Lt => Ordering::Lt,
        FilterOp::Lte => Ordering::Lte,
        FilterOp::Gt => Ordering::Gt,
        FilterOp::Gte => Ordering::Gte,
        FilterOp::IsDistinct => return Test::IsDistinct(scalar),
        _ => return Test::OneOf(Arc::new([scalar])),
    };
    match scalar {
        Scalar::Int(bound) => Test::Order(ordering, bound),
        other => Test::OneOf(Arc::new([other])),
    }
}

/// An `in` list the relay can test; not one whose NULL makes every `not.in` unknown.
fn scalars(
    column: &FilterColumn,
    values: &[Option<String>],
    negate: bool,
) -> Option<Arc<[Scalar]>> {
    let native = column.native()?;
    if negate && values.contains(&None) {
        return None;
    }
    values
        .iter()
        .flatten()
        .map(|text| canonical(native, text.clone()))
        .collect()
}

/// The scalar of a text in canonical form.
fn canonical(native: Native, text: String) -> Option<Scalar> {
    match native {
        Native::Int(..) => text.parse().ok().map(Scalar::Int),
        Native::Bool => text.parse().ok().map(Scalar::Bool),
        Native::Uuid => Uuid::parse_str(&text)
            .ok()
            .map(|uuid| Scalar::Uuid(uuid.into_bytes())),
        Native::Plain | Native::Canonical => Some(Scalar::Text(text.into())),
    }
}

/// The scalar of a text whose canonical form is known without asking; other spellings that
/// PostgreSQL takes are left to it.
fn quick(native: Native, text: &str) -> Option<Scalar> {
    match native {
        Native::Int(min, max) => {
            let number = text
                .parse::<i64>()
                .ok()
                .filter(|n| (min..=max).contains(n))?;
            (number.to_string() == text).then_some(Scalar::Int(number))
        }
        Native::Bool => text.parse().ok().map(Scalar::Bool),
        Native::Uuid if text.len() == 36 => canonical(native, text.to_owned()),
        Native::Plain if !text.contains('\0') => canonical(native, text.to_owned()),
        Native::Uuid | Native::Plain | Native::Canonical => None,
    }
}

/// Elements of an array literal that has no quotes, escapes or nesting, where NULL is not meant.
fn simple_list(literal: &str) -> Option<Vec<&str>> {
    let inner = literal.strip_prefix('{')?.strip_suffix('}')?;
    if inner.contains(['"', '\\', '{', '}']) {
        return None;
    }
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    let elements: Vec<_> = inner
        .split(',')
        .map(|element| element.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']))
        .collect();
    let plain = |element: &&str| !element.is_empty() && !element.eq_ignore_ascii_case("null");
    elements.iter().all(plain).then_some(elements)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Type;

    use super::*;

    #[test]
    fn canonical_spellings_need_no_database() {
        let int4 = FilterColumn::of(&Type::INT4, b'N').native().unwrap();
        let uuid = FilterColumn::of(&Type::UUID, b'U').native().unwrap();
        let text = FilterColumn::of(&Type::TEXT, b'S').native().unwrap();
        let boolean = FilterColumn::of(&Type::BOOL, b'B').native().unwrap();
        for (native, value, want) in [
            (int4, "5", Some(Scalar::Int(5))),
            (int4, "-2147483648", Some(Scalar::Int(-2_147_483_648))),
            (int4, "2147483648", None),
            (int4, "05", None),
            (int4, "+5", None),
            (int4, " 5", None),
            (int4, "hey", None),
            (boolean, "true", Some(Scalar::Bool(true))),
            (boolean, "t", None),
            (
                uuid,
                "00000000-0000-0000-0000-0000000000FF",
                Some(Scalar::Uuid([
                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255,
                ])),
            ),
            (uuid, "{00000000-0000-0000-0000-0000000000ff}", None),
            (
                text,
                "O'Brien \"x\"",
                Some(Scalar::Text("O'Brien \"x\"".into())),
            ),
            (text, "a\0b", None),
        ] {
            assert_eq!(quick(native, value), want, "{value:?}");
        }
    }

    #[test]
    fn simple_lists_are_split_as_postgresql_would() {
        for (literal, want) in [
            ("{}", Some(vec![])),
            ("{ }", Some(vec![])),
            ("{1, 2 ,3}", Some(vec!["1", "2", "3"])),
            ("{a b,c}", Some(vec!["a b", "c"])),
            ("{1,,2}", None),
            ("{1,null}", None),
            ("{\"a\"}", None),
            (r"{a\,b}", None),
            ("{{1}}", None),
        ] {
            assert_eq!(simple_list(literal), want, "{literal}");
        }
    }

    #[test]
    fn patterns_that_end_in_an_escape_are_refused() {
        for (pattern, good) in [
            ("a%", true),
            (r"a\%", true),
            (r"a\", false),
            (r"a\\", true),
            ("", true),
        ] {
            assert_eq!(check_pattern(pattern).is_ok(), good, "{pattern}");
        }
    }
}
