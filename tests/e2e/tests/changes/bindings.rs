//! Which entries of a channel get which changes.

use pgrelay_e2e::{Stage, brief};
use pgrelay_test_support::Vsn;
use serde_json::{Value, json};

const NOTES: &str = "create table notes (id int primary key, title text, body text)";
const LIFE: &str = "insert into notes values (1, 'a', 'x');
    update notes set title = 'b' where id = 1;
    delete from notes where id = 1";
const BORN: &str = r#"INSERT notes {"body":"x","id":1,"title":"a"}"#;
const MOVED: &str = r#"UPDATE notes {"body":"x","id":1,"title":"b"} <- {"id":1}"#;
const GONE: &str = r#"DELETE notes <- {"id":1}"#;

#[tokio::test]
async fn an_entry_gets_the_events_it_asks_for() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let cases: [(Value, &[&str]); 8] = [
        (json!("INSERT"), &[BORN]),
        (json!("UPDATE"), &[MOVED]),
        (json!("DELETE"), &[GONE]),
        (json!("delete"), &[GONE]),
        (json!("*"), &[BORN, MOVED, GONE]),
        (json!("TRUNCATE"), &[BORN, MOVED, GONE]),
        (json!(7), &[BORN, MOVED, GONE]),
        (Value::Null, &[BORN, MOVED, GONE]),
    ];
    let mut subscribers = Vec::new();
    for (event, _) in &cases {
        let entry = json!({"event": event, "schema": "public", "table": "notes"});
        subscribers.push(stage.subscribe(json!([entry])).await);
    }
    let without_event = json!([{"schema": "public", "table": "notes"}]);
    let mut last = stage.subscribe(without_event).await;
    stage.sql.run(LIFE).await;
    for (subscriber, (event, expected)) in subscribers.iter_mut().zip(cases) {
        let heard = subscriber.heard_briefly(&stage.sql).await;
        assert_eq!(heard, expected, "{event}");
    }
    assert_eq!(
        last.heard_briefly(&stage.sql).await,
        [BORN, MOVED, GONE],
        "no event"
    );
}

#[tokio::test]
async fn a_change_comes_once_with_the_ids_of_all_entries_it_matches() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let mut subscriber = stage
        .subscribe(json!([
            {"event": "INSERT", "schema": "public", "table": "notes"},
            {"event": "*", "schema": "public", "table": "notes", "filter": "id=eq.1"},
            {"event": "DELETE", "schema": "public"},
            {"event": "*", "schema": "*"},
            {"event": "UPDATE", "schema": "public", "table": "notes", "filter": "title=eq.z"},
        ]))
        .await;
    let ids = subscriber.ids();
    stage.sql.run(LIFE).await;
    let heard = subscriber.heard(&stage.sql).await;
    let briefly: Vec<String> = heard.iter().map(brief).collect();
    assert_eq!(briefly, [BORN, MOVED, GONE]);
    for (change, expected) in heard.iter().zip([vec![0, 1, 3], vec![1, 3], vec![1, 2, 3]]) {
        let mut named: Vec<u64> = serde_json::from_value(change["ids"].clone()).unwrap();
        named.sort_unstable();
        let mut expected: Vec<u64> = expected
            .into_iter()
            .map(|place: usize| ids[place])
            .collect();
        expected.sort_unstable();
        assert_eq!(named, expected, "{change}");
    }
}

#[tokio::test]
async fn the_reply_echoes_every_entry_in_order_with_an_id() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let entries = json!([
        {"event": "INSERT", "schema": "public", "table": "notes", "filter": "", "unknown": [1, {"a": null}]},
        null,
        {"table": "notes", "event": "*"},
        {"table": "notes", "event": "*"},
        {"event": "*"},
    ]);
    let mut client = stage.connect(Vsn::V2).await;
    let response = client
        .join("realtime:echo", json!({"postgres_changes": entries}))
        .await;
    let echoed = response["postgres_changes"].as_array().unwrap();
    let sent: Vec<&Value> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| !entry.is_null())
        .collect();
    assert_eq!(echoed.len(), sent.len());
    for (echo, entry) in echoed.iter().zip(&sent) {
        let id = echo["id"].as_u64().unwrap();
        assert!((1..1 << 31).contains(&id), "{echo}");
        let mut expected = (*entry).clone();
        expected["id"] = json!(id);
        assert_eq!(*echo, expected);
    }
    assert_eq!(echoed[1]["id"], echoed[2]["id"], "equal entries");
    assert_ne!(echoed[0]["id"], echoed[1]["id"], "different entries");
}

#[tokio::test]
async fn a_join_without_entries_is_told_nothing_of_postgres() {
    let stage = Stage::open().await;
    let mut client = stage.connect(Vsn::V2).await;
    for (topic, entries) in [
        ("realtime:none", Value::Null),
        ("realtime:nothing", json!([])),
        ("realtime:null", json!([null])),
    ] {
        let response = client
            .join(topic, json!({"postgres_changes": entries}))
            .await;
        assert_eq!(response, json!({"postgres_changes": []}), "{topic}");
    }
    // A channel that is told something comes later; by then the others would have been.
    client
        .join_changes("realtime:some", json!([{"table": "mark"}]))
        .await;
    assert_eq!(client.take_unclaimed(), []);
}

#[tokio::test]
async fn a_star_or_nothing_stands_for_every_published_schema_and_table() {
    let stage = Stage::open().await;
    let tables = "create schema chat;
        create table a (id int primary key);
        create table b (id int primary key);
        create table chat.a (id int primary key);
        create table hidden (id int primary key)";
    stage.publish(tables, &["a", "b", "chat.a"]).await;
    let cases: [(Value, &[&str]); 7] = [
        (json!({"schema": "public"}), &["public.a", "public.b"]),
        (
            json!({"schema": "public", "table": "*"}),
            &["public.a", "public.b"],
        ),
        (json!({"schema": "chat", "table": "*"}), &["chat.a"]),
        (
            json!({"schema": "*", "table": "a"}),
            &["public.a", "chat.a"],
        ),
        (json!({"schema": "*"}), &["public.a", "public.b", "chat.a"]),
        (
            json!({"schema": "*", "table": "*"}),
            &["public.a", "public.b", "chat.a"],
        ),
        (json!({"table": "a"}), &["public.a"]),
    ];
    let mut subscribers = Vec::new();
    for (entry, _) in &cases {
        subscribers.push(stage.subscribe(json!([entry])).await);
    }
    stage
        .sql
        .run(
            "insert into a values (1); insert into b values (1);
             insert into chat.a values (1); insert into hidden values (1)",
        )
        .await;
    for (subscriber, (entry, expected)) in subscribers.iter_mut().zip(cases) {
        let heard = subscriber.heard(&stage.sql).await;
        let names: Vec<String> = heard
            .iter()
            .map(|change| {
                let word = |key: &str| change["data"][key].as_str().unwrap().to_owned();
                format!("{}.{}", word("schema"), word("table"))
            })
            .collect();
        assert_eq!(names, expected, "{entry}");
    }
}

#[tokio::test]
async fn only_a_star_is_a_wildcard() {
    let stage = Stage::open().await;
    let tables = r#"create table user_data (id int primary key);
        create table "userXdata" (id int primary key);
        create table "user%" (id int primary key)"#;
    stage
        .publish(tables, &["user_data", "\"userXdata\"", "\"user%\""])
        .await;
    let mut subscribers = Vec::new();
    for table in ["user_data", "user%"] {
        let entry = json!({"schema": "public", "table": table});
        subscribers.push((table, stage.subscribe(json!([entry])).await));
    }
    stage
        .sql
        .run(
            r#"insert into user_data values (1); insert into "userXdata" values (2);
             insert into "user%" values (3)"#,
        )
        .await;
    for (table, subscriber) in &mut subscribers {
        let heard = subscriber.heard(&stage.sql).await;
        assert_eq!(heard.len(), 1, "{table}: {heard:?}");
        assert_eq!(heard[0]["data"]["table"], *table);
    }
}

#[tokio::test]
async fn select_keeps_its_columns_and_the_primary_key() {
    let stage = Stage::open().await;
    let tables = "create table part (a int, b text, c text, d text, primary key (c, a));
        create table whole (a int, b text, c text, d text, primary key (c, a));
        alter table whole replica identity full";
    stage.publish(tables, &["part", "whole"]).await;
    let mut subscriber = stage
        .subscribe(json!([
            {"schema": "public", "table": "part", "select": ["d", 7, null]},
            {"schema": "public", "table": "whole", "select": ["d", "c"], "filter": "b=neq.hidden"},
            {"schema": "public", "table": "whole", "event": "DELETE", "select": []},
        ]))
        .await;
    stage
        .sql
        .run(
            "insert into part values (1, 'b', 'c', 'd'); update part set d = 'e'; delete from part;
             insert into whole values (1, 'b', 'c', 'd'), (2, 'hidden', 'c', 'd');
             update whole set d = 'e' where a = 1; delete from whole where a = 1",
        )
        .await;
    let heard = subscriber.heard(&stage.sql).await;
    let briefly: Vec<String> = heard.iter().map(brief).collect();
    assert_eq!(
        briefly,
        [
            r#"INSERT part {"a":1,"c":"c","d":"d"}"#,
            r#"UPDATE part {"a":1,"c":"c","d":"e"} <- {"a":1,"c":"c"}"#,
            r#"DELETE part <- {"a":1,"c":"c"}"#,
            r#"INSERT whole {"a":1,"c":"c","d":"d"}"#,
            r#"UPDATE whole {"a":1,"c":"c","d":"e"} <- {"a":1,"c":"c","d":"d"}"#,
            r#"DELETE whole <- {"a":1,"c":"c","d":"e"}"#,
            r#"DELETE whole <- {"a":1,"b":"b","c":"c","d":"e"}"#,
        ]
    );
    let ids = subscriber.ids();
    let columns = |change: &Value| -> Vec<String> {
        let columns = change["data"]["columns"].as_array().unwrap();
        let name = |column: &Value| column["name"].as_str().unwrap().to_owned();
        columns.iter().map(name).collect()
    };
    for change in &heard[..6] {
        assert_eq!(columns(change), ["a", "c", "d"], "{change}");
    }
    assert_eq!(columns(&heard[6]), ["a", "b", "c", "d"]);
    assert_eq!(heard[5]["ids"], json!([ids[1]]));
    assert_eq!(heard[6]["ids"], json!([ids[2]]));
}

#[tokio::test]
async fn both_versions_carry_the_same_payload() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let entries = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    let topic = "realtime:both";
    let mut clients = [stage.connect(Vsn::V1).await, stage.connect(Vsn::V2).await];
    for client in &mut clients {
        client.join_changes(topic, entries.clone()).await;
    }
    stage.sql.run(LIFE).await;
    let mut heard = Vec::new();
    for client in &mut clients {
        let is_last = |change: &Value| change["data"]["type"] == "DELETE";
        heard.push(client.changes_until(topic, is_last).await);
    }
    assert_eq!(heard[0].len(), 3);
    assert_eq!(heard[0], heard[1]);
}

#[tokio::test]
async fn a_change_has_exactly_the_documented_members() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let entries = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    let mut subscriber = stage.subscribe(entries).await;
    stage.sql.run(LIFE).await;
    let heard = subscriber.heard(&stage.sql).await;
    let ids = subscriber.ids();
    let columns = json!([
        {"name": "id", "type": "int4"}, {"name": "title", "type": "text"}, {"name": "body", "type": "text"},
    ]);
    let common = |change: &Value, kind: &str| {
        json!({
            "schema": "public", "table": "notes", "type": kind, "columns": columns, "errors": null,
            "commit_timestamp": change["data"]["commit_timestamp"],
        })
    };
    let row = |title: &str| json!({"id": 1, "title": title, "body": "x"});
    let mut born = common(&heard[0], "INSERT");
    born["record"] = row("a");
    let mut moved = common(&heard[1], "UPDATE");
    moved["record"] = row("b");
    moved["old_record"] = json!({"id": 1});
    let mut gone = common(&heard[2], "DELETE");
    gone["old_record"] = json!({"id": 1});
    for (change, data) in heard.iter().zip([born, moved, gone]) {
        assert_eq!(*change, json!({"ids": [ids[0]], "data": data}));
    }
}
