//! Sockets that name a session go on where it stood, without a cursor of their own.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Relay, Vsn, WsClient, token, wait_for};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const TOPIC: &str = "realtime:room";
const SESSION: &str = "0b6f3f2e-8f51-4a0e-9f53-2f3a7d1c9e77";

fn entries() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "line"}])
}

async fn connect(relay: &Relay) -> WsClient {
    let (address, key) = (relay.address(), relay.anon_key());
    let url =
        format!("ws://{address}/realtime/v1/websocket?apikey={key}&session={SESSION}&vsn=2.0.0");
    WsClient::connect_to(&url, Vsn::V2).await
}

async fn stage() -> Stage {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_CHECKPOINT_INTERVAL", "100ms")).await;
    stage
        .publish("create table line (id int primary key)", &["line"])
        .await;
    stage
}

fn is(id: i64) -> impl Fn(&Value) -> bool {
    move |change| change["data"]["record"]["id"] == id
}

/// The kept place, once there is one that differs from `before`.
async fn place(stage: &Stage, client: &mut WsClient, before: &str) -> String {
    wait_for("the place to be kept", async || {
        // Reading answers the pings.
        client.heartbeat().await;
        let kept = stage.sql.rows("select cursor from pgrelay.session").await;
        let kept = kept.first()?.first()?.clone()?;
        (kept != before).then_some(kept)
    })
    .await
}

#[tokio::test]
async fn a_client_without_cursors_misses_nothing_while_it_is_away() {
    let stage = stage().await;
    let mut client = connect(&stage.relay).await;
    client.join_changes(TOPIC, entries()).await;
    let first = place(&stage, &mut client, "").await;
    stage.sql.run("insert into line values (1)").await;
    client.changes_until(TOPIC, is(1)).await;
    place(&stage, &mut client, &first).await;
    drop(client);
    stage.sql.run("insert into line values (2)").await;
    let mut client = connect(&stage.relay).await;
    client.join_changes(TOPIC, entries()).await;
    let missed = client.changes_until(TOPIC, is(2)).await;
    assert_eq!(missed.len(), 1, "what was proven does not come again");

    let before = place(&stage, &mut client, "").await;
    stage.sql.run("insert into line values (3)").await;
    client.changes_until(TOPIC, is(3)).await;
    place(&stage, &mut client, &before).await;
    let Stage {
        relay,
        sql,
        database,
    } = stage;
    relay.kill().await;
    sql.run("insert into line values (4)").await;
    let relay = Relay::start(&database).await;
    let mut client = connect(&relay).await;
    client.join_changes(TOPIC, entries()).await;
    client.changes_until(TOPIC, is(4)).await;
}

#[tokio::test]
async fn a_session_belongs_to_its_subject_and_ends_with_a_leave() {
    let stage = stage().await;
    let mut client = connect(&stage.relay).await;
    client.join_changes(TOPIC, entries()).await;
    place(&stage, &mut client, "").await;
    drop(client);
    stage.sql.run("insert into line values (1)").await;
    let mut other = connect(&stage.relay).await;
    let user = token(&json!({"role": "anon", "sub": "somebody else"}));
    let join = json!({"config": {"postgres_changes": entries()}, "access_token": user});
    other.request(TOPIC, "phx_join", join).await;
    other
        .expect("the subscription to be live", |frame| {
            frame.event == "system"
        })
        .await;
    stage.sql.run("insert into line values (2)").await;
    let heard = other.changes_until(TOPIC, is(2)).await;
    assert_eq!(heard.len(), 1, "what the other missed is not for this one");

    let leave = json!(["1", "9", TOPIC, "phx_leave", {}]).to_string();
    other.send(Message::text(leave)).await;
    wait_for("the place to be forgotten", async || {
        let kept = stage
            .sql
            .value("select count(*) from pgrelay.session")
            .await;
        (kept == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_no_uuid_is_refused() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")).await;
    let (address, key) = (stage.relay.address(), stage.relay.anon_key());
    let url = format!("ws://{address}/realtime/v1/websocket?apikey={key}&session=x&vsn=2.0.0");
    let body = json!({"error": "session is no UUID"}).to_string();
    assert_eq!(WsClient::refused(&url).await, (400, body));
}
