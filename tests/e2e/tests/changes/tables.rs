//! What kinds of tables do to their changes: identity, keys, partitions, names.

use pgrelay_e2e::Stage;
use serde_json::json;

#[tokio::test]
async fn the_old_record_is_the_replica_identity() {
    let stage = Stage::open().await;
    let tables = "create table standard (id int primary key, mail text not null, n int);
        create table whole (like standard including all); alter table whole replica identity full;
        create table indexed (like standard including all); create unique index mail_key on indexed (mail);
        alter table indexed replica identity using index mail_key;
        create table nothing (like standard including all); alter table nothing replica identity nothing";
    stage
        .publish(tables, &["standard", "whole", "indexed", "nothing"])
        .await;
    let mut subscriber = stage.subscribe(json!([{"schema": "public"}])).await;
    for table in ["standard", "whole", "indexed", "nothing"] {
        stage
            .sql
            .run(&format!(
                "insert into {table} values (1, 'm', null);
                 update {table} set n = 2; update {table} set id = 3; delete from {table}"
            ))
            .await;
    }
    let mut expected = Vec::new();
    for (table, first, second, last) in [
        ("standard", r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":3}"#),
        (
            "whole",
            r#"{"id":1,"mail":"m","n":null}"#,
            r#"{"id":1,"mail":"m","n":2}"#,
            r#"{"id":3,"mail":"m","n":2}"#,
        ),
        (
            "indexed",
            r#"{"mail":"m"}"#,
            r#"{"mail":"m"}"#,
            r#"{"mail":"m"}"#,
        ),
        // PostgreSQL would not decode these at all; the key is what a client can use.
        ("nothing", r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":3}"#),
    ] {
        expected.extend([
            format!(r#"INSERT {table} {{"id":1,"mail":"m","n":null}}"#),
            format!(r#"UPDATE {table} {{"id":1,"mail":"m","n":2}} <- {first}"#),
            format!(r#"UPDATE {table} {{"id":3,"mail":"m","n":2}} <- {second}"#),
            format!("DELETE {table} <- {last}"),
        ]);
    }
    assert_eq!(subscriber.heard_briefly(&stage.sql).await, expected);
}

#[tokio::test]
async fn without_a_primary_key_only_the_error_is_told() {
    let stage = Stage::open().await;
    let tables = "create table bare (note text);
        create table whole (note text); alter table whole replica identity full";
    stage.publish(tables, &["bare", "whole"]).await;
    let mut subscriber = stage
        .subscribe(json!([
            {"schema": "public", "table": "bare"},
            {"schema": "public", "table": "whole", "filter": "note=eq.another"},
            {"schema": "public", "table": "whole", "event": "DELETE"},
        ]))
        .await;
    stage
        .sql
        .run(
            "insert into bare values ('x'); insert into whole values ('x');
             update whole set note = 'y'; delete from whole",
        )
        .await;
    let ids = subscriber.ids();
    let refused = |table: &str, kind: &str| {
        json!({
            "schema": "public", "table": table, "type": kind, "commit_timestamp": null, "columns": [],
            "record": {}, "errors": ["Error 400: Bad Request, no primary key"],
        })
    };
    let mut update = refused("whole", "UPDATE");
    update["old_record"] = json!({});
    let heard = subscriber.heard(&stage.sql).await;
    let expected = [
        (refused("bare", "INSERT"), ids[0]),
        (refused("whole", "INSERT"), ids[1]),
        (update, ids[1]),
    ];
    assert_eq!(heard.len(), 4, "{heard:?}");
    for (change, (data, id)) in heard.iter().zip(expected) {
        assert_eq!(*change, json!({"ids": [id], "data": data}));
    }
    let deleted = &heard[3];
    assert_eq!(deleted["ids"], json!([ids[2]]));
    assert_eq!(deleted["data"]["old_record"], json!({"note": "y"}));
    assert_eq!(deleted["data"]["errors"], json!(null));
}

const PARTITIONED: &str = "create table log (id int, day date, note text, primary key (id, day)) partition by range (day);
    create table log_1 partition of log for values from ('2024-01-01') to ('2024-02-01');
    create table log_2 partition of log for values from ('2024-02-01') to ('2024-03-01')";
const PARTITIONED_LIFE: &str =
    "insert into log values (1, '2024-01-02', 'a'); update log set note = 'b';
    update log set day = '2024-02-02'; delete from log;
    create table log_3 partition of log for values from ('2024-03-01') to ('2024-04-01');
    insert into log values (2, '2024-03-03', 'c')";

#[tokio::test]
async fn changes_of_a_partitioned_table_carry_the_names_of_its_partitions() {
    let stage = Stage::open().await;
    stage.publish(PARTITIONED, &["log"]).await;
    // A role needs the right to read a partition that it is told of by name.
    stage
        .sql
        .run("grant select on log_1, log_2 to anon; alter default privileges grant select on tables to anon")
        .await;
    let mut subscribers = [
        stage
            .subscribe(json!([{"schema": "public", "table": "log_1"}, {"schema": "public", "table": "log_2"}]))
            .await,
        stage.subscribe(json!([{"schema": "public"}])).await,
    ];
    stage.sql.run(PARTITIONED_LIFE).await;
    let mut expected = vec![
        r#"INSERT log_1 {"day":"2024-01-02","id":1,"note":"a"}"#,
        r#"UPDATE log_1 {"day":"2024-01-02","id":1,"note":"b"} <- {"day":"2024-01-02","id":1}"#,
        r#"DELETE log_1 <- {"day":"2024-01-02","id":1}"#,
        r#"INSERT log_2 {"day":"2024-02-02","id":1,"note":"b"}"#,
        r#"DELETE log_2 <- {"day":"2024-02-02","id":1}"#,
    ];
    assert_eq!(subscribers[0].heard_briefly(&stage.sql).await, expected);
    expected.push(r#"INSERT log_3 {"day":"2024-03-03","id":2,"note":"c"}"#);
    assert_eq!(subscribers[1].heard_briefly(&stage.sql).await, expected);
}

#[tokio::test]
async fn changes_of_a_table_published_via_its_root_carry_the_name_of_the_root() {
    let stage = Stage::open().await;
    stage
        .sql
        .run("alter publication supabase_realtime set (publish_via_partition_root = true)")
        .await;
    stage.publish(PARTITIONED, &["log"]).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "log"}]))
        .await;
    stage.sql.run(PARTITIONED_LIFE).await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [
            r#"INSERT log {"day":"2024-01-02","id":1,"note":"a"}"#,
            r#"UPDATE log {"day":"2024-01-02","id":1,"note":"b"} <- {"day":"2024-01-02","id":1}"#,
            r#"DELETE log <- {"day":"2024-01-02","id":1}"#,
            r#"INSERT log {"day":"2024-02-02","id":1,"note":"b"}"#,
            r#"DELETE log <- {"day":"2024-02-02","id":1}"#,
            r#"INSERT log {"day":"2024-03-03","id":2,"note":"c"}"#,
        ]
    );
}

#[tokio::test]
async fn names_of_any_shape_are_matched_and_told_as_they_are() {
    let stage = Stage::open().await;
    let names = [
        ("My Schema", "Mixed Case", "Id Of It"),
        ("My Schema", r"dots.commas,\slashes\", "a.b"),
        ("public", "quote'\"\"d", "\"\""),
        ("public", "%_", "tab\there"),
        ("public", "ünïcode ❤", "sélect"),
    ];
    stage.sql.run("create schema \"My Schema\"").await;
    for (schema, table, column) in names {
        let create =
            format!(r#"create table "{schema}"."{table}" (id int primary key, "{column}" text)"#);
        stage
            .publish(&create, &[&format!(r#""{schema}"."{table}""#)])
            .await;
    }
    let mut subscribers = Vec::new();
    for (schema, table, column) in names {
        let unquoted = |name: &str| name.replace("\"\"", "\"");
        let (table, column) = (unquoted(table), unquoted(column));
        let entry = json!({
            "schema": schema, "table": table, "filter": format!("{column}=eq.x"), "select": [column],
        });
        subscribers.push((table, column, stage.subscribe(json!([entry])).await));
    }
    for (schema, table, _) in names {
        stage
            .sql
            .run(&format!(
                r#"insert into "{schema}"."{table}" values (1, 'x'), (2, 'y')"#
            ))
            .await;
    }
    for (table, column, subscriber) in &mut subscribers {
        let heard = subscriber.heard(&stage.sql).await;
        assert_eq!(heard.len(), 1, "{table}: {heard:?}");
        let data = &heard[0]["data"];
        assert_eq!(data["table"], **table);
        assert_eq!(data["record"][&*column], "x", "{data}");
        assert_eq!(data["columns"][1]["name"], **column);
    }
}

#[tokio::test]
async fn a_table_that_changes_is_described_as_it_is_then() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key, a text)", &["t"])
        .await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    for statement in [
        "insert into t values (1, 'a')",
        "alter table t add b int default 5",
        "insert into t values (2, 'a')",
        "alter table t drop a",
        "insert into t values (3)",
        "alter table t rename b to c",
        "insert into t values (4)",
    ] {
        stage.sql.run(statement).await;
    }
    let heard = subscriber.heard_briefly(&stage.sql).await;
    assert_eq!(
        heard[heard.len() - 1],
        r#"INSERT t {"c":5,"id":4}"#,
        "{heard:?}"
    );
    assert_eq!(heard.len(), 4);
    // What was added later is told with its type.
    stage.sql.run("alter table t add d uuid").await;
    stage.sql.run("insert into t values (5)").await;
    let heard = subscriber.heard(&stage.sql).await;
    assert_eq!(
        heard[0]["data"]["columns"],
        json!([{"name": "id", "type": "int4"}, {"name": "c", "type": "int4"}, {"name": "d", "type": "uuid"}])
    );
}

#[tokio::test]
async fn two_tables_of_one_name_in_different_schemas_are_told_apart() {
    let stage = Stage::open().await;
    let tables = "create schema other; create table t (id int primary key); create table other.t (id int primary key)";
    stage.publish(tables, &["t", "other.t"]).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "other", "table": "t"}]))
        .await;
    stage
        .sql
        .run("insert into t values (1); insert into other.t values (2)")
        .await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":2}"#]
    );
}
