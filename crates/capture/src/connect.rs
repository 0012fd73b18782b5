//! Where PostgreSQL is and how to get a connection to it. Used for the direct session and, through
//! deadpool's trait, for every pooled one.

use std::{fmt, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Connection, Socket, config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::Error,
    tls::{SslMode, Tls},
};

/// A connection to PostgreSQL, encrypted or not.
pub type Link =
    Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>;

/// Addresses, credentials and TLS of one database.
#[derive(Clone)]
pub struct Endpoint {
    config: tokio_postgres::Config,
    tls: Tls,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tokio-postgres hides the password in its own Debug.
        f.debug_struct("Endpoint")
            .field("config", &self.config)
            .field("tls", &self.tls)
            .finish()
    }
}

impl Endpoint {
    /// From parts; [`crate::parse_url`] is the usual way.
    #[must_use]
    pub fn new(config: tokio_postgres::Config, tls: Tls) -> Self {
        Self { config, tls }
    }

    /// What tokio-postgres knows of it.
    #[must_use]
    pub fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// How the connection is encrypted.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Connects, trying with and without TLS as the mode says. Nothing moves unless the link is polled.
    ///
    /// # Errors
    /// If there is no connection to be had in time.
    pub async fn connect(&self) -> Result<(Client, Link), Error> {
        let limit = self.connect_limit();
        match timeout(limit, self.connect_in_any_time()).await {
            Ok(connected) => connected.map_err(Error::Connect),
            Err(_elapsed) => Err(Error::ConnectTimeout(limit)),
        }
    }

    async fn connect_in_any_time(&self) -> Result<(Client, Link), tokio_postgres::Error> {
        let (first, second) = attempts(self.tls.mode());
        match (self.attempt(first).await, second) {
            (Err(error), Some(second)) if may_try_the_other_way(&error) => {
                self.attempt(second).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(
        &self,
        mode: config::SslMode,
    ) -> Result<(Client, Link), tokio_postgres::Error> {
        let mut config = self.config.clone();
        config.ssl_mode(mode);
        config.connect(self.tls.connector()).await
    }

    /// The timeout of tokio-postgres covers the TCP connection only; a server that accepts and then
    /// says nothing must not hold us for ever. Twice per host: there may be a second attempt.
    pub(crate) fn connect_limit(&self) -> Duration {
        let per_host = self
            .config
            .get_connect_timeout()
            .copied()
            .unwrap_or(Duration::from_secs(10));
        let hosts = self
            .config
            .get_hosts()
            .len()
            .max(self.config.get_hostaddrs().len())
            .max(1);
        per_host * 2 * u32::try_from(hosts).unwrap_or(1)
    }
}

/// What to try first, and what to try when that was refused.
fn attempts(mode: SslMode) -> (config::SslMode, Option<config::SslMode>) {
    match mode {
        SslMode::Disable => (config::SslMode::Disable, None),
        SslMode::Allow => (config::SslMode::Disable, Some(config::SslMode::Require)),
        SslMode::Prefer => (config::SslMode::Prefer, Some(config::SslMode::Disable)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            (config::SslMode::Require, None)
        }
    }
}

/// The server refuses this user with or without encryption (28000), or the handshake failed.
fn may_try_the_other_way(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return code.code() == "28000";
    }
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<rustls::Error>())
}

impl deadpool_postgres::Connect for Endpoint {
    fn connect(
        &self,
        _config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        async move {
            // The pool bounds the time.
            let (client, link) = self.connect_in_any_time().await?;
            #[expect(
                clippy::disallowed_methods,
                reason = "deadpool owns the task and aborts it with its connection"
            )]
            let driver = tokio::spawn(async move {
                if let Err(error) = link.await {
                    tracing::debug!(%error, "a pooled connection ended");
                }
            });
            Ok((client, driver))
        }
        .boxed()
    }
}
