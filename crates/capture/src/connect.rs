//! Where PostgreSQL is and how to get a connection to it. Used for the direct session and, through
//! deadpool's trait, for every pooled one.

use std::{fmt, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Connection, Socket, config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

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

/// An [`Endpoint`] whose connections one runtime drives, whoever asks for them. Those who ask come and go: what
/// they asked with is left for others.
#[derive(Debug, Clone)]
pub struct Connector {
    endpoint: Endpoint,
    runtime: Handle,
}

impl Endpoint {
    /// Connections of the runtime that this is called in.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector {
            endpoint: self.clone(),
            runtime: Handle::current(),
        }
    }
}

impl deadpool_postgres::Connect for Connector {
    fn connect(
        &self,
        _config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let endpoint = self.endpoint.clone();
        async move {
            let (hand_out, handed_out) = oneshot::channel();
            // Deadpool owns the task and aborts it with its connection.
            let task = self.runtime.spawn(async move {
                // The pool bounds the time.
                let link = match endpoint.connect_in_any_time().await {
                    Ok((client, link)) => hand_out.send(Ok(client)).map(|()| link),
                    Err(error) => {
                        let _nobody_waits_for_it = hand_out.send(Err(error));
                        return;
                    }
                };
                if let Ok(link) = link
                    && let Err(error) = link.await
                {
                    tracing::debug!(%error, "a pooled connection ended");
                }
            });
            let task = AbortOnDropHandle::new(task);
            match handed_out.await {
                Ok(client) => client.map(|client| (client, task.detach())),
                // The runtime has ended; the pool ends the wait.
                Err(_ended) => std::future::pending().await,
            }
        }
        .boxed()
    }
}
