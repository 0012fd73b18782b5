//! What an operator asks for by hand: publish a table, look, remove. Values only; the server prints them.

use std::time::Duration;

use pgrelay_protocol::Position;

use crate::{
    config::Config, error::Error, ledger::Batch, migrate, query::Query, session::Session,
    statements,
};

const STATEMENT_MAX: Duration = Duration::from_secs(60);

/// What the database knows of pgrelay.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Captured tables, leaves of partitioned ones.
    pub tables: Vec<TableStatus>,
    /// The newest batch; `None` before the first start.
    pub head: Option<Position>,
    /// How long ago it was made.
    pub head_age: Option<Duration>,
    /// Batches up to this one may be gone from the log.
    pub floor: i64,
    /// Size of the log, in bytes.
    pub log_bytes: i64,
    /// Segments of the log.
    pub segments: i64,
    /// The log is full and nobody recycles it: writers count holes instead.
    pub log_is_full: bool,
    /// Holes that subscribers have not been told of.
    pub holes_pending: i64,
    /// The sleeping relay that writers ring for, if one sleeps.
    pub doorbell: Option<Holder>,
    /// The relay that sequences.
    pub leader: Option<Holder>,
}

/// A captured table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatus {
    /// As SQL reads it.
    pub name: String,
    /// What is to be run for its changes to be captured; `None` where they are.
    pub missing: Option<String>,
    /// Row security is enabled.
    pub row_security: bool,
}

/// A session that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its backend.
    pub pid: i32,
    /// Its `application_name`.
    pub application: String,
}

/// Publishes a table (a name as SQL reads it) and attaches its triggers; returns the SQL that was run.
pub async fn enable(config: &Config, table: &str) -> Result<Vec<String>, Error> {
    statements(
        config,
        "publish a table",
        &statements::administration::ENABLE,
        table,
    )
    .await
}

/// Takes a table out of the publication and drops its triggers; returns the SQL that was run.
pub async fn disable(config: &Config, table: &str) -> Result<Vec<String>, Error> {
    statements(
        config,
        "withdraw a table",
        &statements::administration::DISABLE,
        table,
    )
    .await
}

async fn statements(
    config: &Config,
    action: &'static str,
    query: &Query,
    table: &str,
) -> Result<Vec<String>, Error> {
    let mut session = current(config).await?;
    let rows = session.rows(action, query, &[&table]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Removes the triggers and schema pgrelay; returns the SQL that was run. The publication, the role
/// `pgrelay_capture` (other databases may use it) and what applications use stay.
pub async fn uninstall(config: &Config) -> Result<Vec<String>, Error> {
    const ACTION: &str = "remove pgrelay";
    let mut session = Session::connect(&config.direct).await?;
    if migrate::applied(&mut session).await?.is_none() {
        return Ok(Vec::new());
    }
    let rows = session
        .rows(ACTION, &statements::administration::UNINSTALL, &[])
        .await?;
    let statements: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    session
        .batch(ACTION, statements::administration::LOCK_TIMEOUT)
        .await?;
    for statement in &statements {
        session
            .wire
            .drive(
                ACTION,
                STATEMENT_MAX,
                session.client.batch_execute(statement),
            )
            .await?
            .map_err(Error::query(ACTION))?;
    }
    Ok(statements)
}

/// Tables, log, position, doorbell.
pub async fn status(config: &Config) -> Result<Status, Error> {
    const ACTION: &str = "read the status";
    let mut session = current(config).await?;
    let tables = tables(&mut session).await?;
    let ledger = session
        .rows(ACTION, &statements::administration::NEWEST, &[])
        .await?;
    let log = &session
        .rows(ACTION, &statements::administration::LOG, &[])
        .await?[0];
    let keys = &session.rows(ACTION, &statements::ledger::KEYS, &[]).await?[0];
    Ok(Status {
        tables,
        head: ledger.first().map(|row| Batch::from_row(row).end()),
        head_age: ledger
            .first()
            .map(|row| Duration::from_secs_f64(row.get::<_, f64>(4).max(0.0))),
        floor: log.get(3),
        log_bytes: log.get(0),
        segments: log.get(1),
        log_is_full: log.get(2),
        holes_pending: log.get(4),
        doorbell: holder(&mut session, keys.get(0)).await?,
        leader: holder(&mut session, keys.get(1)).await?,
    })
}

/// Who holds a lock alone.
pub(crate) async fn holder(session: &mut Session, key: i64) -> Result<Option<Holder>, Error> {
    let rows = session
        .rows(
            "look for the holder of a lock",
            &statements::administration::HOLDERS,
            &[&key],
        )
        .await?;
    let alone = rows.iter().find(|row| row.get(2));
    Ok(alone.map(|row| Holder {
        pid: row.get(0),
        application: row.get(1),
    }))
}

/// Captured tables and what they miss.
pub(crate) async fn tables(session: &mut Session) -> Result<Vec<TableStatus>, Error> {
    const ACTION: &str = "look at the tables";
    let missing = session
        .rows(ACTION, &statements::catalog::SYNC, &[&None::<u32>, &false])
        .await?;
    let missing_of = |relation: u32| {
        let row = missing
            .iter()
            .find(|row| row.get::<_, u32>(0) == relation && row.get::<_, &str>(2) != "attached")?;
        Some(row.get::<_, &str>(3).to_owned())
    };
    let rows = session
        .rows(ACTION, &statements::administration::TABLES, &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| TableStatus {
            name: row.get(1),
            missing: missing_of(row.get(0)),
            row_security: row.get(2),
        })
        .collect())
}

async fn current(config: &Config) -> Result<Session, Error> {
    let mut session = Session::connect(&config.direct).await?;
    migrate::require_current(&mut session).await?;
    Ok(session)
}
