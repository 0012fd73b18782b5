//! Rows too large to be sent whole.

use pgrelay_e2e::Stage;
use serde_json::{Value, json};

const TABLE: &str =
    "create table t (id int primary key, short text, limit_of_it text, over_it text, big text, n int);
     alter table t replica identity full";
const ERRORS: &str = "Error 413: Payload Too Large";

/// The bytes of a change that may be sent whole.
const CHANGE_BYTES_MAX: usize = 1_048_576;

fn without_nulls(record: &Value) -> Value {
    let members = record.as_object().unwrap().iter();
    members
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[tokio::test]
async fn a_row_over_a_mebibyte_keeps_its_short_values_and_says_so() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t", "filter": "big=like.y%"}]);
    let mut subscriber = stage.subscribe(entries).await;
    stage
        .sql
        .run(&format!(
            "insert into t values (1, 's', repeat('é', 31), repeat('x', 63), repeat('y', {CHANGE_BYTES_MAX}));
             update t set short = 'r'; delete from t; insert into t values (2, 's', 'l', 'o', 'y')"
        ))
        .await;
    let heard = subscriber.heard(&stage.sql).await;
    let kept = |short: &str| json!({"id": 1, "short": short, "limit_of_it": "é".repeat(31)});
    let expected = [
        ("INSERT", Some(kept("s")), None),
        ("UPDATE", Some(kept("r")), Some(kept("s"))),
        ("DELETE", None, Some(kept("r"))),
    ];
    assert_eq!(heard.len(), 4);
    for (change, (kind, record, old)) in heard.iter().zip(expected) {
        let data = &change["data"];
        assert_eq!(data["type"], kind);
        assert_eq!(data["errors"], json!([ERRORS]));
        assert_eq!(data.get("record").map(without_nulls), record, "{kind}");
        assert_eq!(data.get("old_record").map(without_nulls), old, "{kind}");
        assert_eq!(data["columns"].as_array().unwrap().len(), 6);
        assert!(data["commit_timestamp"].is_string());
    }
    assert_eq!(heard[3]["data"]["errors"], json!(null), "the next is whole");
}

#[tokio::test]
async fn a_row_just_below_the_limit_is_whole() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    // Names, types and quotes count too; this leaves room for them.
    let length = CHANGE_BYTES_MAX - 1_000;
    stage
        .sql
        .run(&format!(
            "insert into t values (1, '', '', '', repeat('y', {length}))"
        ))
        .await;
    let heard = subscriber.heard(&stage.sql).await;
    let data = &heard[0]["data"];
    assert_eq!(data["errors"], json!(null));
    assert_eq!(data["record"]["big"].as_str().unwrap().len(), length);
}

#[tokio::test]
async fn a_row_too_large_to_log_tells_its_key_and_does_not_harm_its_writer() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    stage
        .sql
        .run(
            "insert into t values (1, 's', '', '', repeat('y', 20000000));
             update t set id = 2; delete from t; insert into t values (3)",
        )
        .await;
    let heard = subscriber.heard(&stage.sql).await;
    assert_eq!(heard.len(), 4);
    let keys = [(Some(1), None), (Some(2), Some(1)), (None, Some(2))];
    for (change, (new, old)) in heard.iter().zip(keys) {
        let data = &change["data"];
        let id = |key: &str| data.get(key).map(|row| row["id"].as_i64().unwrap());
        assert_eq!((id("record"), id("old_record")), (new, old), "{data}");
        assert_eq!(data["errors"], json!([ERRORS]));
    }
    assert_eq!(heard[3]["data"]["errors"], json!(null));
}
