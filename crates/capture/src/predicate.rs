//! Filters as SQL over columns of values: what PostgreSQL is asked when it alone can tell.

use pgrelay_protocol::FilterOp;
use pgrelay_relay::filter::{FilterTest, Ordering, Scalar, Test};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    columns::{Columns, FilterColumn, Transport},
    typed::{Typed, array_literal, escape_identifier},
};

/// A statement that returns `(index, holds)` for each row of `values`: per test, in order, the texts
/// of its column. Lists are of equal length. `None` where a test's column is gone.
pub(crate) fn statement(
    tests: &[FilterTest],
    columns: &Columns,
    values: &[Vec<Option<String>>],
) -> Option<Typed> {
    let mut typed = Typed::default();
    let (mut sources, mut names, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for (index, test) in tests.iter().enumerate() {
        let column = columns.get(&test.column)?;
        let values = values.get(index).map_or(&[][..], Vec::as_slice);
        let name = format!("c{index}");
        typed.schema(&column.type_schema);
        let operand = match column.transport() {
            Transport::Text | Transport::Json => {
                sources.push(typed.param(
                    column.array_oid,
                    Some(array_literal(values, column.delimiter())),
                ));
                name.clone()
            }
            Transport::Populate => {
                sources.push(typed.param(Type::JSON_ARRAY.oid(), Some(array_literal(values, ','))));
                let row = typed.param(columns.row_type, None);
                format!(
                    "(json_populate_record({row}, {name})).{}",
                    escape_identifier(&test.column)
                )
            }
        };
        names.push(name);
        conditions.push(format!(
            "coalesce({}, false)",
            condition(&mut typed, test, column, &operand)
        ));
    }
    typed.sql = format!(
        "select i, {} from unnest({}) with ordinality as u ({}, i)",
        conditions.join(" and "),
        sources.join(", "),
        names.join(", "),
    );
    Some(typed)
}

/// The canonical text of a value of this column, as one value.
pub(crate) fn canonical(column: &FilterColumn, value: &str) -> Typed {
    let mut typed = Typed::default();
    typed.schema(&column.type_schema);
    let value = typed.param(column.type_oid, Some(value.to_owned()));
    typed.sql = format!("select to_json({value}) #>> '{{}}'");
    typed
}

/// The canonical texts of the elements of an array literal, as rows.
pub(crate) fn canonical_list(column: &FilterColumn, literal: &str) -> Typed {
    let mut typed = Typed::default();
    typed.schema(&column.type_schema);
    let list = typed.param(column.array_oid, Some(literal.to_owned()));
    typed.sql = format!("select to_json(v) #>> '{{}}' from unnest({list}) v");
    typed
}

/// Raises where `pattern` is no regular expression.
pub(crate) fn regex(pattern: &str) -> Typed {
    let mut typed = Typed::default();
    let pattern = typed.param(Type::TEXT.oid(), Some(pattern.to_owned()));
    typed.sql = format!("select '' ~ {pattern}");
    typed
}

/// One test as a boolean expression, NULL where SQL says so.
fn condition(typed: &mut Typed, test: &FilterTest, column: &FilterColumn, operand: &str) -> String {
    let operand = match &column.collation {
        Some(collation) => format!("{operand} collate {collation}"),
        None => operand.to_owned(),
    };
    let negate = test.negate;
    let not = if negate { "not " } else { "" };
    let negated = |expression: String| {
        if negate {
            format!("not ({expression})")
        } else {
            expression
        }
    };
    match &test.test {
        Test::IsNull => format!("{operand} is {not}null"),
        Test::IsBool(value) => format!("{operand} is {not}{value}"),
        Test::OneOf(scalars) => {
            let texts: Vec<_> = scalars.iter().map(|scalar| Some(text_of(scalar))).collect();
            let list = typed.param(
                column.array_oid,
                Some(array_literal(&texts, column.delimiter())),
            );
            negated(format!("{operand} = any ({list})"))
        }
        Test::IsDistinct(scalar) => {
            let value = typed.param(column.type_oid, Some(text_of(scalar)));
            distinct(&operand, negate, &value)
        }
        Test::Order(ordering, bound) => {
            let bound = typed.param(column.type_oid, Some(bound.to_string()));
            let sign = match ordering {
                Ordering::Lt => "<",
                Ordering::Lte => "<=",
                Ordering::Gt => ">",
                Ordering::Gte => ">=",
            };
            negated(format!("{operand} {sign} {bound}"))
        }
        Test::Database { op, value } => {
            let of = if *op == FilterOp::In {
                column.array_oid
            } else {
                column.type_oid
            };
            let value = typed.param(of, Some(value.to_string()));
            let sign = match op {
                FilterOp::IsDistinct => return distinct(&operand, negate, &value),
                FilterOp::Is => return format!("{operand} is {not}null"),
                FilterOp::In => return negated(format!("{operand} = any ({value})")),
                FilterOp::Eq => "=",
                FilterOp::Neq => "<>",
                FilterOp::Lt => "<",
                FilterOp::Lte => "<=",
                FilterOp::Gt => ">",
                FilterOp::Gte => ">=",
                FilterOp::Like => "like",
                FilterOp::Ilike => "ilike",
                FilterOp::Match => "~",
                FilterOp::Imatch => "~*",
            };
            negated(format!("{operand} {sign} {value}"))
        }
    }
}

/// Also what a `not.` in front makes of it.
fn distinct(operand: &str, negate: bool, value: &str) -> String {
    let not = if negate { "not " } else { "" };
    format!("{operand} is {not}distinct from {value}")
}

fn text_of(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Int(value) => value.to_string(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string(),
        Scalar::Text(text) => text.to_string(),
    }
}
