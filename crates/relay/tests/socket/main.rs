//! The relay over real sockets: what a client sees on the wire.

#![expect(clippy::unwrap_used, reason = "a file of tests")]

#[allow(dead_code, reason = "shared with the test of memory")]
mod harness;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use pgrelay_protocol::{BindingSpec, EventKind, NamePattern, Since};
use pgrelay_relay::{Config, StreamEventKind, StreamRequest};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use harness::{Database, World, claims, config};

#[tokio::test]
async fn a_change_reaches_those_who_asked_for_it_and_nobody_else() {
    World::run(config(), |world| async move {
        let (mut one, mut two) = (world.connect().await, world.connect().await);
        assert_eq!(one.join(1, None).await, None);
        two.join(2, None).await;
        world.insert(2, &[1, 2], 3).await;
        for (client, room) in [(&mut one, 1), (&mut two, 2)] {
            let message = client.json().await;
            assert_eq!(
                (&message[2], &message[3]),
                (
                    &json!(format!("realtime:room{room}")),
                    &json!("postgres_changes")
                )
            );
            assert_eq!(
                message[4]["data"]["record"],
                json!({"id": 2, "room": room, "body": "xxx"})
            );
            assert_eq!(message[4]["cursor"], Value::Null);
        }
        world.insert(3, &[2], 0).await;
        assert_eq!(two.json().await[4]["data"]["record"]["id"], 3);
        world.insert(4, &[1], 0).await;
        assert_eq!(one.json().await[4]["data"]["record"]["id"], 4);
        assert!(world.metric("pgrelay_relay_deliveries_total 4"));
    })
    .await;
}

#[tokio::test]
async fn every_shard_hands_out_every_change() {
    let config = Config {
        shards: 3,
        ..config()
    };
    World::run(config, |world| async move {
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = world.connect().await;
            client.join(1, None).await;
            clients.push(client);
        }
        for batch in 2..50 {
            world.insert(batch, &[1], 10).await;
        }
        for client in &mut clients {
            for batch in 2..50 {
                assert_eq!(client.json().await[4]["data"]["record"]["id"], batch);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_came_with_the_upgrade_is_read_first() {
    World::run(config(), |world| async move {
        // A masked ping, cut in the middle.
        let mut client = world
            .connect_with(Bytes::from_static(&[0x89, 0x81, 1, 2]))
            .await;
        tokio::io::AsyncWriteExt::write_all(client.socket.get_mut(), &[3, 4, b'p' ^ 1])
            .await
            .unwrap();
        assert_eq!(client.next().await, Some(Message::Pong("p".into())));
    })
    .await;
}

#[tokio::test]
async fn garbage_harms_nobody() {
    World::run(config(), |world| async move {
        let mut client = world.connect().await;
        for text in ["", "{", "[]", "[1,2,3]", "{\"topic\":1}", "nonsense"] {
            client.send(Message::text(text)).await;
        }
        client.send(Message::binary(vec![9, 9, 9])).await;
        client
            .send(Message::text(r#"[null,"7","phoenix","heartbeat",{}]"#))
            .await;
        assert_eq!(
            client.json().await,
            json!([null, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}])
        );
    })
    .await;
}

#[tokio::test]
async fn a_bad_binding_is_told_and_does_not_stop_the_others() {
    World::run(config(), |world| async move {
        let mut client = world.connect().await;
        let entries = json!([{"schema": "public", "table": "nothing"}, {"schema": "public", "table": "messages"}, {"filter": "a=b"}]);
        let join = json!(["1", "1", "realtime:room", "phx_join", {"config": {"postgres_changes": entries}}]);
        client.send(Message::text(join.to_string())).await;
        let reply = client.json().await;
        let ids: Vec<_> = reply[4]["response"]["postgres_changes"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
        let mut told = Vec::new();
        for _ in 0..3 {
            let message = client.json().await;
            told.push((message[4]["status"].clone(), message[4]["binding"].clone()));
        }
        assert_eq!(told, [(json!("error"), ids[2].clone()), (json!("error"), ids[0].clone()), (json!("ok"), Value::Null)]);
        world.insert(2, &[1], 0).await;
        assert_eq!(client.json().await[4]["ids"], json!([ids[1]]));
    })
    .await;
}

#[tokio::test]
async fn closes_have_their_codes() {
    let oversize = || Message::binary(vec![0; 5_000_001]);
    World::run(config(), |world| async move {
        let mut client = world.connect().await;
        client.send(oversize()).await;
        assert_eq!(client.close_code().await, 1009);
        let mut client = world.connect().await;
        tokio::io::AsyncWriteExt::write_all(client.socket.get_mut(), &[0x81, 0x01, b'a'])
            .await
            .unwrap();
        assert_eq!(
            client.close_code().await,
            1002,
            "frames of clients are masked"
        );
        let mut client = world.connect().await;
        client.send(Message::Close(None)).await;
        assert_eq!(client.close_code().await, 1005);
        assert_eq!(client.next().await, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_after_the_idle_timeout() {
    World::run(
        Config {
            idle_timeout: Duration::from_secs(50),
            ..config()
        },
        |world| async move {
            let mut client = world.connect().await;
            assert_eq!(client.close_code().await, 1000);
        },
    )
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_closed_and_nobody_else_notices() {
    World::run(config(), |world| async move {
        let (mut slow, mut quick) = (world.connect().await, world.connect().await);
        slow.join(1, None).await;
        quick.join(1, None).await;
        let mut batch = 1;
        while !world.metric("pgrelay_relay_overflows_total 1") {
            batch += 1;
            world.insert(batch, &[1], 100_000).await;
            assert_eq!(quick.json().await[4]["data"]["record"]["id"], batch);
        }
        assert_eq!(slow.close_code().await, 1013);
        world.insert(batch + 1, &[1], 0).await;
        assert_eq!(quick.json().await[4]["data"]["record"]["id"], batch + 1);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_it_missed_then_what_is_new() {
    World::run(config(), |world| async move {
        let mut client = world.connect().await;
        client.join(1, Some("now")).await;
        world.insert(2, &[1], 0).await;
        let cursor = client.json().await[4]["cursor"]
            .as_str()
            .unwrap()
            .to_owned();
        drop(client);
        for batch in 3..40 {
            world.insert(batch, &[1, 2], 10_000).await;
        }
        let mut client = world.connect().await;
        assert_eq!(client.join(1, Some(&cursor)).await, Some(cursor));
        world.insert(40, &[1], 0).await;
        for batch in 3..=40 {
            assert_eq!(client.json().await[4]["data"]["record"]["id"], batch);
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_ring_does_not_hold_comes_from_the_log() {
    let relation = std::sync::Arc::new(pgrelay_relay::testing::table(
        1,
        "messages",
        "id:int8:pk room:int8 body:text",
    ));
    let page = |batch| {
        let row = format!(r#"I {{"id":{batch},"room":1,"body":""}}"#);
        pgrelay_relay::testing::page(
            batch,
            vec![pgrelay_relay::testing::change(1, &relation, &row)],
        )
    };
    let database = Database {
        pages: (2..30).map(page).collect(),
    };
    let config = Config {
        ring_bytes_max: 0,
        ..config()
    };
    let cursor = config
        .cursor_key
        .seal(pgrelay_relay::testing::position(10, 1));
    World::run_with(config, database, |world| async move {
        for batch in 2..30 {
            world.insert(batch, &[1], 0).await;
        }
        let mut client = world.connect().await;
        client.join(1, Some(&cursor)).await;
        for batch in 11..30 {
            assert_eq!(client.json().await[4]["data"]["record"]["id"], batch);
        }
    })
    .await;
}

fn spec() -> BindingSpec {
    BindingSpec {
        event: EventKind::All,
        schema: NamePattern::Exact("public".into()),
        table: NamePattern::Exact("messages".into()),
        filters: Vec::new(),
        select: None,
    }
}

fn request(since: Option<Since>) -> StreamRequest {
    StreamRequest {
        claims: claims(),
        token: "token".into(),
        specs: vec![spec()],
        since,
    }
}

#[tokio::test]
async fn a_stream_gets_changes_with_cursors_and_goes_on_from_one() {
    World::run(config(), |world| async move {
        let mut events = world.relay.subscribe(request(None)).await.unwrap();
        let start = events.next().await.unwrap();
        assert_eq!(
            (start.kind, start.cursor.is_some()),
            (StreamEventKind::System, true)
        );
        world.insert(2, &[1], 0).await;
        let change = events.next().await.unwrap();
        assert_eq!(change.kind, StreamEventKind::Change);
        let json: Value = serde_json::from_slice(&change.json).unwrap();
        assert_eq!(
            (json["ids"][0].as_u64(), json["cursor"].as_str()),
            (Some(1), change.cursor.as_deref())
        );
        drop(events);
        world.insert(3, &[1], 0).await;
        let since = Some(Since::Cursor(change.cursor.as_deref().unwrap().into()));
        let mut events = world.relay.subscribe(request(since)).await.unwrap();
        assert_eq!(events.next().await.unwrap().kind, StreamEventKind::System);
        let json: Value = serde_json::from_slice(&events.next().await.unwrap().json).unwrap();
        assert_eq!(json["data"]["record"]["id"], 3);
        assert!(world.metric("pgrelay_relay_streams 1"));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_ends() {
    World::run(config(), |world| async move {
        let mut stalled = world.relay.subscribe(request(None)).await.unwrap();
        let mut batch = 1;
        while !world.metric("pgrelay_relay_overflows_total 1") {
            batch += 1;
            world.insert(batch, &[1], 10_000).await;
            tokio::task::yield_now().await;
        }
        while stalled.next().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_drain_sends_everybody_elsewhere_and_the_shard_ends() {
    World::run(config(), |world| async move {
        let mut sockets = Vec::new();
        for room in 0..5 {
            let mut client = world.connect().await;
            client.join(room, None).await;
            sockets.push(client);
        }
        let mut events = world.relay.subscribe(request(None)).await.unwrap();
        world.relay.drain(Duration::from_millis(20));
        for client in &mut sockets {
            assert_eq!(client.close_code().await, 1012);
        }
        while events.next().await.is_some() {}
        drop(sockets);
        while pgrelay_relay::ports::Feed::publish(
            &world.relay,
            pgrelay_relay::ports::FeedEvent::CatalogChanged,
        )
        .await
        .is_ok()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
