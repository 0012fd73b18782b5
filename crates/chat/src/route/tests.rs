use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use deadpool_postgres::{Manager, Pool};
use serde_json::Value;
use tokio_postgres::NoTls;
use tower::ServiceExt as _;

use super::*;
use crate::{Claims, Config, SendRate, TokenRefused, TokenVerifier};

struct Nobody;

impl TokenVerifier for Nobody {
    fn verify(&self, _: &str) -> Result<Claims, TokenRefused> {
        Err(TokenRefused(
            "Your session has expired. Sign in again.".into(),
        ))
    }
}

/// All routes, in front of no database.
fn routes() -> Router {
    let pool = Pool::builder(Manager::new(tokio_postgres::Config::new(), NoTls))
        .build()
        .unwrap();
    let config = Config {
        statement_timeout: Duration::from_secs(1),
        lock_timeout: Duration::from_secs(1),
        answer_timeout: Duration::from_secs(1),
        body_bytes_max: 1_024,
        body_timeout: Duration::from_secs(1),
        send_rate: SendRate {
            messages_max: 1,
            period: Duration::from_secs(1),
        },
    };
    router(Chat::new(pool, Arc::new(Nobody), config))
}

fn document() -> Value {
    serde_json::from_str(handlers::openapi::DOCUMENT).unwrap()
}

async fn ask(method: &str, path: &str, token: Option<&str>) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path.replace(['{', '}'], ""));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    routes()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 100_000).await.unwrap()).unwrap()
}

#[test]
fn the_document_has_the_routes_paths_and_no_other() {
    let document = document();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(described, Route::ALL.map(Route::path).into());
}

#[tokio::test]
async fn the_document_has_the_routes_methods_and_no_other() {
    let document = document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            let status = ask(&method.to_uppercase(), path, None).await.status();
            let expected = match operations.get(method) {
                None => StatusCode::METHOD_NOT_ALLOWED,
                Some(operation) if operation.get("security").is_some() => StatusCode::OK,
                Some(_) => StatusCode::UNAUTHORIZED,
            };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn who_has_no_token_is_asked_to_sign_in() {
    let response = ask("GET", "/api/messages", None).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let expected = serde_json::json!({"error": {"code": "auth_required", "message": "Sign in to continue.", "retryable": false}});
    assert_eq!(json(response).await, expected);
}

#[tokio::test]
async fn who_has_a_bad_token_hears_why() {
    let response = ask("PATCH", "/api/bookings/status", Some("x")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        json(response).await["error"]["message"],
        "Your session has expired. Sign in again."
    );
}

#[tokio::test]
async fn a_wrong_method_is_answered_in_json() {
    let response = ask("PUT", "/api/messages", None).await;
    assert_eq!(json(response).await["error"]["code"], "method_not_allowed");
}
