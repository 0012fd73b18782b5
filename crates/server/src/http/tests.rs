use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::*;
use crate::{
    auth::{ApiKeys, KeySet, Verifier, mint},
    seam::relay::Relay,
    secret::Secret,
    tasks::Tasks,
};

const DELAY: Duration = Duration::from_secs(2);

struct Fixed(Readiness);

impl Probe for Fixed {
    fn readiness(&self) -> Readiness {
        self.0.clone()
    }
}

fn secret() -> Secret {
    Secret::new("a secret of more than thirty-two bytes")
}

fn token(claims: serde_json::Value) -> String {
    let serde_json::Value::Object(claims) = claims else {
        unreachable!()
    };
    mint(&secret(), &claims).unwrap()
}

fn app(readiness: Readiness) -> Router {
    let api_keys = ApiKeys::parse("sb_publishable_x:anon").unwrap();
    let tokens = Arc::new(Verifier::new(KeySet::shared_secret(&secret()), api_keys));
    let tasks = Tasks::new();
    let routes = Routes {
        gate: Arc::new(Gate::new(
            Relay,
            Arc::<Verifier>::clone(&tokens),
            tasks.clone(),
            DELAY,
        )),
        streams: Arc::new(Streams::new(Relay, tokens, &tasks, 1)),
        readiness: Arc::new(Fixed(readiness)),
        metrics: Arc::new(Registry::default()),
        page: "<!doctype html>".into(),
    };
    router(routes, Router::new())
}

async fn answer(request: Request<Body>) -> Response<Body> {
    app(Readiness::Ready).oneshot(request).await.unwrap()
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(
        to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap()
            .to_vec(),
    )
    .unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn refused_sockets_get_the_exact_answers_after_the_delay() {
    let good = json!({"role": "anon", "exp": 4_000_000_000_u64});
    let tampered = format!("{}x", token(good));
    let cases = [
        (String::new(), 401, "API key is missing"),
        ("apikey[]=a".to_owned(), 401, "API key is missing"),
        (
            "apikey=potato".to_owned(),
            401,
            "The token provided is not a valid JWT",
        ),
        (
            "apikey=".to_owned(),
            401,
            "The token provided is not a valid JWT",
        ),
        (
            format!("apikey={tampered}"),
            401,
            "Failed to validate JWT signature",
        ),
        (
            format!("apikey={}", token(json!({"role": "anon", "exp": 1}))),
            401,
            "Token has expired",
        ),
        (
            format!("apikey={}", token(json!({"exp": 4_000_000_000_u64}))),
            401,
            "Fields `role` and `exp` are required in JWT",
        ),
        (
            format!(
                "apikey={}",
                token(json!({"role": "anon", "exp": "tomorrow"}))
            ),
            500,
            "Error connecting to Realtime",
        ),
    ];
    for path in ["/socket/websocket", "/realtime/v1/websocket"] {
        for (query, status, text) in &cases {
            let begun = Instant::now();
            let response = answer(get(&format!("{path}?{query}&vsn=2.0.0"))).await;
            assert_eq!(response.status(), *status, "{text}");
            assert_eq!(
                response.headers()["content-type"],
                "application/json; charset=utf-8"
            );
            assert_eq!(body(response).await, json!({ "error": text }).to_string());
            assert_eq!(begun.elapsed(), DELAY, "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_realtime_socket_is_refused_at_once_and_without_words() {
    let begun = Instant::now();
    for query in ["vsn=3.0.0", "vsn=abc", "vsn=1.1.0&apikey=potato"] {
        let response = answer(get(&format!("/socket/websocket?{query}"))).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{query}");
        assert_eq!(body(response).await, "");
    }
    let post = Request::post("/socket/websocket?apikey=potato")
        .body(Body::empty())
        .unwrap();
    let response = answer(post).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(body(response).await, "");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_header_goes_before_the_query() {
    let good = token(json!({"role": "anon", "exp": 4_000_000_000_u64}));
    let path = format!("/socket/websocket?apikey={good}");
    let request = Request::get(path)
        .header("x-api-key", "potato")
        .body(Body::empty())
        .unwrap();
    assert_eq!(answer(request).await.status(), StatusCode::UNAUTHORIZED);
    let request = Request::get("/socket/websocket?apikey=potato")
        .header("x-api-key", "sb_publishable_x")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        answer(request).await.status(),
        StatusCode::BAD_REQUEST,
        "only the upgrade is missing"
    );
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    for (path, text) in [
        ("/healthz", "ok"),
        ("/healthcheck", "ok"),
        ("/api/ping", r#"{"message":"Success"}"#),
        ("/readyz", "ready\n"),
    ] {
        let response = answer(get(path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(body(response).await, text);
    }
    let response = app(Readiness::NotReady("capture is not live"))
        .oneshot(get("/readyz"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body(response).await, "not ready: capture is not live\n");
}

#[tokio::test]
async fn browsers_may_ask_from_any_origin() {
    let preflight = Request::options("/events?table=t")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "GET")
        .header(
            "access-control-request-headers",
            "apikey,authorization,x-client-info",
        )
        .body(Body::empty())
        .unwrap();
    let response = answer(preflight).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "*");
    for name in [
        "apikey",
        "authorization",
        "x-client-info",
        "last-event-id",
        "baggage",
    ] {
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.split(',').any(|allowed| allowed == name), "{name}");
    }
    assert!(!headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let response = answer(get("/")).await;
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(body(response).await, "<!doctype html>");
}
