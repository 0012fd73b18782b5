use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use deadpool_postgres::{Manager, Pool};
use futures::stream;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
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

/// Everybody is an operator.
struct Anybody;

impl TokenVerifier for Anybody {
    fn verify(&self, _: &str) -> Result<Claims, TokenRefused> {
        Ok(Claims {
            role: "service_role".into(),
            subject: None,
            json: "{}".into(),
        })
    }
}

/// All routes, in front of no database.
fn routes() -> Router {
    routes_on(&tokio_postgres::Config::new(), Arc::new(Nobody)).0
}

fn routes_on(database: &tokio_postgres::Config, tokens: Arc<dyn TokenVerifier>) -> (Router, Pool) {
    let pool = Pool::builder(Manager::new(database.clone(), NoTls))
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
    (router(Chat::new(pool.clone(), tokens, config)), pool)
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

/// A server that lets everybody in and never answers again.
async fn frozen_database() -> (tokio_postgres::Config, impl Future<Output = ()>) {
    const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(WELCOME).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
    };
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("u");
    (config, serve)
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_given_up_with_its_connection() {
    let (database, serve) = frozen_database().await;
    let (routes, pool) = routes_on(&database, Arc::new(Anybody));
    let request = Request::get("/api/bookings")
        .header("apikey", "k")
        .body(Body::empty())
        .unwrap();
    // The server ends when its connection does.
    let (response, ()) = futures::join!(routes.oneshot(request), serve);
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(json(response).await["error"]["code"], "unavailable");
    assert_eq!(pool.status().size, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let (routes, _) = routes_on(&tokio_postgres::Config::new(), Arc::new(Anybody));
    let never = stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::post("/api/messages")
        .header("apikey", "k")
        .body(Body::from_stream(never))
        .unwrap();
    let response = routes.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json(response).await["error"]["message"],
        "The request did not arrive in time."
    );
}
