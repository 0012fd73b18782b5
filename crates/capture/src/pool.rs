//! Pooled connections for questions that may wait for each other: replays, subscriptions, filters,
//! housekeeping. They may lead through a pooler, so nothing here relies on a session.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::{
    connect::Endpoint,
    error::Error,
    query::{Lane, Params, Query},
    statements,
};

/// After which PostgreSQL should have given up by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The pool.
#[derive(Debug, Clone)]
pub(crate) struct Pool(deadpool_postgres::Pool);

impl Pool {
    /// Connects on demand; the runtime that this is called in drives the connections.
    pub(crate) fn new(endpoint: &Endpoint, size: usize) -> Self {
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager =
            Manager::from_connect(endpoint.config().clone(), endpoint.connector(), config);
        let limit = endpoint.connect_limit();
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(size.max(1))
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(limit))
            .wait_timeout(Some(limit))
            .build()
            .expect("a runtime is given, so timeouts can be kept");
        Self(pool)
    }

    /// A connection; waits while all are in use.
    pub(crate) async fn get(&self) -> Result<Object, Error> {
        self.0.get().await.map_err(Error::Pool)
    }
}

impl Pool {
    /// One question, answered within `limit` or given up.
    pub(crate) async fn ask(
        &self,
        action: &'static str,
        limit: Duration,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let client = self.get().await?;
        match timeout(limit, Lane::pooled(&client).rows(query, params)).await {
            Ok(answer) => answer.map_err(Error::query(action)),
            Err(_elapsed) => {
                discard(client);
                Err(Error::Frozen { action, limit })
            }
        }
    }
}

impl Pool {
    /// One question in a transaction of its own, which is rolled back: nothing it sets or writes
    /// stays. PostgreSQL gives up after `limit`.
    ///
    /// All of it is sent before the first answer is awaited, so that whoever stops waiting leaves no
    /// transaction behind.
    pub(crate) async fn ask_alone(
        &self,
        action: &'static str,
        limit: Duration,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let client = self.get().await?;
        let lane = Lane::pooled(&client);
        let millis = limit.as_millis().to_string();
        let settings: Params<'_> = &[&millis];
        let asking = async {
            futures::join!(
                client.batch_execute("begin"),
                lane.rows(&statements::session::LIMIT, settings),
                lane.rows(query, params),
                client.batch_execute("rollback"),
            )
        };
        match timeout(limit + GRACE, asking).await {
            Ok((begun, set, answer, ended)) => {
                let failed = Error::query(action);
                match begun.and(set).and(answer) {
                    Ok(rows) => ended.map(|()| rows).map_err(failed),
                    Err(error) => Err(failed(error)),
                }
            }
            Err(_elapsed) => {
                discard(client);
                Err(Error::Frozen { action, limit })
            }
        }
    }
}

/// Closes a connection that did not answer in time instead of handing it on.
pub(crate) fn discard(client: Object) {
    drop(Object::take(client));
}
