//! Installing the chat's schema. The SQL is in `sql/chat`; each file is applied once, all in one transaction.

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::error::Error;

const FILES: [(&str, &str); 7] = [
    (
        "0001_tables",
        include_str!("../../../sql/chat/0001_tables.sql"),
    ),
    (
        "0002_caller",
        include_str!("../../../sql/chat/0002_caller.sql"),
    ),
    (
        "0003_rules",
        include_str!("../../../sql/chat/0003_rules.sql"),
    ),
    (
        "0004_access",
        include_str!("../../../sql/chat/0004_access.sql"),
    ),
    (
        "0005_calls",
        include_str!("../../../sql/chat/0005_calls.sql"),
    ),
    ("0006_desk", include_str!("../../../sql/chat/0006_desk.sql")),
    (
        "0007_doctor",
        include_str!("../../../sql/chat/0007_doctor.sql"),
    ),
];

/// One migration at a time in one database.
const LOCK: &str = "select pg_advisory_xact_lock(8101814510)";
const IS_INSTALLED: &str = "select to_regclass('pgrelay_chat.migrations') is not null";
const APPLIED: &str = "select name from pgrelay_chat.migrations";
const TABLES_SCHEMA: &str = "select pgrelay_chat.tables_schema()::text";
const REMEMBER: &str = "insert into pgrelay_chat.migrations (name) values ($1)";
const REFRESH: &str = "select pgrelay_chat.refresh()";

/// Where the tables are: `public` unless somebody wants them elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

/// A name that cannot be the tables' schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot hold the chat's tables: use a name of a-z, 0-9 and _ that is not reserved")]
pub struct BadSchemaName(String);

impl SchemaName {
    /// # Errors
    /// Unless the name is plain: lower case, no quoting needed, not PostgreSQL's and not ours.
    pub fn parse(name: &str) -> Result<Self, BadSchemaName> {
        let is_plain = name.len() < 64
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let is_reserved = name.starts_with("pg_")
            || name.starts_with("pgrelay")
            || ["auth", "realtime", "storage", "information_schema"].contains(&name);
        if is_plain && !is_reserved {
            Ok(Self(name.into()))
        } else {
            Err(BadSchemaName(name.into()))
        }
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("public".into())
    }
}

/// Everything as one script, for somebody who wants to read it or to run it by hand.
pub fn script(schema: &SchemaName) -> String {
    let mut script = create_schema(schema);
    for (name, file) in FILES {
        script += &place(file, schema);
        script += &format!("\n{};\n\n", REMEMBER.replace("$1", &format!("'{name}'")));
    }
    script + REFRESH + ";\n"
}

/// Installs or upgrades the schema and brings rights, roles and publication in line; the names of the
/// files that were applied. What needs more rights than the connection has is announced as
/// `NOTICE: pgrelay-needs: <sql>`, which whoever drives the connection sees.
///
/// # Errors
/// When the database refuses; then nothing has changed. When the chat lives in another schema already.
pub async fn migrate(client: &mut Client, schema: &SchemaName) -> Result<Vec<&'static str>, Error> {
    let failed = |action| Error::database(action);
    let transaction = client
        .transaction()
        .await
        .map_err(failed("begin a migration"))?;
    transaction
        .batch_execute(LOCK)
        .await
        .map_err(failed("wait for other migrations"))?;
    let installed: bool = transaction
        .query_one(IS_INSTALLED, &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed("look for the schema"))?;
    let mut applied = HashSet::new();
    if installed {
        let rows = transaction
            .query(APPLIED, &[])
            .await
            .map_err(failed("read what was applied"))?;
        applied.extend(
            rows.iter()
                .filter_map(|row| row.try_get::<_, String>(0).ok()),
        );
        let row = transaction.query_one(TABLES_SCHEMA, &[]).await;
        let there: String = row
            .and_then(|row| row.try_get(0))
            .map_err(failed("find the tables"))?;
        if there != schema.0 {
            return Err(Error::OtherSchema(there));
        }
    } else {
        transaction
            .batch_execute(&create_schema(schema))
            .await
            .map_err(failed("create the schema"))?;
    }
    let mut fresh = Vec::new();
    for (name, file) in FILES {
        if applied.contains(name) {
            continue;
        }
        transaction
            .batch_execute(&place(file, schema))
            .await
            .map_err(failed("apply a migration"))?;
        transaction
            .execute(REMEMBER, &[&name])
            .await
            .map_err(failed("remember a migration"))?;
        fresh.push(name);
    }
    transaction
        .batch_execute(REFRESH)
        .await
        .map_err(failed("set up rights and publication"))?;
    transaction
        .commit()
        .await
        .map_err(failed("commit a migration"))?;
    Ok(fresh)
}

/// Whether the chat is in this database, and in which schema its tables are.
///
/// # Errors
/// When the database does not answer.
pub async fn installed(client: &Client) -> Result<Option<SchemaName>, Error> {
    let failed = |action| Error::database(action);
    let row = client.query_one(IS_INSTALLED, &[]).await;
    if !row
        .and_then(|row| row.try_get(0))
        .map_err(failed("look for the schema"))?
    {
        return Ok(None);
    }
    let row = client.query_one(TABLES_SCHEMA, &[]).await;
    let name = row
        .and_then(|row| row.try_get(0))
        .map_err(failed("find the tables"))?;
    Ok(Some(SchemaName(name)))
}

/// Whether every file was applied.
///
/// # Errors
/// When the database does not answer, or the chat is not installed.
pub(crate) async fn is_current(client: &Client) -> Result<bool, Error> {
    let rows = client
        .query(APPLIED, &[])
        .await
        .map_err(Error::database("read what was applied"))?;
    let applied: HashSet<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    Ok(FILES.iter().all(|(name, _)| applied.contains(*name)))
}

fn create_schema(schema: &SchemaName) -> String {
    if *schema == SchemaName::default() {
        return String::new();
    }
    format!("create schema if not exists \"{}\";\n", schema.0)
}

/// The files are written for `public`.
fn place(file: &str, schema: &SchemaName) -> String {
    if *schema == SchemaName::default() {
        return file.into();
    }
    file.replace("public.", &format!("\"{}\".", schema.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names() {
        for good in ["public", "chat", "_x1"] {
            assert_eq!(SchemaName::parse(good), Ok(SchemaName(good.into())));
        }
        for bad in [
            "",
            "Chat",
            "1x",
            "a b",
            "a\"b",
            "pg_x",
            "pgrelay",
            "pgrelay_chat",
            "realtime",
        ] {
            assert_eq!(SchemaName::parse(bad), Err(BadSchemaName(bad.into())));
        }
    }

    #[test]
    fn another_schema_takes_all_tables() {
        let script = script(&SchemaName::parse("order").unwrap());
        assert!(script.starts_with("create schema if not exists \"order\";"));
        assert!(script.contains("create table if not exists \"order\".bookings"));
        assert!(!script.contains("public."));
    }
}
