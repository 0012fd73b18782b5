//! One connection to PostgreSQL, used the way `psql` is.

use std::fmt;
use std::ops::Deref;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::DatabaseUrl;
use crate::wait::within;

/// A connection that lives as long as this value. Derefs to the client of tokio-postgres.
pub struct Session {
    client: Client,
    driver: Background,
}

impl Session {
    /// Connects without TLS.
    pub async fn connect(url: &DatabaseUrl) -> Self {
        let (client, connection) = within(
            "a connection",
            tokio_postgres::connect(&url.to_string(), NoTls),
        )
        .await
        .unwrap_or_else(|error| panic!("cannot connect to {url}: {error:?}"));
        let driver = Background::start(async move {
            // A server that goes away is what some tests are about; the client's next statement reports it.
            drop(connection.await);
        });
        Self { client, driver }
    }

    /// Runs statements in the simple protocol, several allowed, and forgets their rows.
    pub async fn run(&self, sql: &str) {
        within(sql, self.client.batch_execute(sql))
            .await
            .unwrap_or_else(|error| panic!("{error:?}\nin: {sql}"));
    }

    /// The rows of statements in the simple protocol: every value as text, NULL as `None`.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = within(sql, self.client.simple_query(sql))
            .await
            .unwrap_or_else(|error| panic!("{error:?}\nin: {sql}"));
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(String::from))
                    .collect(),
            ),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The first value of the first row, as text; empty for NULL.
    ///
    /// # Panics
    /// When there is no row.
    pub async fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        let first = rows.first().unwrap_or_else(|| panic!("no row from: {sql}"));
        first[0].clone().unwrap_or_default()
    }

    /// Cuts the connection at once, without the farewell that a clean end sends.
    pub fn cut(self) {
        drop(self.driver);
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// A task that ends with the value that started it.
#[derive(Debug)]
pub(crate) struct Background(JoinHandle<()>);

impl Background {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests have no Tasks; dropping this value ends the task"
    )]
    pub(crate) fn start(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}
