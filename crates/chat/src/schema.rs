//! Installing the chat's schema. The SQL is in `sql/chat`; each file is applied once, all in one transaction.

use std::collections::HashSet;

use tokio_postgres::{Client, GenericClient, Transaction};

use crate::error::Error;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../sql/", $name, ".sql")))),+]
    };
}

const FILES: [(&str, &str); 7] = files![
    "chat/0001_tables",
    "chat/0002_caller",
    "chat/0003_rules",
    "chat/0004_access",
    "chat/0005_calls",
    "chat/0006_desk",
    "chat/0007_doctor",
];

/// One migration at a time in one database, and none that keeps writers waiting behind it.
const LOCK: &str = "select pg_advisory_xact_lock(8101814510); set local lock_timeout = '5s'";
const IS_INSTALLED: &str = "select to_regclass('pgrelay_chat.migrations') is not null";
/// A file that was applied by hand has no checksum.
const APPLIED: &str =
    "select coalesce(checksum = md5($2), true) from pgrelay_chat.migrations where name = $1";
const APPLIED_NAMES: &str = "select name from pgrelay_chat.migrations";
const TABLES_SCHEMA: &str = "select pgrelay_chat.tables_schema()::text";
const REMEMBER: &str = "insert into pgrelay_chat.migrations (name, checksum) values ($1, md5($2))";
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

impl std::fmt::Display for SchemaName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
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
        script += &format!("-- {name}\n\n{}", place(file, schema));
        let remember = REMEMBER.replace("$1", &format!("'{name}'"));
        script += &format!("\n{};\n\n", remember.replace("md5($2)", "null"));
    }
    script + REFRESH + ";\n"
}

/// Installs or upgrades the schema and brings rights, publication and triggers in line; the names of the
/// files that were applied. What needs more rights than the connection has is announced as
/// `NOTICE: pgrelay-needs: <sql>`, which whoever drives the connection sees.
///
/// # Errors
/// When the database refuses, or a table is locked for long; then nothing has changed. When the chat
/// lives in another schema already, or a file was applied with other contents.
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
    match installed(&transaction).await? {
        Some(there) if there != *schema => return Err(Error::OtherSchema(there.0)),
        Some(_) => {}
        None => transaction
            .batch_execute(&create_schema(schema))
            .await
            .map_err(failed("create the schema"))?,
    }
    let mut fresh = Vec::new();
    for (name, file) in FILES {
        let file = place(file, schema);
        match applied(&transaction, name, &file).await? {
            Applied::AsItIs => {}
            Applied::Otherwise => return Err(Error::MigrationChanged(name)),
            Applied::No => {
                apply(&transaction, name, &file).await?;
                fresh.push(name);
            }
        }
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

/// Whether a file was applied.
enum Applied {
    No,
    AsItIs,
    Otherwise,
}

async fn applied(transaction: &Transaction<'_>, name: &str, file: &str) -> Result<Applied, Error> {
    let failed = |action| Error::database(action);
    // The books are made by the first file.
    let row = transaction.query_one(IS_INSTALLED, &[]).await;
    if !row
        .and_then(|row| row.try_get(0))
        .map_err(failed("look for the schema"))?
    {
        return Ok(Applied::No);
    }
    let rows = transaction
        .query(APPLIED, &[&name, &file])
        .await
        .map_err(failed("read what was applied"))?;
    Ok(match rows.first().map(|row| row.get(0)) {
        None => Applied::No,
        Some(true) => Applied::AsItIs,
        Some(false) => Applied::Otherwise,
    })
}

async fn apply(transaction: &Transaction<'_>, name: &str, file: &str) -> Result<(), Error> {
    transaction
        .batch_execute(file)
        .await
        .map_err(Error::database("apply a migration"))?;
    transaction
        .execute(REMEMBER, &[&name, &file])
        .await
        .map_err(Error::database("remember a migration"))?;
    Ok(())
}

/// Whether the chat is in this database, and in which schema its tables are.
///
/// # Errors
/// When the database does not answer.
pub async fn installed<C: GenericClient + Sync>(client: &C) -> Result<Option<SchemaName>, Error> {
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
pub async fn is_current(client: &Client) -> Result<bool, Error> {
    let rows = client
        .query(APPLIED_NAMES, &[])
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
    fn every_file_of_the_schema_is_carried_in_order() {
        let folder = format!("{}/../../sql/chat", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(format!("chat/{}", name.strip_suffix(".sql")?)))
            .collect();
        files.sort();
        assert_eq!(FILES.map(|(name, _)| name).as_slice(), files);
    }

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
        assert!(script.starts_with("create schema if not exists \"order\";\n"));
        assert!(script.contains("create table if not exists \"order\".bookings"));
        assert!(!script.contains("public."));
    }
}
