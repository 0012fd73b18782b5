//! The HTTP edge: routes, and the state they share.
//!
//! Every query string may carry a key, so no handler and no layer ever logs one.

mod accept;
mod answer;
mod broadcast;
mod events;
mod metrics;
mod probes;
mod upgrade;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, Method, StatusCode, header},
    routing::{any, get, post},
};
use prometheus_client::registry::Registry;
use tower::ServiceBuilder;
use tower_http::{
    cors::{Any, CorsLayer},
    limit::RequestBodyLimitLayer,
    timeout::TimeoutLayer,
};

pub use accept::{Accept, bind};
pub use answer::Refusal;
pub use broadcast::Speakers;
pub use events::Streams;
pub use metrics::Metrics;
pub use probes::{Probe, Readiness};
pub use upgrade::Gate;

pub(crate) use events::bearer;

/// Largest request body.
const BODY_BYTES_MAX: usize = 1_048_576;
/// Longest time from the head of a request to its answer, streams and upgrades aside.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the routes need.
#[derive(Clone)]
pub struct Routes {
    /// Lets WebSockets in.
    pub gate: Arc<Gate>,
    /// Serves event streams.
    pub streams: Arc<Streams>,
    /// Takes broadcasts.
    pub speakers: Speakers,
    /// Largest body of a broadcast, in bytes.
    pub broadcast_bytes_max: usize,
    /// Whether the process can serve.
    pub readiness: Arc<dyn Probe>,
    /// All metrics.
    pub metrics: Arc<Registry>,
    /// The page at `/`.
    pub page: Arc<str>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

/// All routes. `chat` are the booking chat's, which has limits of its own.
pub fn router(routes: Routes, chat: Router) -> Router {
    let quick = Router::new()
        .route("/", get(probes::page))
        .route("/healthz", get(probes::alive))
        .route("/healthcheck", get(probes::alive))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/api/ping", get(probes::ping))
        .route("/realtime/v1/api/ping", get(probes::ping))
        .with_state(routes.clone())
        .merge(crate::page::chat::router())
        .layer(
            ServiceBuilder::new()
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::REQUEST_TIMEOUT,
                    REQUEST_TIMEOUT,
                ))
                .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX)),
        );
    let said = Router::new()
        .route("/api/broadcast", post(broadcast::batch))
        .route("/realtime/v1/api/broadcast", post(broadcast::batch))
        .route(
            "/api/broadcast/{topic}/events/{event}",
            post(broadcast::single),
        )
        .route(
            "/realtime/v1/api/broadcast/{topic}/events/{event}",
            post(broadcast::single),
        )
        .with_state(routes.speakers)
        .layer(DefaultBodyLimit::disable())
        .layer(
            ServiceBuilder::new()
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::REQUEST_TIMEOUT,
                    REQUEST_TIMEOUT,
                ))
                .layer(RequestBodyLimitLayer::new(routes.broadcast_bytes_max)),
        );
    let lasting = Router::new()
        .route("/socket/websocket", any(upgrade::upgrade))
        .route("/realtime/v1/websocket", any(upgrade::upgrade))
        .with_state(Arc::clone(&routes.gate))
        .merge(
            Router::new()
                .route("/events", get(events::events))
                .route("/realtime/v1/events", get(events::events))
                .with_state(routes.streams),
        );
    quick.merge(said).merge(lasting).merge(chat).layer(cors())
}

/// Any origin: tokens are never in cookies, so a page can do nothing its key could not do.
fn cors() -> CorsLayer {
    let headers = [
        "apikey",
        "x-api-key",
        "x-client-info",
        "x-retry-count",
        "traceparent",
        "tracestate",
        "baggage",
        "last-event-id",
        "idempotency-key",
    ]
    .map(HeaderName::from_static);
    let standard = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        header::CACHE_CONTROL,
        header::IF_NONE_MATCH,
    ];
    let methods = [
        Method::GET,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let exposed = [
        header::ETAG,
        header::RETRY_AFTER,
        HeaderName::from_static("idempotent-replayed"),
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(methods)
        .expose_headers(exposed)
        .allow_headers(headers.into_iter().chain(standard).collect::<Vec<_>>())
        .max_age(Duration::from_secs(3_600))
}

#[cfg(test)]
mod tests;
