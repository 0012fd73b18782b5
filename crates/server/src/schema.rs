//! Getting the schema there, and tables published, before anything else runs.

use std::time::Duration;

use pgrelay_capture::Kind;
use tokio::time::{Instant, sleep};

use crate::{
    error::Error,
    seam::capture::{self, admin},
};

/// Time between two tries to reach a database that does not answer yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Installs or upgrades the schema; waits up to `patience` for the database to answer.
///
/// # Errors
/// As the last try said.
pub(crate) async fn migrate(database: &capture::Config, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    let mut waiting = false;
    loop {
        match capture::migrate(database).await {
            Ok(applied) => {
                tracing::info!(applied = applied.len(), "schema is current");
                return Ok(());
            }
            Err(error) if error.kind() == Kind::Unavailable && Instant::now() < deadline => {
                if !std::mem::replace(&mut waiting, true) {
                    tracing::info!(error = %error.report(), "waiting for PostgreSQL");
                }
                sleep(RETRY_INTERVAL).await;
            }
            Err(source) => return Err(Error::database("install the schema")(source)),
        }
    }
}

/// Publishes `tables`.
///
/// # Errors
/// If one of them cannot be published.
pub(crate) async fn enable(database: &capture::Config, tables: &[&str]) -> Result<(), Error> {
    for table in tables {
        admin::enable(database, table)
            .await
            .map_err(Error::database("publish a table"))?;
    }
    Ok(())
}
