//! Clients that send garbage get the documented answer and harm nobody else.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Vsn, WsClient};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// A stage with a table, and a healthy client that listens to it.
async fn stage() -> (Stage, pgrelay_e2e::Subscriber) {
    let stage = Stage::open().await;
    stage
        .publish("create table notes (id int primary key)", &["notes"])
        .await;
    let healthy = stage
        .subscribe(json!([{"event": "INSERT", "schema": "public", "table": "notes"}]))
        .await;
    (stage, healthy)
}

/// The stranger's socket still answers, and the healthy client still hears of every row.
async fn assert_unharmed(
    stage: &Stage,
    healthy: &mut pgrelay_e2e::Subscriber,
    stranger: Option<&mut WsClient>,
    id: usize,
) {
    if let Some(stranger) = stranger {
        stranger.heartbeat().await;
    }
    stage
        .sql
        .run(&format!("insert into notes values ({id})"))
        .await;
    assert_eq!(
        healthy.heard(&stage.sql).await.len(),
        1,
        "after message {id}"
    );
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_dropped_and_the_socket_lives() {
    let (stage, mut healthy) = stage().await;
    let mut stranger = stage.connect(Vsn::V2).await;
    let text = |text: &str| Message::text(text.to_owned());
    let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
    let garbage = [
        text(""),
        text("{"),
        text("\"a string\""),
        text("[null,\"1\",\"phoenix\"]"),
        text(r#"{"topic":"realtime:a","event":"phx_join","payload":{},"ref":"1"}"#),
        text(&"[".repeat(100_000)),
        binary(b""),
        binary(b"\x03"),
        binary(b"\x03\x02\x01\xff\x0a\x00\x01short"),
        binary(b"\x09\x00\x00\x00\x00"),
    ];
    for (id, message) in garbage.into_iter().enumerate() {
        stranger.send(message).await;
        assert_unharmed(&stage, &mut healthy, Some(&mut stranger), id).await;
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_words_and_the_socket_lives() {
    let (stage, mut healthy) = stage().await;
    let mut stranger = stage.connect(Vsn::V2).await;
    let unknown = stranger.request("no:topic", "phx_join", json!({})).await;
    assert_eq!(unknown.payload["response"]["reason"], "unmatched topic");
    let entries = [
        (
            json!({"event": "*", "schema": "public", "table": "nothing"}),
            "Please check Realtime is enabled",
        ),
        (
            json!({"event": "*", "schema": "public", "table": "notes", "filter": "wrong"}),
            "Error parsing `filter` params: [\"wrong\"]",
        ),
        (
            json!({"event": "*", "schema": "public", "table": "notes", "filter": "nothing=eq.1"}),
            "invalid column for filter nothing",
        ),
        (
            json!({"event": "*", "schema": "public", "table": "notes", "filter": "id=eq.hey"}),
            "invalid input syntax for type integer",
        ),
    ];
    for (id, (entry, words)) in entries.into_iter().enumerate() {
        let topic = format!("realtime:stranger {id}");
        stranger
            .join(&topic, json!({"postgres_changes": [entry]}))
            .await;
        let refusal = stranger
            .expect("the refusal", |frame| {
                frame.topic == topic && frame.event == "system"
            })
            .await;
        assert_eq!(refusal.payload["status"], "error");
        let message = refusal.payload["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert_unharmed(&stage, &mut healthy, Some(&mut stranger), id).await;
    }
}

#[tokio::test]
async fn a_message_over_its_limit_ends_its_own_socket_only() {
    let (stage, mut healthy) = stage().await;
    let mut stranger = stage.connect(Vsn::V2).await;
    let padding = "x".repeat(5_000_001);
    stranger
        .send(Message::text(format!(
            "[null,\"1\",\"phoenix\",\"heartbeat\",\"{padding}\"]"
        )))
        .await;
    assert_eq!(stranger.expect_close().await, Some(1009));
    assert_unharmed(&stage, &mut healthy, None, 1).await;
}

#[tokio::test]
async fn a_socket_that_speaks_no_http_or_breaks_off_harms_nobody() {
    let (stage, mut healthy) = stage().await;
    for (id, bytes) in [
        &b"\x00\x01\x02\x03"[..],
        b"GET /realtime/v1/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: webso",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = TcpStream::connect(stage.relay.address()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("101 "), "{text}");
        assert_unharmed(&stage, &mut healthy, None, id).await;
    }
}
