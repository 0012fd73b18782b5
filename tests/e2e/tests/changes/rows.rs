//! What ways of writing do to the changes that come of them.

use pgrelay_e2e::Stage;
use serde_json::json;

#[tokio::test]
async fn a_large_value_that_was_not_touched_is_complete() {
    let stage = Stage::open().await;
    let table = "create table t (id int primary key, n int, big text);
        alter table t alter big set storage external";
    stage.publish(table, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t", "filter": "big=like.xxx%"}]);
    let mut subscriber = stage.subscribe(entries).await;
    stage
        .sql
        .run("insert into t values (1, 1, repeat('x', 20000)); update t set n = 2")
        .await;
    let heard = subscriber.heard(&stage.sql).await;
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[1]["data"]["record"]["n"], 2);
    assert_eq!(heard[1]["data"]["record"]["big"], "x".repeat(20_000));
}

#[tokio::test]
async fn generated_columns_and_identities_are_columns_like_others() {
    let stage = Stage::open().await;
    let table = "create table t (id bigint generated always as identity primary key, a int,
        double_a int generated always as (a * 2) stored, at timestamptz default '2024-01-02 03:04:05Z')";
    stage.publish(table, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t", "filter": "double_a=gt.5"}]);
    let mut subscriber = stage.subscribe(entries).await;
    stage
        .sql
        .run("insert into t (a) values (1), (4); update t set a = 3 where a = 1")
        .await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [
            r#"INSERT t {"a":4,"at":"2024-01-02T03:04:05+00:00","double_a":8,"id":2}"#,
            r#"UPDATE t {"a":3,"at":"2024-01-02T03:04:05+00:00","double_a":6,"id":1} <- {"id":1}"#,
        ]
    );
}

#[tokio::test]
async fn every_way_to_write_tells_what_it_did_to_each_row() {
    let stage = Stage::open().await;
    let tables = "create table parent (id int primary key, n int);
        create table child (id int primary key, parent int references parent on delete cascade)";
    stage.publish(tables, &["parent", "child"]).await;
    let mut subscriber = stage.subscribe(json!([{"schema": "public"}])).await;
    let cases: [(&str, &[&str]); 9] = [
        (
            "insert into parent values (1, 1), (2, 1)",
            &[
                r#"INSERT parent {"id":1,"n":1}"#,
                r#"INSERT parent {"id":2,"n":1}"#,
            ],
        ),
        (
            "insert into parent values (1, 5) on conflict (id) do update set n = excluded.n",
            &[r#"UPDATE parent {"id":1,"n":5} <- {"id":1}"#],
        ),
        (
            "insert into parent values (1, 6) on conflict do nothing",
            &[],
        ),
        (
            "update parent set n = n where id = 1",
            &[r#"UPDATE parent {"id":1,"n":5} <- {"id":1}"#],
        ),
        ("update parent set n = 0 where false", &[]),
        (
            "with gone as (delete from parent where id = 2 returning *) insert into parent select id + 1, n from gone",
            &[
                r#"DELETE parent <- {"id":2}"#,
                r#"INSERT parent {"id":3,"n":1}"#,
            ],
        ),
        (
            "insert into child values (1, 3)",
            &[r#"INSERT child {"id":1,"parent":3}"#],
        ),
        (
            "delete from parent where id = 3",
            &[
                r#"DELETE parent <- {"id":3}"#,
                r#"DELETE child <- {"id":1}"#,
            ],
        ),
        ("truncate parent, child", &[]),
    ];
    for (statement, expected) in cases {
        stage.sql.run(statement).await;
        let heard = subscriber.heard_briefly(&stage.sql).await;
        assert_eq!(heard, expected, "{statement}");
    }
}

#[tokio::test]
async fn rows_written_by_a_replication_role_are_told() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    let apply = stage.database.connect_superuser().await;
    apply
        .run("set session_replication_role = replica; insert into t values (1)")
        .await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#]
    );
}

#[tokio::test]
async fn any_role_that_may_write_is_heard() {
    let stage = Stage::open().await;
    let table = "create table t (id int primary key); grant insert on t to anon";
    stage.publish(table, &["t"]).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    stage
        .sql
        .run("set role anon; insert into t values (1); reset role")
        .await;
    let superuser = stage.database.connect_superuser().await;
    superuser.run("insert into t values (2)").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#, r#"INSERT t {"id":2}"#]
    );
}
