//! The booking chat as this process serves it: its routes, its database connections, its figures.
//!
//! The routes are there whether the chat is installed or not: without its schema they say so, and find
//! it as soon as somebody installs it.

mod connection;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use pgrelay_capture::Endpoint;
use pgrelay_chat::{Chat, Claims, Config, SendRate, TokenRefused, TokenVerifier, schema};
use pgrelay_protocol::TokenError;
use pgrelay_relay::ports;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{chain::Chain, clock::unix_now};

pub(crate) use connection::with_connection;

/// Longest wait for a connection: for a free one, or for a new one.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

const CONFIG: Config = Config {
    statement_timeout: Duration::from_secs(5),
    lock_timeout: Duration::from_secs(3),
    answer_timeout: Duration::from_secs(8),
    body_bytes_max: 65_536,
    body_timeout: Duration::from_secs(10),
    send_rate: SendRate {
        messages_max: 300,
        period: Duration::from_secs(10),
    },
};

/// Connections for the chat's requests, made on demand.
pub(crate) fn pool(endpoint: &Endpoint, size: usize) -> Pool {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_connect(endpoint.config().clone(), endpoint.connector(), recycling);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(CONNECTION_TIMEOUT))
        .wait_timeout(Some(CONNECTION_TIMEOUT))
        .build()
        .expect("a runtime is given, so timeouts can be kept")
}

/// The chat's routes.
pub(crate) fn router(
    pool: Pool,
    tokens: Arc<dyn ports::TokenVerifier>,
    metrics: Metrics,
) -> Router {
    pgrelay_chat::router(Chat::new(pool, Arc::new(Tokens(tokens)), CONFIG))
        .route_layer(from_fn_with_state(metrics, count))
}

/// Logs whether there is a chat to serve.
pub(crate) async fn announce(pool: &Pool) {
    let looked = async {
        let client = pool.get().await.map_err(pgrelay_chat::Error::Pool)?;
        let installed = schema::installed(&**client).await?;
        let is_current = installed.is_some() && schema::is_current(&client).await?;
        Ok::<_, pgrelay_chat::Error>((installed, is_current))
    };
    match looked.await {
        Ok((Some(schema), true)) => tracing::info!(%schema, "serving the booking chat"),
        Ok((Some(schema), false)) => {
            let cure = "pgrelay migrate --chat";
            tracing::warn!(%schema, cure, "the booking chat is older than this program");
        }
        Ok((None, _)) => tracing::debug!("there is no booking chat in this database"),
        Err(error) => tracing::warn!(error = %Chain(&error), "look for the booking chat"),
    }
}

/// The relay's tokens are the chat's tokens.
struct Tokens(Arc<dyn ports::TokenVerifier>);

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str) -> Result<Claims, TokenRefused> {
        match self.0.verify(token, unix_now()) {
            Ok(claims) => Ok(Claims {
                role: claims.role.as_ref().into(),
                subject: claims.subject.as_deref().map(Into::into),
                json: claims.json.as_ref().into(),
            }),
            Err(TokenError::Expired(_)) => Err(TokenRefused(
                "Your session has expired. Sign in again.".to_owned(),
            )),
            Err(error) => Err(TokenRefused(error.connect_text().into_owned())),
        }
    }
}

/// Figures of the chat; cheap to share. Labels take few values: nothing a client sends becomes one.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let chat = registry.sub_registry_with_prefix("pgrelay_chat");
        let help = "Requests to the booking chat, by method, route and HTTP status";
        chat.register("requests", help, self.requests.clone());
    }
}

/// Counts and logs a request once it is answered. Never its query, which may hold a key.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or(String::new(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let begun = tokio::time::Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let took = begun.elapsed();
    tracing::debug!(%method, route, status, ?took, "answered a request to the chat");
    // Any word may be sent as a method.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PATCH" | "DELETE") => known,
        _ => "other",
    };
    let labels = RequestLabels {
        method: method.to_owned(),
        route,
        status,
    };
    metrics.requests.get_or_create(&labels).inc();
    response
}
