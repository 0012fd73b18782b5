use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use futures::{FutureExt as _, future::BoxFuture};
use pgrelay_protocol::{BindingSpec, Position, Topic};
use pgrelay_relay::{
    Config, Metrics, Ports, Relay, Shard, build,
    change::Page,
    filter::{FilterTest, ResolvedBinding},
    ports::{
        Authorizer, BindingError, ChangeLog, ChannelError, ChannelRights, Claims, EvaluateError,
        MessageLog, Replay, ReplayError, SessionPlace, SessionStore, SessionUnavailable,
        StoredMessage,
    },
    view::{Glance, Sight, Viewer},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::*;
use crate::{
    auth::{ApiKeys, KeySet, Verifier, mint},
    http,
    secret::Secret,
    tasks::{Group, Tasks},
};

/// Room for one payload of the largest size and its envelope.
const BROADCAST_BYTES_MAX: usize = 200_000;

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

/// A database that is not there.
struct Nowhere;

impl ChangeLog for Nowhere {
    fn read(&self, _: Position, _: usize) -> BoxFuture<'static, Result<Replay, ReplayError>> {
        async { Err(ReplayError::Unavailable("nowhere".to_owned())) }.boxed()
    }
}

impl Authorizer for Nowhere {
    fn resolve(
        &self,
        _: Arc<BindingSpec>,
        _: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ResolvedBinding, BindingError>> {
        async {
            Err(BindingError {
                message: "nowhere".to_owned(),
                retryable: true,
            })
        }
        .boxed()
    }

    fn evaluate(
        &self,
        _: Arc<Page>,
        _: Vec<u32>,
        _: Arc<[FilterTest]>,
    ) -> BoxFuture<'static, Result<Vec<bool>, EvaluateError>> {
        async { Err(EvaluateError("nowhere".to_owned())) }.boxed()
    }

    fn look(
        &self,
        _: Arc<[Glance]>,
        _: Vec<Viewer>,
    ) -> BoxFuture<'static, Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>> {
        async { Err(EvaluateError("nowhere".to_owned())) }.boxed()
    }

    fn channel(
        &self,
        _: Topic,
        _: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ChannelRights, ChannelError>> {
        async {
            Err(ChannelError {
                message: "nowhere".to_owned(),
                retryable: true,
            })
        }
        .boxed()
    }
}

impl SessionStore for Nowhere {
    fn load(&self, _: Uuid) -> BoxFuture<'static, Result<Vec<SessionPlace>, SessionUnavailable>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn save(&self, _: Uuid, _: SessionPlace) {}

    fn forget(&self, _: Uuid, _: &Topic) {}
}

impl MessageLog for Nowhere {
    fn replay(
        &self,
        _: Topic,
        _: i64,
        _: u8,
    ) -> BoxFuture<'static, Result<Vec<StoredMessage>, ReplayError>> {
        async { Err(ReplayError::Unavailable("nowhere".to_owned())) }.boxed()
    }
}

fn verifier() -> Arc<Verifier> {
    let api_keys = ApiKeys::parse("sb_publishable_x:anon").unwrap();
    Arc::new(Verifier::new(KeySet::shared_secret(&secret()), api_keys))
}

fn relay() -> (Relay, Vec<Shard>) {
    relay_with(pgrelay_relay::testing::config())
}

fn relay_with(config: Config) -> (Relay, Vec<Shard>) {
    let ports = Ports {
        log: Arc::new(Nowhere),
        authorizer: Arc::new(Nowhere),
        messages: Arc::new(Nowhere),
        sessions: Arc::new(Nowhere),
        tokens: verifier(),
    };
    build(config, &ports, &Arc::new(Metrics::default()))
}

fn app(tasks: &Tasks, relay: &Relay, readiness: Readiness) -> Router {
    let gate = Gate {
        relay: relay.clone(),
        tokens: verifier(),
        tasks: tasks.clone(),
        metrics: http::Metrics::default(),
        error_delay: DELAY,
    };
    let routes = Routes {
        gate: Arc::new(gate),
        streams: Arc::new(Streams::new(relay.clone(), verifier(), tasks, 1)),
        speakers: Speakers {
            relay: relay.clone(),
            tokens: verifier(),
            authorizer: Arc::new(Nowhere),
        },
        broadcast_bytes_max: BROADCAST_BYTES_MAX,
        readiness: Arc::new(Fixed(readiness)),
        metrics: Arc::new(Registry::default()),
        page: "<!doctype html>".into(),
    };
    router(routes, Router::new())
}

async fn answer(request: Request<Body>) -> Response<Body> {
    let (relay, _shards) = relay();
    app(&Tasks::new(), &relay, Readiness::Ready)
        .oneshot(request)
        .await
        .unwrap()
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
    let (relay, _shards) = relay();
    let not_ready = Readiness::NotReady("capture is not live");
    let response = app(&Tasks::new(), &relay, not_ready)
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
async fn browsers_may_do_what_the_chat_offers() {
    let preflight = Request::options("/api/bookings/status")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "PATCH")
        .header(
            "access-control-request-headers",
            "idempotency-key,if-none-match",
        )
        .body(Body::empty())
        .unwrap();
    let response = answer(preflight).await;
    let allows = |list: &str, name: &str| {
        let allowed = response.headers()[list].to_str().unwrap();
        assert!(allowed.split(',').any(|allowed| allowed == name), "{name}");
    };
    for method in ["PATCH", "DELETE"] {
        allows("access-control-allow-methods", method);
    }
    for header in ["idempotency-key", "if-none-match"] {
        allows("access-control-allow-headers", header);
    }
    let request = Request::get("/healthz").header("origin", "https://app.test");
    let response = answer(request.body(Body::empty()).unwrap()).await;
    let exposed = response.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert_eq!(exposed, "etag,retry-after,idempotent-replayed");
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

#[tokio::test]
async fn a_frame_glued_to_the_upgrade_is_not_lost() {
    let tasks = Tasks::new();
    let (relay, shards) = relay();
    for shard in shards {
        tasks
            .spawn_thread(Group::Shard, "shard".to_owned(), |stop| shard.run(stop))
            .unwrap();
    }
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let router = app(&tasks, &relay, Readiness::Ready);
    let accept = Accept {
        listener,
        router,
        tasks: tasks.clone(),
        connections_max: 1,
    };
    tasks.spawn(
        Group::Accept,
        "accept",
        accept.run(tasks.stop_token(Group::Accept)),
    );

    let mut sent = b"GET /socket/websocket?apikey=sb_publishable_x&vsn=2.0.0 HTTP/1.1\r\n\
        host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-extensions: permessage-deflate\r\n\r\n"
        .to_vec();
    let heartbeat = br#"[null,"7","phoenix","heartbeat",{}]"#;
    // A masked text frame; a mask of zeros leaves the text as it is.
    sent.extend([
        0x81,
        0x80 | u8::try_from(heartbeat.len()).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    sent.extend(heartbeat);
    client.write_all(&sent).await.unwrap();

    let mut received = Vec::new();
    let reply = br#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    while !received.ends_with(reply) {
        assert_ne!(
            client.read_buf(&mut received).await.unwrap(),
            0,
            "the relay hung up"
        );
    }
    let head = String::from_utf8_lossy(&received).to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
}

fn said(path: &str, media_type: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("authorization", "bearer sb_publishable_x");
    let request = media_type.into_iter().fold(request, |request, value| {
        request.header("content-type", value)
    });
    request.body(body.into()).unwrap()
}

/// The answer to a batch: its status, and its body.
async fn batch(messages: serde_json::Value) -> (u16, String) {
    let text = json!({ "messages": messages }).to_string();
    let response = answer(said("/api/broadcast", Some("application/json"), text)).await;
    (response.status().as_u16(), body(response).await)
}

#[tokio::test]
async fn a_batch_is_taken_whole_or_told_what_is_wrong_with_which_message() {
    let good = json!({"topic": "a:b", "event": "e", "payload": {}});
    let mut other = good.clone();
    other["private"] = json!("false");
    other["id"] = json!("x");
    assert_eq!(batch(json!([good, other])).await, (202, String::new()));

    let blank = json!(["can't be blank"]);
    let invalid = json!(["is invalid"]);
    for (message, errors) in [
        (
            json!({"topic": "a"}),
            json!({"payload": blank, "event": blank}),
        ),
        (
            json!("text"),
            json!({"topic": blank, "payload": blank, "event": blank}),
        ),
        (
            json!({"topic": "", "event": 5, "payload": [], "private": "yes", "id": 7}),
            json!({"topic": blank, "event": invalid, "payload": invalid, "private": invalid, "id": invalid}),
        ),
    ] {
        let (status, text) = batch(json!([message, good])).await;
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"errors": {"messages": [errors, {}]}});
        assert_eq!((status, told), (422, expected));
    }
    for (messages, why) in [(json!([]), "can't be blank"), (json!({}), "is invalid")] {
        let expected = json!({"errors": {"messages": [why]}}).to_string();
        assert_eq!(batch(messages).await, (422, expected));
    }
    for (text, status) in [("{}", 422), ("{", 400)] {
        let response = answer(said(
            "/realtime/v1/api/broadcast?apikey=x&vsn=2.0.0",
            None,
            text,
        ))
        .await;
        assert_eq!(response.status(), status, "{text}");
    }
    let response = answer(said(
        "/api/broadcast",
        None,
        format!("{}1{}", "[".repeat(200), "]".repeat(200)),
    ))
    .await;
    assert_eq!(response.status(), 400, "nested too deeply");
}

#[tokio::test]
async fn payloads_and_bodies_are_limited() {
    let limit = pgrelay_relay::testing::config().payload_bytes_max;
    let sized = |bytes: usize| json!({"p": "x".repeat(bytes - r#"{"p":""}"#.len())});
    let message = |bytes| json!([{"topic": "a", "event": "e", "payload": sized(bytes)}]);
    assert_eq!(batch(message(limit)).await.0, 202);
    let why = "Payload size exceeds tenant limit";
    let expected = json!({"errors": {"messages": [{"payload": [why]}]}}).to_string();
    assert_eq!(batch(message(limit + 1)).await, (422, expected));

    let single = "/api/broadcast/a/events/e";
    let expected = json!({"errors": {"payload": [why]}}).to_string();
    for (media_type, of_size) in [
        (
            "application/json",
            (|bytes| "1".repeat(bytes)) as fn(usize) -> String,
        ),
        ("application/octet-stream", |bytes| "x".repeat(bytes)),
    ] {
        let response = answer(said(single, Some(media_type), of_size(limit))).await;
        assert_eq!(response.status(), 202);
        let response = answer(said(single, Some(media_type), of_size(limit + 1))).await;
        assert_eq!(
            (response.status().as_u16(), body(response).await),
            (422, expected.clone())
        );
    }
    let spaces = |bytes: usize| format!("{}{{}}", " ".repeat(bytes - 2));
    for (bytes, status) in [(BROADCAST_BYTES_MAX, 422), (BROADCAST_BYTES_MAX + 1, 413)] {
        let response = answer(said("/api/broadcast", None, spaces(bytes))).await;
        assert_eq!(response.status(), status, "{bytes}");
    }
}

#[tokio::test]
async fn a_single_broadcast_is_its_body() {
    let json = Some("application/json; charset=utf-8");
    let unsupported =
        r#"{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}"#;
    for (path, media_type, text, status, expected) in [
        (
            "/api/broadcast/room%3A1/events/user%2Fjoined",
            json,
            "{}",
            202,
            "",
        ),
        (
            "/realtime/v1/api/broadcast/a/events/e?apikey=k&vsn=2.0.0",
            json,
            "[1]",
            202,
            "",
        ),
        ("/api/broadcast/a/events/e?private=TRUE", json, "", 202, ""),
        ("/api/broadcast/a/events/e", None, "whatever", 202, ""),
        (
            "/api/broadcast/a/events/e",
            Some("application/octet-stream"),
            "",
            202,
            "",
        ),
        (
            "/api/broadcast/a/events/e",
            Some("text/plain"),
            "{}",
            415,
            unsupported,
        ),
        (
            "/api/broadcast/a/events/e",
            json,
            "{",
            400,
            r#"{"error":"the body is not JSON"}"#,
        ),
        (
            "/api/broadcast/a/events/e?private=true",
            json,
            "{}",
            422,
            r#"{"message":"Tenant database unavailable"}"#,
        ),
    ] {
        let response = answer(said(path, media_type, text)).await;
        assert_eq!(response.status(), status, "{path} {text}");
        assert_eq!(body(response).await, expected);
    }
}

#[tokio::test]
async fn who_broadcasts_shows_a_key() {
    let good = json!({"messages": [{"topic": "a", "event": "e", "payload": {}}]}).to_string();
    let expired = format!("Bearer {}", token(json!({"role": "anon", "exp": 1})));
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", "Bearer potato")], 401),
        (vec![("authorization", "Basic sb_publishable_x")], 401),
        (vec![("authorization", &*expired)], 401),
        (
            vec![("authorization", "potato"), ("apikey", "sb_publishable_x")],
            401,
        ),
        (vec![("authorization", "BEARER sb_publishable_x")], 202),
        (vec![("apikey", "sb_publishable_x")], 202),
        (vec![("x-api-key", "sb_publishable_x")], 401),
    ] {
        for (path, text) in [
            ("/api/broadcast", &*good),
            ("/api/broadcast/a/events/e", "{}"),
        ] {
            let request = Request::post(path).header("content-type", "application/json");
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(*name, *value)
            });
            let response = answer(request.body(Body::from(text.to_owned())).unwrap()).await;
            assert_eq!(response.status(), status, "{headers:?}");
            if status == 401 {
                assert_eq!(body(response).await, r#"{"message":"Unauthorized"}"#);
            }
        }
    }
}

#[tokio::test]
async fn private_broadcasts_that_cannot_be_judged_are_skipped() {
    let private = json!({"topic": "a", "event": "e", "payload": {}, "private": true});
    assert_eq!(batch(json!([private, private])).await, (202, String::new()));
}

#[tokio::test]
async fn broadcasts_beyond_their_rate_are_refused() {
    let (relay, _shards) = relay_with(Config {
        events_per_second_max: Some(3),
        ..pgrelay_relay::testing::config()
    });
    let send = async |count: usize| {
        let message = json!({"topic": "a", "event": "e", "payload": {}});
        let text = json!({ "messages": vec![message; count] }).to_string();
        let app = app(&Tasks::new(), &relay, Readiness::Ready);
        app.oneshot(said("/api/broadcast", None, text))
            .await
            .unwrap()
    };
    let response = send(4).await;
    assert_eq!(response.status(), 429);
    let text = r#"{"message":"Too many messages to broadcast, please reduce the batch size"}"#;
    assert_eq!(response.headers()["x-rate-limit"], "3");
    assert_eq!(body(response).await, text);
    // The second may end between two of them.
    let mut refused = None;
    for _ in 0..20 {
        let response = send(3).await;
        if response.status() == 429 && response.headers()["x-rate-limit-remaining"] == "0" {
            assert_eq!(response.headers()["x-rate-rolling"], "3");
            refused = Some(body(response).await);
            break;
        }
        assert_eq!(response.status(), 202);
    }
    let text = r#"{"message":"You have exceeded your rate limit"}"#;
    assert_eq!(refused.as_deref(), Some(text));
}
