//! What operators and orchestrators ask: alive, ready, metrics; and the page at `/`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::encoding::text::encode;
use serde_json::json;

use super::Routes;

/// Whether clients can be served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Changes flow.
    Ready,
    /// They do not; says why.
    NotReady(&'static str),
}

/// Tells the readiness at any time, without waiting.
pub trait Probe: Send + Sync + 'static {
    /// The readiness now.
    fn readiness(&self) -> Readiness;
}

pub(super) async fn page(State(routes): State<Routes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
             connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
    ];
    (headers, routes.page.to_string()).into_response()
}

pub(super) async fn alive() -> &'static str {
    "ok"
}

pub(super) async fn ping() -> Response {
    Json(json!({ "message": "Success" })).into_response()
}

pub(super) async fn ready(State(routes): State<Routes>) -> Response {
    match routes.readiness.readiness() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        )
            .into_response(),
    }
}

pub(super) async fn metrics(State(routes): State<Routes>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &routes.metrics) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl<P: Probe> Probe for Arc<P> {
    fn readiness(&self) -> Readiness {
        self.as_ref().readiness()
    }
}
