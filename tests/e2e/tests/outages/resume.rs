//! Cursors: who gets them, and what they are good for.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{EventStream, Frame, Relay, Request, TestDatabase, Vsn, WsClient};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:room";
const TABLE: &str = "create table t (id int primary key)";

fn is_system(frame: &Frame) -> bool {
    frame.event == "system"
}

/// Joins with `since`; the client and the message that says it is live.
async fn resume(relay: &Relay, vsn: Vsn, since: &str) -> (WsClient, Frame) {
    let mut client = WsClient::connect(relay.address(), vsn, &relay.anon_key()).await;
    let entry = json!({"schema": "public", "table": "t", "since": since});
    client
        .join(TOPIC, json!({"postgres_changes": [entry]}))
        .await;
    let live = client
        .expect("to be live", |frame| {
            frame.payload["message"] == "Subscribed to PostgreSQL"
        })
        .await;
    (client, live)
}

fn row(change: &Value) -> u64 {
    change["data"]["record"]["id"].as_u64().unwrap()
}

fn cursor(payload: &Value) -> String {
    payload["cursor"].as_str().unwrap().into()
}

#[tokio::test]
async fn who_does_not_ask_for_cursors_never_sees_one() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_CHECKPOINT_INTERVAL", "50ms")).await;
    stage.publish(TABLE, &["t"]).await;
    let mut stock = stage.connect(Vsn::V2).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    stock
        .join(TOPIC, json!({"postgres_changes": entries}))
        .await;
    let live = stock.expect("to be live", is_system).await;
    let payload = json!({
        "channel": "room", "extension": "postgres_changes", "status": "ok", "message": "Subscribed to PostgreSQL",
    });
    assert_eq!(live.payload, payload);
    // Beside it somebody asks, and has got a checkpoint when it looks.
    let (mut other, _) = resume(&stage.relay, Vsn::V2, "now").await;
    stage.sql.run("insert into t values (1)").await;
    other.expect_change(TOPIC).await;
    other.expect("a checkpoint", is_system).await;
    let change = stock.expect_change(TOPIC).await;
    assert_eq!(change.as_object().unwrap().len(), 2, "{change}");
    stock.heartbeat().await;
    assert_eq!(stock.take_unclaimed(), []);
}

#[tokio::test]
async fn every_change_has_the_same_cursor_live_and_replayed_everywhere() {
    let database = TestDatabase::create().await;
    let relays = [Relay::start(&database).await, Relay::start(&database).await];
    let sql = database.connect().await;
    sql.run(&format!(
        "{TABLE}; grant select on t to anon; select pgrelay.enable('t')"
    ))
    .await;
    let mut live = Vec::new();
    for relay in &relays {
        for vsn in [Vsn::V1, Vsn::V2] {
            live.push(resume(relay, vsn, "now").await);
        }
    }
    for id in 1..=20 {
        sql.run(&format!("insert into t values ({id})")).await;
    }
    sql.run("insert into t select i from generate_series(21, 40) i")
        .await;
    let mut heard = Vec::new();
    let mut start = String::new();
    for (client, told) in &mut live {
        assert_eq!(
            told.payload["recovered"], false,
            "there was nothing to recover"
        );
        start = cursor(&told.payload);
        let changes = client
            .changes_until(TOPIC, |change| row(change) == 40)
            .await;
        heard.push(changes.iter().map(cursor).collect::<Vec<_>>());
    }
    // Again from the beginning, from the memory of a relay and from the log.
    let third = Relay::start(&database).await;
    for relay in relays.iter().chain([&third]) {
        let (mut client, told) = resume(relay, Vsn::V2, &start).await;
        assert_eq!(told.payload["recovered"], true);
        let changes = client
            .changes_until(TOPIC, |change| row(change) == 40)
            .await;
        let rows: Vec<u64> = changes.iter().map(row).collect();
        assert_eq!(rows, (1..=40).collect::<Vec<_>>());
        heard.push(changes.iter().map(cursor).collect());
    }
    for cursors in &heard {
        assert_eq!(*cursors, heard[0]);
    }
    let mut distinct = heard[0].clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 40);
}

#[tokio::test]
async fn any_cursor_can_be_resumed_from() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let (mut first, told) = resume(&stage.relay, Vsn::V2, "now").await;
    let mut cursors = vec![(0, cursor(&told.payload))];
    for id in 1..=5 {
        // Two in a transaction: a cursor may stand in the middle of one.
        stage
            .sql
            .run(&format!(
                "insert into t values ({}), ({})",
                2 * id - 1,
                2 * id
            ))
            .await;
    }
    let changes = first.changes_until(TOPIC, |change| row(change) == 10).await;
    cursors.extend(changes.iter().map(|change| (row(change), cursor(change))));
    for (seen, since) in cursors {
        let (mut client, told) = resume(&stage.relay, Vsn::V2, &since).await;
        assert_eq!(told.payload["recovered"], true);
        assert_eq!(told.payload["cursor"], *since, "it goes on from there");
        stage
            .sql
            .run(&format!("insert into t values (100 + {seen})"))
            .await;
        let rows = client
            .changes_until(TOPIC, |change| row(change) == 100 + seen)
            .await;
        let missed: Vec<u64> = rows.iter().map(row).filter(|row| *row <= 10).collect();
        assert_eq!(missed, (seen + 1..=10).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_checkpoint_comes_without_changes_and_can_be_resumed_from() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_CHECKPOINT_INTERVAL", "50ms")).await;
    stage.publish(TABLE, &["t"]).await;
    stage
        .publish("create table other (id int primary key)", &["other"])
        .await;
    let (mut client, told) = resume(&stage.relay, Vsn::V2, "now").await;
    let start = cursor(&told.payload);
    // What does not concern it moves its position too.
    stage.sql.run("insert into other values (1)").await;
    let checkpoint = client
        .expect("a newer checkpoint", |frame| {
            frame.payload["message"] == "checkpoint" && frame.payload["cursor"] != *start
        })
        .await;
    assert_eq!(
        checkpoint.payload,
        json!({
            "channel": "room", "extension": "postgres_changes", "status": "ok", "message": "checkpoint",
            "cursor": checkpoint.payload["cursor"],
        })
    );
    client.close().await;
    stage.sql.run("insert into t values (1)").await;
    let (mut client, told) = resume(&stage.relay, Vsn::V2, &cursor(&checkpoint.payload)).await;
    assert_eq!(told.payload["recovered"], true);
    assert_eq!(row(&client.expect_change(TOPIC).await), 1);
}

#[tokio::test]
async fn filters_and_columns_apply_to_what_was_missed_too() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table n (id int primary key, a text, b text)",
            &["n"],
        )
        .await;
    let entry = |since: &str| {
        json!([{
            "event": "INSERT", "schema": "public", "table": "n", "filter": "a=like.x%,id=in.(1,2,4)",
            "select": ["b"], "since": since,
        }])
    };
    let mut first = stage.connect(Vsn::V2).await;
    first
        .join(TOPIC, json!({"postgres_changes": entry("now")}))
        .await;
    let told = first.expect("to be live", is_system).await;
    stage
        .sql
        .run(
            "insert into n values (1, 'x', 'b'), (2, 'y', 'b'), (3, 'x', 'b'), (4, 'xx', 'b'); update n set a = 'x'; delete from n",
        )
        .await;
    let mut second = stage.connect(Vsn::V2).await;
    second
        .join(
            TOPIC,
            json!({"postgres_changes": entry(&cursor(&told.payload))}),
        )
        .await;
    for client in [&mut first, &mut second] {
        let heard = client.changes_until(TOPIC, |change| row(change) == 4).await;
        let records: Vec<&Value> = heard
            .iter()
            .map(|change| &change["data"]["record"])
            .collect();
        assert_eq!(
            records,
            [&json!({"id": 1, "b": "b"}), &json!({"id": 4, "b": "b"})]
        );
    }
}

#[tokio::test]
async fn entries_of_one_channel_go_on_from_cursors_of_their_own() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let (mut client, told) = resume(&stage.relay, Vsn::V2, "now").await;
    let start = cursor(&told.payload);
    stage.sql.run("insert into t values (1)").await;
    stage.sql.run("insert into t values (2)").await;
    let heard = client.changes_until(TOPIC, |change| row(change) == 2).await;
    let later = cursor(&heard[0]);
    let mut both = stage.connect(Vsn::V2).await;
    let entries = json!([
        {"event": "INSERT", "schema": "public", "table": "t", "since": start},
        {"event": "*", "schema": "public", "table": "t", "since": later},
        {"event": "*", "schema": "public", "table": "t", "filter": "id=gt.0"},
    ]);
    let response = both.join(TOPIC, json!({"postgres_changes": entries})).await;
    let id = |place: usize| response["postgres_changes"][place]["id"].clone();
    both.expect("to be live", is_system).await;
    stage.sql.run("insert into t values (3)").await;
    let heard = both.changes_until(TOPIC, |change| row(change) == 3).await;
    let sorted = |ids: &Value| {
        let mut ids: Vec<u64> = serde_json::from_value(ids.clone()).unwrap();
        ids.sort_unstable();
        ids
    };
    let found: Vec<(u64, Vec<u64>)> = heard
        .iter()
        .map(|change| (row(change), sorted(&change["ids"])))
        .collect();
    assert_eq!(
        found,
        [
            (1, sorted(&json!([id(0)]))),
            (2, sorted(&json!([id(0), id(1)]))),
            (3, sorted(&json!([id(0), id(1), id(2)]))),
        ]
    );
}

#[tokio::test]
async fn an_event_stream_goes_on_after_its_last_event() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let url = stage.relay.url(&format!(
        "/events?table=public.t&since=now&event=INSERT&filter=id=lt.100&apikey={}",
        stage.relay.anon_key()
    ));
    let mut stream = EventStream::open(Request::get(&url)).await;
    let greeting = stream.next().await;
    assert!(greeting.data.contains("Subscribed to PostgreSQL"));
    let mut last = greeting.id.unwrap();
    let mut rows = Vec::new();
    for round in 0..4 {
        stage
            .sql
            .run(&format!(
                "insert into t values ({}), ({}), ({})",
                3 * round + 1,
                3 * round + 2,
                3 * round + 3
            ))
            .await;
        // It leaves after two of the three.
        for _ in 0..2 {
            let event = stream.expect(|event| event.event.is_none()).await;
            let payload: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(payload["cursor"].as_str(), event.id.as_deref());
            rows.push(row(&payload));
            last = event.id.unwrap();
        }
        drop(stream);
        stream = EventStream::open(Request::get(&url).header("last-event-id", &last)).await;
    }
    while rows.len() < 12 {
        let event = stream.expect(|event| event.event.is_none()).await;
        rows.push(row(&serde_json::from_str(&event.data).unwrap()));
    }
    assert_eq!(rows, (1..=12).collect::<Vec<_>>());
}
