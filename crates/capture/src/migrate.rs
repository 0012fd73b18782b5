//! Installs and upgrades the schema: numbered files, each applied once, in one transaction.
//!
//! Works for a superuser and for a plain owner of the database. What the role may not do is announced
//! by the files as NOTICE `pgrelay-needs: <sql>` and handed to the caller, who prints it.

use std::{collections::HashMap, time::Duration};

use crate::{config::Config, error::Error, session::Session, statements};

/// One file of `sql/`.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    sql: &'static str,
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../../../sql/", $name, ".sql")),
        }),+]
    };
}

/// Every file, in order: what keeps the books is made by the first. A released file is never changed.
pub(crate) const MIGRATIONS: &[Migration] = files![
    "pgrelay/0001_log",
    "pgrelay/0002_capture",
    "pgrelay/0003_ledger",
    "pgrelay/0004_retention",
    "pgrelay/0005_publish",
    "pgrelay/0006_look",
    "pgrelay/0007_session",
    "realtime/0001_roles",
    "realtime/0002_messages",
];

/// A migration that takes longer waits for a lock that somebody holds.
const MIGRATION_MAX: Duration = Duration::from_secs(600);
const NEEDS: &str = "pgrelay-needs: ";

/// What [`migrate`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MigrateReport {
    /// Files applied now, in order.
    pub applied: Vec<&'static str>,
    /// SQL that a role with more rights must run; pgrelay works without it, with less.
    pub needs: Vec<String>,
}

/// The text of every migration, for those who want to read it or apply it by hand.
#[must_use]
pub fn migrations() -> String {
    MIGRATIONS
        .iter()
        .map(|migration| format!("-- {}\n\n{}\n", migration.name, migration.sql))
        .collect()
}

/// Brings the schema up to date. Calling it again does nothing.
///
/// # Errors
/// [`Error::MigrationChanged`] where a file that was applied had other contents; [`Error::Migration`]
/// where one fails, which leaves the schema as it was before that file.
pub async fn migrate(config: &Config) -> Result<MigrateReport, Error> {
    let mut session = Session::connect(&config.direct).await?;
    if session.server.standby {
        return Err(Error::Standby);
    }
    batch(
        &mut session,
        "wait for another migration to end",
        statements::administration::LOCK,
    )
    .await?;
    let known = applied(&mut session).await?.unwrap_or_default();
    let mut report = MigrateReport::default();
    for migration in MIGRATIONS {
        match known.get(migration.name) {
            None => {
                apply(&mut session, migration, &config.publication).await?;
                report.applied.push(migration.name);
            }
            Some(checksum) if *checksum == checksum_of(&mut session, migration).await? => {}
            Some(_) => {
                return Err(Error::MigrationChanged {
                    name: migration.name.to_owned(),
                });
            }
        }
    }
    report.needs = session
        .wire
        .take_notices()
        .iter()
        .filter_map(|notice| notice.strip_prefix(NEEDS))
        .map(str::to_owned)
        .collect();
    create_publication(&mut session, &config.publication, &mut report).await?;
    Ok(report)
}

/// The key that seals cursors, which lives as long as the schema.
pub async fn cursor_key(config: &Config) -> Result<[u8; 32], Error> {
    let mut session = Session::connect(&config.direct).await?;
    require_current(&mut session).await?;
    let rows = session
        .rows(
            "read the cursor key",
            &statements::administration::CURSOR_KEY,
            &[],
        )
        .await?;
    let text: &str = rows.first().map_or("", |row| row.get(0));
    parse_key(text).ok_or_else(|| {
        Error::Corrupt("the cursor key in pgrelay.meta is not 64 hex digits".to_owned())
    })
}

fn parse_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

/// Refuses a schema that this program was not made for.
pub async fn check_schema(config: &Config) -> Result<(), Error> {
    let mut session = Session::connect(&config.direct).await?;
    require_current(&mut session).await
}

/// Refuses a schema that this program was not made for.
pub(crate) async fn require_current(session: &mut Session) -> Result<(), Error> {
    let Some(known) = applied(session).await? else {
        return Err(Error::Schema {
            found: "missing".to_owned(),
            needed: "installing",
        });
    };
    let missing = MIGRATIONS
        .iter()
        .find(|migration| !known.contains_key(migration.name));
    missing.map_or(Ok(()), |migration| {
        Err(Error::Schema {
            found: format!("without {}", migration.name),
            needed: "an upgrade",
        })
    })
}

/// Name and checksum of what is installed; `None` where nothing is.
pub(crate) async fn applied(
    session: &mut Session,
) -> Result<Option<HashMap<String, String>>, Error> {
    const ACTION: &str = "read the installed migrations";
    let installed = session
        .rows(ACTION, &statements::administration::IS_INSTALLED, &[])
        .await?;
    match (installed[0].get(0), installed[0].get(1)) {
        (true, _) => {
            let rows = session
                .rows(ACTION, &statements::administration::APPLIED, &[])
                .await?;
            Ok(Some(
                rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
            ))
        }
        (false, true) => Err(Error::Corrupt(
            "a schema pgrelay exists that `pgrelay migrate` did not make; rename it or drop it"
                .to_owned(),
        )),
        (false, false) => Ok(None),
    }
}

async fn checksum_of(session: &mut Session, migration: &Migration) -> Result<String, Error> {
    let rows = session
        .rows(
            "compare migrations",
            &statements::administration::CHECKSUM,
            &[&migration.sql],
        )
        .await?;
    Ok(rows[0].get(0))
}

async fn apply(
    session: &mut Session,
    migration: &Migration,
    publication: &str,
) -> Result<(), Error> {
    let failed = |error| match error {
        Error::Query { source, .. } => Error::Migration {
            name: migration.name,
            source,
        },
        other => other,
    };
    const ACTION: &str = "apply a migration";
    batch(session, ACTION, "begin").await?;
    batch(session, ACTION, migration.sql)
        .await
        .map_err(failed)?;
    batch(session, ACTION, statements::administration::BOOKKEEPING)
        .await
        .map_err(failed)?;
    session
        .rows(
            ACTION,
            &statements::administration::SET_PUBLICATION,
            &[&publication],
        )
        .await
        .map_err(failed)?;
    session
        .rows(
            ACTION,
            &statements::administration::RECORD,
            &[&migration.name, &migration.sql],
        )
        .await
        .map_err(failed)?;
    batch(session, ACTION, "commit").await.map_err(failed)
}

/// For a name that was set after the schema was made.
async fn create_publication(
    session: &mut Session,
    name: &str,
    report: &mut MigrateReport,
) -> Result<(), Error> {
    const ACTION: &str = "create the publication";
    session
        .rows(
            ACTION,
            &statements::administration::SET_PUBLICATION,
            &[&name],
        )
        .await?;
    let Some(row) = session
        .rows(
            ACTION,
            &statements::administration::CREATE_PUBLICATION,
            &[&name],
        )
        .await?
        .into_iter()
        .next()
    else {
        return Ok(());
    };
    let statement: String = row.get(0);
    match batch(session, ACTION, &statement).await {
        Err(error) if error.sqlstate() == Some("42501") => {
            let needed = format!("{statement};");
            if !report.needs.contains(&needed) {
                report.needs.push(needed);
            }
            Ok(())
        }
        other => other,
    }
}

async fn batch(session: &mut Session, action: &'static str, sql: &str) -> Result<(), Error> {
    session
        .wire
        .drive(action, MIGRATION_MAX, session.client.batch_execute(sql))
        .await?
        .map_err(Error::query(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_schema_is_carried_in_order() {
        let mut files = Vec::new();
        for part in ["pgrelay", "realtime"] {
            let folder = format!("{}/../../sql/{part}", env!("CARGO_MANIFEST_DIR"));
            let mut names: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter_map(|name| Some(format!("{part}/{}", name.strip_suffix(".sql")?)))
                .collect();
            names.sort();
            files.extend(names);
        }
        let carried: Vec<_> = MIGRATIONS.iter().map(|migration| migration.name).collect();
        assert_eq!(carried, files);
    }

    #[test]
    fn a_key_is_sixty_four_hex_digits() {
        assert_eq!(parse_key(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(parse_key(wrong), None);
        }
    }
}
