//! How sockets end.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Vsn, WsClient, within};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

const TOPIC: &str = "realtime:room";

#[tokio::test]
async fn a_silent_socket_is_closed_and_one_that_beats_is_not() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_IDLE_TIMEOUT", "2s")).await;
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut silent = stage.connect(vsn).await;
        silent.join(TOPIC, json!({})).await;
        let mut alive = stage.connect(vsn).await;
        alive.join(TOPIC, json!({})).await;
        let closed = {
            let mut closed = std::pin::pin!(silent.expect_close());
            loop {
                tokio::select! {
                    biased;
                    code = &mut closed => break code,
                    () = alive.heartbeat() => {}
                }
            }
        };
        assert_eq!(closed, Some(1000));
        alive.heartbeat().await;
    }
}

#[tokio::test]
async fn what_the_server_sends_does_not_count_as_life() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_IDLE_TIMEOUT", "2s")).await;
    let mut silent = stage.connect(Vsn::V2).await;
    silent
        .join_changes(TOPIC, json!([{"schema": "public", "table": "mark"}]))
        .await;
    let mut closed = std::pin::pin!(silent.expect_close());
    let code = loop {
        tokio::select! {
            biased;
            code = &mut closed => break code,
            () = stage.sql.run("insert into mark default values") => {}
        }
    };
    assert_eq!(code, Some(1000));
}

#[tokio::test]
async fn a_message_over_the_limit_closes_its_socket() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_FRAME_BYTES_MAX", "1000")).await;
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut at_the_limit = stage.connect(vsn).await;
        at_the_limit.send(Message::text("x".repeat(1_000))).await;
        at_the_limit.heartbeat().await;
        let mut over_it = stage.connect(vsn).await;
        over_it.send(Message::text("x".repeat(1_001))).await;
        assert_eq!(over_it.expect_close().await, Some(1009));
        at_the_limit.heartbeat().await;
    }
}

#[tokio::test]
async fn a_polite_close_is_answered_in_kind() {
    let stage = Stage::open().await;
    let mut client = stage.connect(Vsn::V2).await;
    client.join(TOPIC, json!({})).await;
    client.send(Message::Close(None)).await;
    client.expect_close().await;
    // Its channels and the socket are forgotten.
    within("the socket to be forgotten", async {
        while stage.relay.metric("pgrelay_relay_channels", "").await > 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_are_not() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key, big text)", &["t"])
        .await;
    let proxy = pgrelay_test_support::TcpProxy::start(stage.relay.address()).await;
    let key = stage.relay.anon_key();
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut slow = WsClient::connect(proxy.address(), Vsn::V2, &key).await;
    slow.join_changes(TOPIC, entries.clone()).await;
    let mut other = stage.subscribe(entries).await;
    proxy.stall();
    let row = "insert into t select coalesce(max(id), 0) + 1, repeat('x', 500000) from t";
    within("the slow client to be given up", async {
        while stage
            .relay
            .metric("pgrelay_relay_overflows_total", "")
            .await
            < 1.0
        {
            stage.sql.run(row).await;
            assert_eq!(other.heard(&stage.sql).await.len(), 1);
        }
    })
    .await;
    proxy.open();
    assert_eq!(slow.expect_close().await, Some(1013));
    stage.sql.run(row).await;
    assert_eq!(other.heard(&stage.sql).await.len(), 1);
}
