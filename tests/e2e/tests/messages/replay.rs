//! Messages of the past for those who join.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{RelayBuilder, Vsn, WsClient};
use serde_json::{Value, json};

use crate::delivery::{READERS, heard};

const ROOM: &str = "realtime:room";

fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
}

/// Unix time in milliseconds, by the database's clock.
async fn now(stage: &Stage) -> i64 {
    let now = "select trunc(extract(epoch from clock_timestamp()) * 1000)::bigint";
    stage.sql.value(now).await.parse().unwrap()
}

fn replay(since: impl Into<Value>, limit: impl Into<Value>) -> Value {
    json!({"private": true, "broadcast": {"replay": {"since": since.into(), "limit": limit.into()}}})
}

async fn refused(client: &mut WsClient, config: Value) -> Value {
    let reply = client
        .request(ROOM, "phx_join", json!({ "config": config }))
        .await;
    assert_eq!(reply.payload["status"], "error", "{reply:?}");
    reply.payload["response"]["reason"].clone()
}

#[tokio::test]
async fn a_join_is_given_the_newest_messages_oldest_first() {
    let stage = Stage::open().await;
    stage.sql.run(READERS).await;
    let start = now(&stage).await;
    stage
        .sql
        .run(
            r#"begin;
               select realtime.send('{"id": 1}', 'e', 'room');
               select realtime.send_binary('\x07', 'b', 'room');
               select realtime.send('{"id": 3}', 'e', 'room');
               commit;
               select realtime.send('{"id": 4}', 'e', 'room', false);
               select realtime.send('{"id": 5}', 'e', 'elsewhere')"#,
        )
        .await;
    let mut new = stage.connect(Vsn::V2).await;
    new.join(ROOM, replay(start, 2)).await;
    let mut seen = Vec::new();
    for (event, payload) in [("b", json!([7])), ("e", json!({"id": 3}))] {
        let frame = new.next().await;
        assert_eq!(frame.event, "broadcast", "{frame:?}");
        assert_eq!(frame.payload["event"], event);
        assert_eq!(frame.payload["payload"], payload);
        assert_eq!(frame.payload["meta"]["replayed"], true);
        assert_eq!(frame.payload["type"], "broadcast");
        seen.push(frame.payload["meta"]["id"].clone());
    }
    // Bytes are nothing for an old client.
    let mut old = stage.connect(Vsn::V1).await;
    old.join(ROOM, replay(start, Value::Null)).await;
    for id in [1, 3] {
        let frame = old.next().await;
        assert_eq!(frame.payload["payload"]["id"], id, "{frame:?}");
        assert_eq!(frame.payload["meta"]["replayed"], true);
    }
    // What comes now is no replay, and what was replayed does not come again.
    stage
        .sql
        .run("select realtime.send('{\"id\": 6}', 'e', 'room')")
        .await;
    for client in [&mut new, &mut old] {
        let (payload, _) = heard(client).await;
        assert_eq!(payload["payload"]["id"], 6);
        assert_eq!(payload["meta"].get("replayed"), None);
        assert!(!seen.contains(&payload["meta"]["id"]));
    }
}

#[tokio::test]
async fn nothing_is_heard_twice_and_nothing_is_missed_at_the_seam() {
    let stage = Stage::open().await;
    stage.sql.run(READERS).await;
    let start = now(&stage).await;
    let writer = stage.database.connect().await;
    let write = async {
        for n in 0..60 {
            writer
                .run(&format!(
                    "select realtime.send('{{\"id\": {n}}}', 'e', 'room')"
                ))
                .await;
        }
    };
    let listen = async {
        for _ in 0..10 {
            let mut client = stage.connect(Vsn::V2).await;
            client.join(ROOM, replay(start, 25)).await;
            let mut last = None;
            loop {
                let (payload, _) = heard(&mut client).await;
                let id = payload["payload"]["id"].as_i64().unwrap();
                if let Some(last) = last {
                    assert_eq!(id, last + 1, "{payload}");
                }
                last = Some(id);
                if id == 59 || payload["meta"].get("replayed").is_none() {
                    break;
                }
            }
        }
    };
    futures::join!(write, listen);
}

#[tokio::test]
async fn only_a_private_channel_that_may_be_read_is_given_the_past() {
    let stage = Stage::open_with(hasty).await;
    stage
        .sql
        .run(
            "create policy there on realtime.messages for select to anon using (extension = 'presence');
             select realtime.send('{}', 'e', 'room')",
        )
        .await;
    let mut client = stage.connect(Vsn::V2).await;
    let mut public = replay(0, 1);
    public["private"] = json!(false);
    assert_eq!(
        refused(&mut client, public).await,
        "UnableToReplayMessages: Replay is not allowed for public channels"
    );
    let mut present = replay(0, 1);
    present["presence"] = json!({"enabled": true});
    assert_eq!(
        refused(&mut client, present).await,
        "Unauthorized: You do not have permissions to read from this Channel topic: room"
    );
    stage.sql.run(READERS).await;
    for (since, limit) in [
        (json!("yesterday"), json!(1)),
        (json!(null), json!(1)),
        (json!(1.5), json!(1)),
        (json!(0), json!("many")),
        (json!(i64::MAX), json!(1)),
    ] {
        assert_eq!(
            refused(&mut client, replay(since, limit)).await,
            "UnableToReplayMessages: Replay params are not valid"
        );
    }
    client.join(ROOM, replay(0, 1)).await;
    assert_eq!(heard(&mut client).await.0["meta"]["replayed"], true);
}
