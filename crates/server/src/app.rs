//! The composition root: the one place where capture, relay, HTTP and their tasks meet.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pgrelay_capture::{self as capture, Health};
use pgrelay_protocol::CursorKey;
use pgrelay_relay::{
    self as relay, Relay,
    ports::{Authorizer, ChangeSource as _, Feed, MessageLog, TokenVerifier},
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Jwks,
    chain::Chain,
    chat,
    config::{RelayLimits, Serve},
    error::Error,
    http::{self, Accept, Gate, Probe, Readiness, Routes, Speakers, Streams},
    schema, shutdown,
    signal::StopSignal,
    tasks::{Failure, Group, Tasks},
};

/// Share of a stop's time over which the clients are spread that are told to leave: they all come
/// back elsewhere.
const LEAVE_SHARE: f64 = 0.25;
/// What one read of the log may return, in bytes: a few pages at a time.
const REPLAY_BYTES_MAX: usize = 4 << 20;
/// How long a channel waits for PostgreSQL to judge its filters, retries included.
const EVALUATE_DEADLINE: Duration = Duration::from_secs(10);

/// A relay that is about to run.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub serve: Serve,
    /// Where clients come in.
    pub listener: TcpListener,
    /// The page at `/`.
    pub page: Arc<str>,
}

/// Takes the port.
///
/// # Errors
/// If it is taken, or not ours to take.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    http::bind(address).map_err(Error::io(format!(
        "listen on {address} (--listen or PGRELAY_LISTEN chooses another address)"
    )))
}

impl App {
    /// Runs until `stop`, until a part fails, or until `lost` tells of something outside that is
    /// gone; then stops in order.
    ///
    /// # Errors
    /// If it could not start, if something failed, or if it could not stop in time.
    pub async fn run(
        self,
        mut stop: StopSignal,
        lost: impl Future<Output = Failure>,
    ) -> Result<(), Error> {
        let budget = self.serve.shutdown_timeout;
        let window = budget.mul_f64(LEAVE_SHARE);
        let tasks = Tasks::new();
        let relay = tokio::select! {
            relay = self.start(&tasks) => relay?,
            () = stop.wait() => return Ok(()),
        };
        let failure = tokio::select! {
            () = stop.wait() => None,
            failure = tasks.failed() => Some(failure),
            failure = lost => Some(failure),
        };
        match &failure {
            None => tracing::info!("stopping"),
            Some(failure) => tracing::error!(%failure, "stopping"),
        }
        tokio::select! {
            stopped = shutdown::stop(&tasks, budget, || relay.drain(window)) => stopped?,
            () = stop.wait() => tracing::warn!("told again to stop: not waiting any longer"),
        }
        tracing::info!("stopped");
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Starts everything, the accept loop last.
    async fn start(self, tasks: &Tasks) -> Result<Relay, Error> {
        let Self {
            serve,
            listener,
            page,
        } = self;
        let address = listener
            .local_addr()
            .map_err(Error::io("read the listening address"))?;
        let (shards, http) = (serve.relay.shards, serve.http.clone());
        let mut registry = Registry::default();
        let http_metrics = http::Metrics::default();
        http_metrics.register(&mut registry);
        let chat_metrics = chat::Metrics::default();
        chat_metrics.register(&mut registry);
        let chat_pool = chat::pool(&serve.database.database, serve.chat_pool_size);
        let Core {
            relay,
            tokens,
            authorizer,
            health,
        } = start_core(serve, tasks, &mut registry).await?;
        let stop = tasks.stop_token(Group::Accept);
        let gate = Gate {
            relay: relay.clone(),
            tokens: Arc::clone(&tokens),
            tasks: tasks.clone(),
            metrics: http_metrics,
            error_delay: http.connect_error_delay,
        };
        let speakers = Speakers {
            relay: relay.clone(),
            tokens: Arc::clone(&tokens),
            authorizer,
        };
        chat::announce(&chat_pool).await;
        let chat = chat::router(chat_pool, Arc::clone(&tokens), chat_metrics);
        let streams = Streams::new(relay.clone(), tokens, tasks, http.event_streams_max);
        let routes = Routes {
            gate: Arc::new(gate),
            streams: Arc::new(streams),
            speakers,
            broadcast_bytes_max: http.broadcast_bytes_max,
            readiness: Arc::new(Ready {
                health,
                stopping: stop.clone(),
            }),
            metrics: Arc::new(registry),
            page,
        };
        let accept = Accept {
            listener,
            router: http::router(routes, chat),
            tasks: tasks.clone(),
            connections_max: http.connections_max,
        };
        tasks.spawn(Group::Accept, "accept", accept.run(stop));
        tracing::info!(%address, shards, "listening");
        Ok(relay)
    }
}

/// What runs behind the HTTP edge.
struct Core {
    relay: Relay,
    tokens: Arc<dyn TokenVerifier>,
    authorizer: Arc<dyn Authorizer>,
    health: Health,
}

/// Connects capture and relay, and starts both.
async fn start_core(serve: Serve, tasks: &Tasks, registry: &mut Registry) -> Result<Core, Error> {
    let capture_metrics = Arc::new(capture::Metrics::default());
    capture_metrics.register(registry);
    let relay_metrics = Arc::new(relay::Metrics::default());
    relay_metrics.register(registry);

    let key =
        schema::patiently(serve.start_timeout, || capture::cursor_key(&serve.database)).await?;
    let parts = capture::open(serve.database, capture_metrics);
    let tokens: Arc<dyn TokenVerifier> = Arc::new(serve.signing.verifier());
    if let Some(jwks) = serve.signing.published() {
        publish_keys(jwks, tasks).await?;
    }
    let log = Arc::new(parts.log);
    let ports = relay::Ports {
        messages: Arc::clone(&log) as Arc<dyn MessageLog>,
        log,
        sessions: Arc::new(parts.sessions.clone()),
        authorizer: Arc::new(parts.resolver),
        tokens: Arc::clone(&tokens),
    };
    let (relay, shards) = relay::build(relay_config(&serve.relay, key), &ports, &relay_metrics);
    for (index, shard) in shards.into_iter().enumerate() {
        tasks
            .spawn_thread(Group::Shard, format!("shard-{index}"), |stop| {
                shard.run(stop)
            })
            .map_err(Error::io("start a shard"))?;
    }
    let feed: Arc<dyn Feed> = Arc::new(relay.clone());
    let stop = tasks.stop_token(Group::Capture);
    tasks.spawn(
        Group::Capture,
        "capture",
        Box::new(parts.source).run(feed, stop),
    );
    let stop = tasks.stop_token(Group::Session);
    tasks.spawn(Group::Session, "sessions", async move {
        parts.sessions.run(stop).await;
        Ok(())
    });
    Ok(Core {
        relay,
        tokens,
        authorizer: ports.authorizer,
        health: parts.health,
    })
}

/// Reads published keys before the first client comes, and again from time to time. One who publishes
/// them over the network may start after us; a file must be right.
async fn publish_keys(jwks: Jwks, tasks: &Tasks) -> Result<(), Error> {
    match jwks.refresh().await {
        Ok(keys) => tracing::info!(keys, "read the JWK set"),
        Err(error) if jwks.may_come_later() => {
            tracing::warn!(error = %Chain(&error), "no published keys yet: their tokens are refused");
        }
        Err(error) => return Err(error.into()),
    }
    let stop = tasks.stop_token(Group::Capture);
    tasks.spawn(Group::Capture, "jwks", async move {
        stop.run_until_cancelled(jwks.run()).await;
        Ok(())
    });
    Ok(())
}

fn relay_config(limits: &RelayLimits, cursor_key: [u8; 32]) -> relay::Config {
    relay::Config {
        shards: limits.shards,
        queue_bytes_max: limits.queue_bytes_max,
        idle_timeout: limits.idle_timeout,
        join_error_delay: limits.join_error_delay,
        checkpoint_interval: limits.checkpoint_interval,
        frame_bytes_max: limits.frame_bytes_max,
        channels_per_client_max: limits.channels_per_client_max,
        payload_bytes_max: limits.payload_bytes_max,
        clients_max: limits.clients_max,
        joins_per_second_max: limits.joins_per_second_max,
        events_per_second_max: limits.events_per_second_max,
        presence_events_per_second_max: limits.presence_events_per_second_max,
        presence_calls_max: limits.presence_calls_max,
        presence_window: limits.presence_window,
        presence_enabled: limits.presence_enabled,
        private_only: limits.private_only,
        bindings_per_channel_max: limits.bindings_per_channel_max,
        ring_bytes_max: limits.ring_bytes_max,
        replay_bytes_max: REPLAY_BYTES_MAX,
        evaluate_deadline: EVALUATE_DEADLINE,
        cursor_key: CursorKey::new(cursor_key),
    }
}

/// Ready while changes are followed and nobody has asked us to stop.
struct Ready {
    health: Health,
    stopping: CancellationToken,
}

impl Probe for Ready {
    fn readiness(&self) -> Readiness {
        if self.stopping.is_cancelled() {
            Readiness::NotReady("stopping")
        } else if self.health.is_live() {
            Readiness::Ready
        } else {
            Readiness::NotReady("changes are not followed")
        }
    }
}
