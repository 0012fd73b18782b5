//! Limits as an operator sets them.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Vsn, WsClient};
use serde_json::json;

const TOPIC: &str = "realtime:room";

#[tokio::test]
async fn a_message_may_be_as_large_as_its_limit() {
    let stage = Stage::open_with(|relay| {
        relay
            .set("PGRELAY_PAYLOAD_BYTES_MAX", "2000")
            .set("PGRELAY_FRAME_BYTES_MAX", "10000")
    })
    .await;
    let mut client = stage.connect(Vsn::V2).await;
    client
        .join(TOPIC, json!({"broadcast": {"ack": true}}))
        .await;
    let sized = |bytes: usize| json!({"p": "x".repeat(bytes - r#"{"p":""}"#.len())});
    for (bytes, response) in [(2_000, json!({})), (2_001, json!("payload_size_exceeded"))] {
        let reply = client.request(TOPIC, "broadcast", sized(bytes)).await;
        assert_eq!(reply.payload["response"], response);
    }
    client.push(TOPIC, "broadcast", sized(10_000)).await;
    assert_eq!(client.expect_close().await, Some(1009));
}

#[tokio::test]
async fn rates_close_what_exceeds_them() {
    let stage = Stage::open_with(|relay| {
        relay
            .set("PGRELAY_PRESENCE_CALLS_MAX", "5")
            .set("PGRELAY_EVENTS_PER_SECOND_MAX", "1")
            .set("PGRELAY_PRIVATE_ONLY", "false")
    })
    .await;
    let mut client = stage.connect(Vsn::V2).await;
    client.join(TOPIC, json!({})).await;
    for _ in 0..5 {
        let reply = client
            .request(TOPIC, "presence", json!({"event": "untrack"}))
            .await;
        assert_eq!(reply.payload["status"], "ok");
    }
    client
        .push(TOPIC, "presence", json!({"event": "untrack"}))
        .await;
    let told = client
        .expect("the reason", |frame| frame.event == "system")
        .await;
    assert_eq!(
        told.payload["message"],
        "Client presence rate limit exceeded"
    );
    client
        .expect("the end", |frame| frame.event == "phx_close")
        .await;
    client.join(TOPIC, json!({})).await;
    for _ in 0..3 {
        client.push(TOPIC, "broadcast", json!({"event": "e"})).await;
    }
    let told = client
        .expect("the reason", |frame| frame.event == "system")
        .await;
    assert_eq!(told.payload["message"], "Too many messages per second");
}

#[tokio::test]
async fn clients_and_joins_are_limited_where_an_operator_says_so() {
    let stage = Stage::open_with(|relay| {
        relay
            .set("PGRELAY_CLIENTS_MAX", "1")
            .set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
            .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
    })
    .await;
    let mut first = stage.connect(Vsn::V2).await;
    let mut second = stage.connect(Vsn::V2).await;
    first.join(TOPIC, json!({})).await;
    first.join("realtime:other", json!({})).await;
    let reply = second.request(TOPIC, "phx_join", json!({})).await;
    let reason = "ConnectionRateLimitReached: Too many connected users";
    assert_eq!(reply.payload["response"]["reason"], reason);
    let url = format!(
        "ws://{}/realtime/v1/websocket?apikey={}&vsn=2.0.0",
        stage.relay.address(),
        stage.relay.anon_key()
    );
    let refusal = (
        429,
        json!({"error": "Too many connected users"}).to_string(),
    );
    assert_eq!(WsClient::refused(&url).await, refusal);
    first.close().await;
    pgrelay_test_support::wait_for("a place to be free", async || {
        let reply = second.request(TOPIC, "phx_join", json!({})).await;
        (reply.payload["status"] == "ok").then_some(())
    })
    .await;

    let stage = Stage::open_with(|relay| relay.set("PGRELAY_JOINS_PER_SECOND_MAX", "1")).await;
    let mut client = stage.connect(Vsn::V2).await;
    for _ in 0..3 {
        client.push(TOPIC, "phx_join", json!({})).await;
    }
    assert_eq!(client.expect_close().await, Some(1001));
    let reason = "ClientJoinRateLimitReached: Too many joins per second";
    let told = client.take_unclaimed();
    assert!(
        told.iter()
            .any(|frame| frame.payload["response"]["reason"] == reason),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_operator_may_allow_private_channels_only() {
    let stage = Stage::open_with(|relay| {
        relay
            .set("PGRELAY_PRIVATE_ONLY", "true")
            .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
    })
    .await;
    let mut client = stage.connect(Vsn::V2).await;
    let reply = client.request(TOPIC, "phx_join", json!({})).await;
    let reason = "PrivateOnly: This project only allows private channels";
    assert_eq!(reply.payload["response"]["reason"], reason);
}

#[tokio::test]
async fn every_channel_is_told_before_an_operator_disconnects_it() {
    let stage = Stage::open().await;
    let mut client = stage.connect(Vsn::V2).await;
    let topics: Vec<_> = (0..10).map(|n| format!("realtime:room{n}")).collect();
    for topic in &topics {
        client.join(topic, json!({})).await;
    }
    let Stage {
        relay,
        sql,
        database,
    } = stage;
    let stopping = relay.stop();
    let closing = async {
        assert_eq!(client.expect_close().await, Some(1012));
        client.take_unclaimed()
    };
    let (_, told) = tokio::join!(stopping, closing);
    let payload =
        json!({"extension": "system", "status": "ok", "message": "Server requested disconnect"});
    let heard: Vec<_> = told.iter().map(|frame| frame.topic.clone()).collect();
    assert_eq!(heard, topics);
    assert!(
        told.iter()
            .all(|frame| frame.event == "system" && frame.payload == payload)
    );
    drop((sql, database));
}
