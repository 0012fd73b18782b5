//! The demo's tables: their seed, and the one insert behind the line to paste.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use pgrelay_capture::Endpoint;
use uuid::Uuid;

use super::DemoError;

/// The booking that the printed lines and the page begin with.
pub(super) const FIRST_BOOKING: &str = "0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01";
/// The tables that are published.
pub(super) const TABLES: [&str; 2] = ["public.bookings", "public.messages"];

const SEED: &str = include_str!("seed.sql");
const INSERT_MESSAGE: &str = "insert into public.messages (booking_id, sender_role, content) values ($1, $2, $3) \
     returning row_to_json(messages)::text";
/// Connections of the demo beside the relay's own.
const POOL_SIZE: usize = 2;

/// Access to the demo's tables.
#[derive(Debug, Clone)]
pub(super) struct Store(Pool);

/// A message could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsertError {
    #[error("take a connection")]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("insert the message")]
    Insert(#[from] tokio_postgres::Error),
}

impl Store {
    /// Of the database at `endpoint`.
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, DemoError> {
        let config = endpoint.config().clone();
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_connect(config, endpoint, recycling))
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                DemoError::io("make a connection pool")(std::io::Error::other(error))
            })?;
        Ok(Self(pool))
    }

    /// Makes the tables and the two bookings where they are missing.
    pub(super) async fn seed(&self) -> Result<(), DemoError> {
        let client = self.0.get().await.map_err(DemoError::Pool)?;
        client.batch_execute(SEED).await.map_err(DemoError::Seed)
    }

    /// Inserts one message; the new row as JSON.
    pub(super) async fn insert_message(
        &self,
        booking: Uuid,
        sender_role: &str,
        content: &str,
    ) -> Result<String, InsertError> {
        let client = self.0.get().await?;
        let row = client
            .query_one(INSERT_MESSAGE, &[&booking, &sender_role, &content])
            .await?;
        Ok(row.try_get(0)?)
    }
}
