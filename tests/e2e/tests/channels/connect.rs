//! The upgrade: who is let in, and what the others are answered.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{
    RelayBuilder, Request, SECRET, Vsn, WsClient, token, token_signed_with, within,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Refusals are answered at once.
fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
}

/// What a WebSocket handshake sends.
const HANDSHAKE: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Status, head and body of the answer to `request`, a method and a path.
async fn ask(
    address: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let text = format!("{request} HTTP/1.1\r\nhost: {address}\r\n{lines}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let head = within("the head of an answer", async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                return head.to_lowercase();
            }
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{text}");
        }
    })
    .await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = answer.split_off(head.len() + 4);
    while body.len() < length {
        assert!(
            within("the body", stream.read_buf(&mut body))
                .await
                .unwrap()
                > 0
        );
    }
    (status, head, String::from_utf8_lossy(&body).into_owned())
}

fn path(key: &str) -> String {
    format!("GET /realtime/v1/websocket?apikey={key}&vsn=2.0.0")
}

/// Keys that are refused, with status and text.
fn refused_keys() -> Vec<(String, u16, &'static str)> {
    let good = token(&json!({"role": "anon"}));
    let unsigned = good.rsplit_once('.').unwrap().0;
    let claims = |claims: Value| token_signed_with(SECRET, &claims);
    let malformed = "The token provided is not a valid JWT";
    let missing = "Fields `role` and `exp` are required in JWT";
    let signature = "Failed to validate JWT signature";
    // Header {"alg":"RS256","kid":"19de8c2c"}, then {"alg":"none"}; nothing is proven by their signatures.
    let named = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjE5ZGU4YzJjIn0.e30.AAAA";
    let unnamed = "eyJhbGciOiJub25lIn0.e30.AAAA";
    vec![
        (String::new(), 401, malformed),
        ("potato".into(), 401, malformed),
        ("a.b".into(), 401, malformed),
        ("a.b.c".into(), 401, malformed),
        (unsigned.to_owned(), 401, malformed),
        ("sb_publishable_unknown".into(), 401, malformed),
        (
            named.into(),
            401,
            "Failed to generate JWT signer for key ID (kid) \"19de8c2c\", check your JWT secret or JWKS configuration",
        ),
        (
            unnamed.into(),
            401,
            "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
        ),
        (
            token_signed_with(
                "another secret",
                &json!({"role": "anon", "exp": 4_000_000_000_u64}),
            ),
            401,
            signature,
        ),
        (format!("{unsigned}.AAAA"), 401, signature),
        (
            claims(json!({"role": "anon", "exp": 1})),
            401,
            "Token has expired",
        ),
        (claims(json!({"role": "anon"})), 401, missing),
        (claims(json!({"exp": 4_000_000_000_u64})), 401, missing),
        (claims(json!({"exp": 1})), 401, "Token has expired"),
        (
            claims(json!({"role": "anon", "exp": "4000000000"})),
            500,
            "Error connecting to Realtime",
        ),
        (
            claims(json!({"role": "anon", "exp": 4_000_000_000_u64, "iat": "1"})),
            500,
            "Error connecting to Realtime",
        ),
    ]
}

#[tokio::test]
async fn a_refused_key_is_answered_with_its_reason() {
    let stage = Stage::open_with(hasty).await;
    for (key, status, text) in refused_keys() {
        let answer = ask(stage.relay.address(), &path(&key), HANDSHAKE).await;
        assert_eq!(answer.0, status, "{key}: {answer:?}");
        assert_eq!(answer.2, json!({"error": text}).to_string(), "{key}");
        let kind = "content-type: application/json; charset=utf-8";
        assert!(answer.1.contains(kind), "{answer:?}");
    }
    for request in [
        "GET /realtime/v1/websocket?vsn=2.0.0",
        "GET /socket/websocket",
        "GET /socket/websocket?apikey[]=x",
    ] {
        let (status, _, body) = ask(stage.relay.address(), request, HANDSHAKE).await;
        assert_eq!(
            (status, body.as_str()),
            (401, r#"{"error":"API key is missing"}"#),
            "{request}"
        );
    }
}

#[tokio::test]
async fn the_header_goes_before_the_parameter() {
    let stage = Stage::open_with(hasty).await;
    let good = stage.relay.anon_key();
    for (header, parameter, status) in [
        (&*good, "potato", 101),
        (&*good, &*good, 101),
        ("not-a-jwt", &*good, 401),
        ("", &*good, 401),
    ] {
        let mut headers = HANDSHAKE.to_vec();
        headers.push(("x-api-key", header));
        let answer = ask(stage.relay.address(), &path(parameter), &headers).await;
        assert_eq!(answer.0, status, "{header} {parameter}");
    }
}

#[tokio::test]
async fn a_key_is_cleaned_of_escapes_and_blanks() {
    let stage = Stage::open_with(hasty).await;
    let key = stage.relay.anon_key();
    let (head, tail) = key.split_at(20);
    for written in [
        format!("%20{head}%0A{tail}%20"),
        format!("{head}%2520{tail}"),
        key.replace('.', "%252E"),
    ] {
        let answer = ask(stage.relay.address(), &path(&written), HANDSHAKE).await;
        assert_eq!(answer.0, 101, "{written}");
    }
}

#[tokio::test]
async fn a_configured_api_key_speaks_for_its_role() {
    let keys = "sb_publishable_abc:anon,sb_secret_def:service_role";
    let stage = Stage::open_with(|relay| hasty(relay).set("PGRELAY_API_KEYS", keys)).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    stage.sql.run("revoke select on t from anon").await;
    // Only service_role may read this table.
    for (key, status) in [("sb_publishable_abc", "error"), ("sb_secret_def", "ok")] {
        let mut client = WsClient::connect(stage.relay.address(), Vsn::V2, key).await;
        // A key in the payload means the key of the connection.
        let entry = json!({"schema": "public", "table": "t"});
        let payload = json!({
            "config": {"postgres_changes": [entry]}, "access_token": "sb_publishable_other",
        });
        let reply = client.request("realtime:t", "phx_join", payload).await;
        assert_eq!(reply.payload["status"], "ok");
        let told = client
            .expect("a system message", |frame| frame.event == "system")
            .await;
        assert_eq!(told.payload["status"], status, "{key}: {told:?}");
    }
    let answer = ask(stage.relay.address(), &path("sb_publishable_ab"), HANDSHAKE).await;
    assert_eq!(answer.0, 401);
}

#[tokio::test]
async fn a_version_is_chosen_or_refused() {
    let stage = Stage::open().await;
    let key = stage.relay.anon_key();
    let address = stage.relay.address();
    for (query, vsn) in [
        ("", Vsn::V1),
        ("&vsn=1.0.0", Vsn::V1),
        ("&vsn=1.0.7", Vsn::V1),
        ("&vsn=2.0.0", Vsn::V2),
        ("&vsn=2.0.12", Vsn::V2),
    ] {
        for path in ["/realtime/v1/websocket", "/socket/websocket"] {
            let url = format!("ws://{address}{path}?log_level=info&apikey={key}{query}");
            WsClient::connect_to(&url, vsn).await.heartbeat().await;
        }
    }
    for version in ["2.1.0", "3.0.0", "1", "2.0", "", "two"] {
        let request = format!("GET /socket/websocket?apikey={key}&vsn={version}");
        let (status, _, body) = ask(address, &request, HANDSHAKE).await;
        assert_eq!((status, body.as_str()), (403, ""), "{version:?}");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_is_a_bad_request() {
    let stage = Stage::open().await;
    let request = path(&stage.relay.anon_key());
    for method in ["POST", "PUT", "DELETE"] {
        let (status, _, body) = ask(
            stage.relay.address(),
            &request.replace("GET", method),
            HANDSHAKE,
        )
        .await;
        assert_eq!((status, body.as_str()), (400, ""), "{method}");
    }
    for missing in 0..HANDSHAKE.len() {
        let mut headers = HANDSHAKE.to_vec();
        let (name, _) = headers.remove(missing);
        let (status, _, body) = ask(stage.relay.address(), &request, &headers).await;
        assert_eq!(status, 400, "without {name}");
        assert!(!body.is_empty(), "without {name}");
    }
}

#[tokio::test]
async fn origin_protocols_and_compression_are_not_negotiated() {
    let stage = Stage::open().await;
    let mut headers = HANDSHAKE.to_vec();
    headers.extend([
        ("origin", "https://elsewhere.example"),
        ("sec-websocket-protocol", "phoenix, chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("authorization", "Bearer nonsense"),
    ]);
    let request = path(&stage.relay.anon_key());
    let (status, head, _) = ask(stage.relay.address(), &request, &headers).await;
    assert_eq!(status, 101);
    // The answer that RFC 6455 computes for this key.
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        assert!(!head.contains(name), "{head}");
    }
}

#[tokio::test]
async fn a_refused_connection_waits_and_keeps_nobody_waiting() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_CONNECT_ERROR_DELAY", "1h")).await;
    let address = stage.relay.address();
    let request = path("potato");
    let mut refused = std::pin::pin!(ask(address, &request, HANDSHAKE));
    let healthy = Request::get(&stage.relay.url("/healthz")).send();
    tokio::select! {
        biased;
        answer = &mut refused => panic!("answered at once: {answer:?}"),
        response = healthy => assert_eq!(response.status, 200),
    }
    stage.connect(Vsn::V2).await.heartbeat().await;
}
