//! Statements whose parameters have types of the user's own.
//!
//! The text is put together from constant pieces and parameter numbers (and a quoted column name where
//! a composite is taken apart); types are named by oid and values travel as text, so that PostgreSQL's
//! own input functions read them and say what is wrong with them in their own words. Everything here
//! may run code of table owners (checks of domains, operators), so it runs read-only, with a time
//! limit, and as a role that owns nothing where that is possible.

use std::{error::Error as StdError, time::Duration};

use bytes::BytesMut;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Row,
    types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked},
};

use crate::{
    error::Error,
    pool::{self, Pool},
    query::Lane,
    statements,
};

/// After which PostgreSQL should have given up by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A value in its text form, of whatever type.
#[derive(Debug)]
pub(crate) struct AsText(Option<String>);

impl ToSql for AsText {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    fn encode_format(&self, _type: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A statement under construction.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    pub(crate) sql: String,
    params: Vec<(AsText, Type)>,
    schemas: Vec<Box<str>>,
}

impl Typed {
    /// Adds a parameter; returns its name, `$n`.
    pub(crate) fn param(&mut self, type_oid: u32, value: Option<String>) -> String {
        self.params.push((AsText(value), type_of(type_oid)));
        format!("${}", self.params.len())
    }

    /// Operators of types in this schema (quoted) are found.
    pub(crate) fn schema(&mut self, quoted: &str) {
        if !self.schemas.iter().any(|known| **known == *quoted) {
            self.schemas.push(quoted.into());
        }
    }

    /// Runs it.
    pub(crate) async fn run(&self, pool: &Pool, limit: Duration) -> Result<Vec<Row>, Error> {
        const ACTION: &str = "evaluate a filter";
        let client = pool.get().await?;
        match timeout(limit + GRACE, self.run_on(&client, limit)).await {
            Ok(answer) => answer.map_err(Error::query(ACTION)),
            Err(_elapsed) => {
                pool::discard(client);
                Err(Error::Frozen {
                    action: ACTION,
                    limit,
                })
            }
        }
    }

    /// One round trip. All of it is sent before the first answer is awaited, so that whoever stops
    /// waiting leaves no transaction behind.
    async fn run_on(
        &self,
        client: &Client,
        limit: Duration,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let mut search_path = "pg_catalog".to_owned();
        for schema in &self.schemas {
            search_path.push_str(", ");
            search_path.push_str(schema);
        }
        let limit = limit.as_millis().to_string();
        let settings: [&(dyn ToSql + Sync); 2] = [&limit, &search_path];
        let params: Vec<(&(dyn ToSql + Sync), Type)> = self
            .params
            .iter()
            .map(|(value, of)| (value as &(dyn ToSql + Sync), of.clone()))
            .collect();
        let (begun, set, answer, ended) = futures::join!(
            client.batch_execute("begin read only"),
            Lane::pooled(client).rows(&statements::session::SANDBOX, &settings),
            client.query_typed(&self.sql, &params),
            client.batch_execute("rollback"),
        );
        begun?;
        set?;
        let rows = answer?;
        ended?;
        Ok(rows)
    }
}

fn type_of(oid: u32) -> Type {
    Type::from_oid(oid).unwrap_or_else(|| {
        Type::new(
            "of a user".to_owned(),
            oid,
            Kind::Simple,
            "of a user".to_owned(),
        )
    })
}

/// An array literal of text values.
pub(crate) fn array_literal(values: &[Option<String>], delimiter: char) -> String {
    let mut out = String::from("{");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        match value {
            None => out.push_str("NULL"),
            Some(text) => {
                out.push('"');
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
    out
}

/// A name as SQL reads it.
pub(crate) fn escape_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_keep_every_character() {
        let some = |text: &str| Some(text.to_owned());
        let check =
            |values: &[Option<String>], want: &str| assert_eq!(array_literal(values, ','), want);
        check(&[], "{}");
        check(
            &[some("a"), None, some("NULL"), some("")],
            r#"{"a",NULL,"NULL",""}"#,
        );
        check(&[some(r#"a"b\c{},"#)], r#"{"a\"b\\c{},"}"#);
        assert_eq!(
            array_literal(&[some("(1,2)"), None], ';'),
            r#"{"(1,2)";NULL}"#
        );
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(escape_identifier("a\"b"), "\"a\"\"b\"");
    }
}
