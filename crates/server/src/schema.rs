//! Getting the schema there, and tables published, before anything else runs.

use std::time::Duration;

use pgrelay_capture::{self as capture, Error as CaptureError, Kind, MigrateReport, admin};
use pgrelay_chat::schema::{self as chat_schema, SchemaName};
use tokio::time::{Instant, sleep};

use crate::{chat::with_connection, error::Error};

/// Time between two tries to reach a database that does not answer yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Repeats `attempt` for up to `patience` while the database does not answer.
///
/// # Errors
/// As the last attempt said.
pub(crate) async fn patiently<T, F>(patience: Duration, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, CaptureError>>,
{
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if error.kind() == Kind::Unavailable && Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(error = %error.report(), "waiting for PostgreSQL");
                }
                sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Installs or upgrades the schema, and with it the booking chat: into `chat` where it is given, and
/// else where it is installed already. Waits up to `patience` for the database to answer.
///
/// # Errors
/// As the last attempt said, or as the chat's migration says.
pub(crate) async fn migrate(
    database: &capture::Config,
    patience: Duration,
    chat: Option<&SchemaName>,
) -> Result<MigrateReport, Error> {
    let mut report = patiently(patience, || capture::migrate(database)).await?;
    let chat = with_connection(&database.direct, async |client| {
        let place = match chat {
            Some(chosen) => Some(chosen.clone()),
            None => chat_schema::installed(client).await?,
        };
        match place {
            Some(place) => chat_schema::migrate(client, &place).await,
            None => Ok(Vec::new()),
        }
    });
    let (applied, needs) = chat.await?;
    report.applied.extend(applied);
    report.needs.extend(needs);
    Ok(report)
}

/// [`migrate`] before serving: what came of it is logged.
///
/// # Errors
/// As there.
pub(crate) async fn prepare(
    database: &capture::Config,
    patience: Duration,
    chat: Option<&SchemaName>,
) -> Result<(), Error> {
    let report = migrate(database, patience, chat).await?;
    tracing::info!(applied = report.applied.len(), "the schema is current");
    if !report.needs.is_empty() {
        let missing = report.needs.len();
        tracing::info!(missing, "more rights would help: see `pgrelay migrate`");
    }
    Ok(())
}

/// Publishes `tables`.
///
/// # Errors
/// If one of them cannot be published.
pub(crate) async fn enable(database: &capture::Config, tables: &[&str]) -> Result<(), Error> {
    for table in tables {
        admin::enable(database, table).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_absent_database_is_waited_for() {
        let attempts = Cell::new(0);
        let begun = Instant::now();
        let patience = Duration::from_secs(10);
        let ended = patiently(patience, || {
            attempts.set(attempts.get() + 1);
            async {
                if attempts.get() < 3 {
                    Err(CaptureError::Closed)
                } else {
                    Ok(())
                }
            }
        });
        ended.await.unwrap();
        assert_eq!((attempts.get(), begun.elapsed()), (3, 2 * RETRY_INTERVAL));

        let refused = patiently(patience, || async { Err::<(), _>(CaptureError::Pooler) });
        assert!(matches!(
            refused.await,
            Err(Error::Database(CaptureError::Pooler))
        ));
        assert_eq!(begun.elapsed(), 2 * RETRY_INTERVAL);

        let never = patiently(patience, || async { Err::<(), _>(CaptureError::Closed) });
        assert_eq!(never.await.unwrap_err().exit_code(), 69);
        assert!(begun.elapsed() < patience + Duration::from_secs(1));
    }
}
