//! Order and atomicity: what is committed comes, in the order of commits, and nothing else.

use std::collections::BTreeMap;

use futures::future::join_all;
use pgrelay_e2e::Stage;
use serde_json::{Value, json};

const TABLE: &str = "create table t (id int primary key, v text)";

fn entries() -> Value {
    json!([{"event": "*", "schema": "public", "table": "t"}])
}

#[tokio::test]
async fn what_is_rolled_back_never_comes() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage.subscribe(entries()).await;
    stage
        .sql
        .run(
            "begin; insert into t values (1); rollback;
             begin; insert into t values (2); savepoint s; insert into t values (3); update t set v = 'x';
                    rollback to s; insert into t values (4); commit;
             begin; insert into t values (5); savepoint s; insert into t values (6); release s; rollback",
        )
        .await;
    // A statement that fails after its first rows were written.
    let failing = "insert into t select 7 + abs(i), 'y' from generate_series(-1, 1) i";
    assert!(stage.sql.batch_execute(failing).await.is_err());
    let caught = "do $$ begin insert into t values (8); raise exception 'no'; exception when others then null; end $$";
    stage.sql.run(caught).await;
    // A writer that is cut off in its transaction.
    let cut = stage.database.connect().await;
    cut.run("begin; insert into t values (9)").await;
    cut.cut();
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [
            r#"INSERT t {"id":2,"v":null}"#,
            r#"INSERT t {"id":4,"v":null}"#
        ]
    );
}

#[tokio::test]
async fn a_transaction_comes_when_it_is_committed_not_when_it_was_begun() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage.subscribe(entries()).await;
    let [first, second] = [
        stage.database.connect().await,
        stage.database.connect().await,
    ];
    first.run("begin; insert into t values (1)").await;
    second.run("begin; insert into t values (2)").await;
    first.run("insert into t values (3)").await;
    second.run("insert into t values (4); commit").await;
    // While the one that was begun first goes on, the other is out.
    let row = |id: usize| format!(r#"INSERT t {{"id":{id},"v":null}}"#);
    assert_eq!(subscriber.heard_briefly(&stage.sql).await, [row(2), row(4)]);
    first.run("insert into t values (5); commit").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [row(1), row(3), row(5)]
    );
}

#[tokio::test]
async fn a_transaction_that_began_after_a_commit_comes_after_it() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage.subscribe(entries()).await;
    let writers = [
        stage.database.connect().await,
        stage.database.connect().await,
    ];
    for id in 0..100 {
        let statement = format!("insert into t values ({id})");
        writers[id % 2].run(&statement).await;
    }
    let expected: Vec<String> = (0..100)
        .map(|id| format!(r#"INSERT t {{"id":{id},"v":null}}"#))
        .collect();
    assert_eq!(subscriber.heard_briefly(&stage.sql).await, expected);
}

#[tokio::test]
async fn changes_of_a_transaction_come_as_they_were_made_and_share_their_timestamp() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut subscriber = stage.subscribe(entries()).await;
    stage
        .sql
        .run(
            "begin; insert into t values (1, 'a'); update t set v = 'b'; update t set id = 2;
             delete from t; insert into t values (1, 'c'); commit",
        )
        .await;
    let now = stage.sql.value("select clock_timestamp()").await;
    let heard = subscriber.heard(&stage.sql).await;
    let briefly: Vec<String> = heard.iter().map(pgrelay_e2e::brief).collect();
    assert_eq!(
        briefly,
        [
            r#"INSERT t {"id":1,"v":"a"}"#,
            r#"UPDATE t {"id":1,"v":"b"} <- {"id":1}"#,
            r#"UPDATE t {"id":2,"v":"b"} <- {"id":1}"#,
            r#"DELETE t <- {"id":2}"#,
            r#"INSERT t {"id":1,"v":"c"}"#,
        ]
    );
    let stamp = heard[0]["data"]["commit_timestamp"].as_str().unwrap();
    for change in &heard {
        assert_eq!(change["data"]["commit_timestamp"], stamp);
    }
    // UTC, exactly three digits, and the time of the transaction.
    let shape: String = stamp
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let age = format!("select '{now}'::timestamptz - '{stamp}' between '-1ms' and '1 minute'");
    assert_eq!(stage.sql.value(&age).await, "t", "{stamp} and {now}");
}

#[tokio::test]
async fn rows_changed_by_the_users_own_triggers_come_in_the_order_of_their_versions() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    // A user's trigger that sorts before every other name and changes the row again.
    stage
        .sql
        .run(
            r#"create function again() returns trigger language plpgsql as
               $$ begin update t set v = v || '!' where id = new.id and length(v) < 3; return null; end $$;
               create trigger "!!" after insert or update on t for each row execute function again()"#,
        )
        .await;
    let mut subscriber = stage.subscribe(entries()).await;
    stage.sql.run("insert into t values (1, 'a')").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [
            r#"INSERT t {"id":1,"v":"a"}"#,
            r#"UPDATE t {"id":1,"v":"a!"} <- {"id":1}"#,
            r#"UPDATE t {"id":1,"v":"a!!"} <- {"id":1}"#,
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_many_writers_comes_once_and_in_its_writers_order() {
    const WRITERS: usize = 6;
    const ROWS: usize = 60;
    let stage = Stage::open().await;
    stage
        .publish("create table t (id bigint generated always as identity primary key, writer int, n int)", &["t"])
        .await;
    let mut subscribers = vec![
        stage.subscribe(entries()).await,
        stage.subscribe(entries()).await,
    ];
    let database = &stage.database;
    let write = |writer: usize| async move {
        let sql = database.connect().await;
        for n in 0..ROWS {
            // One in three is rolled back, one in three is part of a larger transaction.
            let statements = match n % 3 {
                0 => format!("insert into t (writer, n) values ({writer}, {n})"),
                1 => format!(
                    "begin; insert into t (writer, n) values ({writer}, -1); rollback; insert into t (writer, n) values ({writer}, {n})"
                ),
                _ => format!(
                    "begin; select pg_sleep(0.001); insert into t (writer, n) values ({writer}, {n}); update t set n = n where id = (select min(id) from t where writer = {writer}); commit"
                ),
            };
            sql.run(&statements).await;
        }
    };
    join_all((0..WRITERS).map(write)).await;
    let expected: Vec<u64> = (0..ROWS as u64).collect();
    let mut all = Vec::new();
    for subscriber in &mut subscribers {
        let heard = subscriber.heard(&stage.sql).await;
        let mut of_writers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for change in heard
            .iter()
            .filter(|change| change["data"]["type"] == "INSERT")
        {
            let record = &change["data"]["record"];
            let writer = record["writer"].as_u64().unwrap();
            of_writers
                .entry(writer)
                .or_default()
                .push(record["n"].as_u64().unwrap());
        }
        assert_eq!(of_writers.len(), WRITERS);
        for (writer, rows) in of_writers {
            assert_eq!(rows, expected, "writer {writer}");
        }
        all.push(
            heard
                .into_iter()
                .map(|change| change["data"].clone())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(all[0], all[1], "every subscriber sees the same order");
}
