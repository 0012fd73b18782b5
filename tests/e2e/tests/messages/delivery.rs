//! Who hears a message of the database, and how it looks on the wire.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Frame, Relay, Vsn, WsClient, token};
use serde_json::{Value, json};

const ROOM: &str = "realtime:room:1";

/// Lets everybody read everything and nobody write.
pub(crate) const READERS: &str =
    "create policy readers on realtime.messages for select to anon, authenticated using (true)";

async fn channel(relay: &Relay, vsn: Vsn, private: bool) -> WsClient {
    let mut client = WsClient::connect(relay.address(), vsn, &relay.anon_key()).await;
    client.join(ROOM, json!({"private": private})).await;
    client
}

/// The next broadcast: its payload, whose `meta.id` must be there.
pub(crate) async fn heard(client: &mut WsClient) -> (Value, bool) {
    let frame = client
        .expect("a broadcast", |frame: &Frame| frame.event == "broadcast")
        .await;
    assert_eq!(frame.reference, Value::Null);
    (frame.payload, frame.binary)
}

#[tokio::test]
async fn a_message_goes_to_the_channels_of_its_topic_and_privacy_alone() {
    let stage = Stage::open().await;
    stage.sql.run(READERS).await;
    let mut private = [
        channel(&stage.relay, Vsn::V1, true).await,
        channel(&stage.relay, Vsn::V2, true).await,
    ];
    let mut public = [
        channel(&stage.relay, Vsn::V1, false).await,
        channel(&stage.relay, Vsn::V2, false).await,
    ];
    let mut alias = stage.connect(Vsn::V2).await;
    alias.join("realtime:private:room:1", json!({})).await;
    stage
        .sql
        .run(
            r#"select realtime.send('{"a": 1}', 'e', 'room:1');
               select realtime.send('{"id": 2}', 'e', 'room:1', false);
               select realtime.send('{"id": 3}', 'end', 'room:1');
               select realtime.send('{"id": 3}', 'end', 'room:1', false)"#,
        )
        .await;
    for client in &mut private {
        let (first, _) = heard(client).await;
        let id = first["meta"]["id"].clone();
        assert_eq!(
            first,
            json!({"type": "broadcast", "event": "e", "payload": {"a": 1, "id": id}, "meta": {"id": id}})
        );
        assert_eq!(heard(client).await.0["event"], "end");
    }
    for client in &mut public {
        let (first, _) = heard(client).await;
        assert_eq!(first["payload"], json!({"id": 2}));
        assert!(first["meta"]["id"].as_str().unwrap().len() == 36, "{first}");
        assert_eq!(heard(client).await.0["event"], "end");
    }
    alias.heartbeat().await;
    assert_eq!(alias.take_unclaimed(), []);
}

#[tokio::test]
async fn bytes_reach_clients_that_understand_them() {
    let stage = Stage::open().await;
    stage.sql.run(READERS).await;
    let mut old = channel(&stage.relay, Vsn::V1, true).await;
    let mut new = channel(&stage.relay, Vsn::V2, true).await;
    stage
        .sql
        .run(
            r"select realtime.send_binary('\x00ff', 'b', 'room:1');
              select realtime.send_binary('', 'b', 'room:1');
              select realtime.send('{}', 'end', 'room:1')",
        )
        .await;
    for bytes in [json!([0, 255]), json!([])] {
        let (payload, binary) = heard(&mut new).await;
        assert!(binary);
        assert_eq!(
            (&payload["event"], &payload["payload"]),
            (&json!("b"), &bytes)
        );
    }
    assert_eq!(heard(&mut new).await.0["event"], "end");
    assert_eq!(
        heard(&mut old).await.0["event"],
        "end",
        "and nothing before"
    );
}

#[tokio::test]
async fn rows_told_by_a_trigger_arrive_with_the_commit_and_not_without() {
    let stage = Stage::open().await;
    stage
        .sql
        .run(
            "create policy readers on realtime.messages for select to anon using (realtime.topic() like 'room:%');
             create table todos (id int, room int);
             create function tell() returns trigger language plpgsql security definer as $$ begin
               perform realtime.broadcast_changes('room:' || coalesce(new.room, old.room), tg_op, tg_op, tg_table_name,
                                                  tg_table_schema, new, old, tg_level);
               return null;
             end $$;
             create trigger tell after insert or update or delete on todos for each row execute function tell()",
        )
        .await;
    let mut client = channel(&stage.relay, Vsn::V2, true).await;
    stage
        .sql
        .run(
            "begin; insert into todos values (0, 1); rollback;
             insert into todos values (1, 1), (2, 2); update todos set id = 3 where id = 1; delete from todos",
        )
        .await;
    let row = |id: i32| json!({"id": id, "room": 1});
    for (event, record, old) in [
        ("INSERT", row(1), Value::Null),
        ("UPDATE", row(3), row(1)),
        ("DELETE", Value::Null, row(3)),
    ] {
        let (payload, _) = heard(&mut client).await;
        assert_eq!(payload["event"], event);
        let told = &payload["payload"];
        assert_eq!((&told["record"], &told["old_record"]), (&record, &old));
        assert_eq!(
            (&told["operation"], &told["table"], &told["schema"]),
            (&json!(event), &json!("todos"), &json!("public"))
        );
    }
}

#[tokio::test]
async fn a_message_is_no_change_of_a_table() {
    let stage = Stage::open().await;
    let mut wild = stage
        .subscribe(json!([{"event": "*", "schema": "*"}]))
        .await;
    stage
        .sql
        .run("select realtime.send('{}', 'e', 'room:1')")
        .await;
    let changes = wild.heard(&stage.sql).await;
    assert!(
        changes
            .iter()
            .all(|change| change["data"]["schema"] != "realtime"),
        "{changes:?}"
    );
}

#[tokio::test]
async fn every_relay_of_a_database_tells_its_own_clients() {
    let stage = Stage::open().await;
    stage.sql.run(READERS).await;
    let second = Relay::start(&stage.database).await;
    let mut clients = [
        channel(&stage.relay, Vsn::V2, true).await,
        channel(&second, Vsn::V2, true).await,
    ];
    for n in 0..20 {
        stage
            .sql
            .run(&format!(
                "select realtime.send('{{\"id\": {n}}}', 'e', 'room:1')"
            ))
            .await;
    }
    for client in &mut clients {
        for n in 0..20 {
            assert_eq!(heard(client).await.0["payload"]["id"], n);
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_broadcast_and_nothing_waits_for_it() {
    let stage = Stage::open_with(|relay| {
        relay
            .set("PGRELAY_PAYLOAD_BYTES_MAX", "2000")
            .allow("too large to be broadcast")
    })
    .await;
    stage.sql.run(READERS).await;
    let mut client = channel(&stage.relay, Vsn::V2, true).await;
    stage
        .sql
        .run(
            "select realtime.send(jsonb_build_object('id', 1, 'x', repeat('x', 2000)), 'large', 'room:1');
             select realtime.send_binary(decode(repeat('00', 2001), 'hex'), 'large', 'room:1');
             select realtime.send_binary(decode(repeat('00', 2000), 'hex'), 'fits', 'room:1')",
        )
        .await;
    assert_eq!(heard(&mut client).await.0["event"], "fits");
}

#[tokio::test]
async fn a_channel_may_wait_until_messages_of_the_database_arrive() {
    let stage = Stage::open().await;
    for vsn in [Vsn::V1, Vsn::V2] {
        let key = token(&json!({"role": "anon"}));
        let mut client = WsClient::connect(stage.relay.address(), vsn, &key).await;
        client
            .join(ROOM, json!({"broadcast": {"replication_ready": true}}))
            .await;
        let told = client
            .expect("to be ready", |frame| frame.event == "system")
            .await;
        assert_eq!(
            told.payload,
            json!({"channel": "room:1", "extension": "system", "status": "ok",
                   "message": "Replication connection established"})
        );
        stage
            .sql
            .run("select realtime.send('{}', 'e', 'room:1', false)")
            .await;
        assert_eq!(heard(&mut client).await.0["event"], "e");
    }
}
