//! What cannot be honoured is said, with the reason and a cursor to go on from.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Frame, Relay, Session, TestDatabase, Vsn, WsClient, wait_for};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:room";
const TABLE: &str = "create table t (id int primary key)";

/// A client, and what it was told until it was live.
struct Return {
    client: WsClient,
    refetches: Vec<Value>,
    recovered: bool,
    /// Where it goes on from.
    cursor: String,
}

impl Return {
    /// The rows that come next, up to `last`.
    async fn rows_until(&mut self, last: u64) -> Vec<u64> {
        let changes = self
            .client
            .changes_until(TOPIC, |change| row(change) == last)
            .await;
        changes.iter().map(row).collect()
    }

    /// The next `must_refetch`.
    async fn refetch(&mut self) -> Value {
        let told = self
            .client
            .expect("to be told to fetch again", |frame| {
                frame.payload["message"] == "must_refetch"
            })
            .await;
        assert_eq!(told.payload["status"], "error");
        told.payload
    }
}

fn row(change: &Value) -> u64 {
    change["data"]["record"]["id"].as_u64().unwrap()
}

fn cursor(payload: &Value) -> String {
    payload["cursor"].as_str().unwrap().into()
}

fn reasons(refetches: &[Value]) -> Vec<&str> {
    refetches
        .iter()
        .map(|payload| payload["reason"].as_str().unwrap())
        .collect()
}

/// Joins with this cursor and waits until the entry is live.
async fn come_back(relay: &Relay, since: &str) -> Return {
    let mut client = WsClient::connect(relay.address(), Vsn::V2, &relay.anon_key()).await;
    let entry = json!({"schema": "public", "table": "t", "since": since});
    client
        .join(TOPIC, json!({"postgres_changes": [entry]}))
        .await;
    let mut refetches = Vec::new();
    loop {
        let Frame { event, payload, .. } = client.next().await;
        assert_eq!(event, "system", "{payload}");
        match payload["message"].as_str() {
            Some("must_refetch") => refetches.push(payload),
            Some("Subscribed to PostgreSQL") => {
                return Return {
                    client,
                    refetches,
                    recovered: payload["recovered"].as_bool().unwrap(),
                    cursor: cursor(&payload),
                };
            }
            _ => panic!("{payload}"),
        }
    }
}

/// A new row, behind all others.
async fn next_row(sql: &Session) -> u64 {
    sql.value("insert into t select coalesce(max(id), 0) + 1 from t returning id")
        .await
        .parse()
        .unwrap()
}

/// The entry is live: it and who comes back to where it began see the same rows.
async fn is_live(relay: &Relay, sql: &Session, back: &mut Return) {
    let next = next_row(sql).await;
    let rows = back.rows_until(next).await;
    let mut again = come_back(relay, &back.cursor).await;
    assert!(again.recovered && again.refetches.is_empty());
    assert_eq!(again.rows_until(next).await, rows);
}

async fn insert(sql: &Session, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        sql.run(&format!("insert into t values ({id})")).await;
    }
}

#[tokio::test]
async fn a_cursor_that_is_none_of_this_database_is_forged() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let other = Stage::open().await;
    other.publish(TABLE, &["t"]).await;
    let foreign = come_back(&other.relay, "now").await.cursor;
    let own = come_back(&stage.relay, "now").await.cursor;
    insert(&stage.sql, 1..=3).await;
    let flipped: String = own
        .chars()
        .enumerate()
        .map(|(place, c)| {
            if place == 10 {
                if c == 'A' { 'B' } else { 'A' }
            } else {
                c
            }
        })
        .collect();
    for since in [
        "",
        "nonsense",
        "NOW",
        &own[..own.len() - 2],
        &format!("{own}A"),
        &flipped,
        &foreign,
    ] {
        let mut back = come_back(&stage.relay, since).await;
        assert_eq!(reasons(&back.refetches), ["forged"], "{since:?}");
        assert!(!back.recovered);
        assert_eq!(back.refetches[0]["status"], "error");
        assert_eq!(cursor(&back.refetches[0]), back.cursor);
        is_live(&stage.relay, &stage.sql, &mut back).await;
    }
    // The right one goes on where it was.
    let mut back = come_back(&stage.relay, &own).await;
    assert!(back.recovered);
    assert_eq!(back.rows_until(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_cursor_older_than_the_log_is_told_so() {
    let database = TestDatabase::create().await;
    let short = || {
        Relay::builder(database.url())
            .set("PGRELAY_LOG_RETENTION", "1s")
            .set("PGRELAY_RING_BYTES_MAX", "1KiB")
    };
    let relay = short().start().await;
    let sql = database.connect().await;
    sql.run(&format!(
        "{TABLE}; grant select on t to anon; select pgrelay.enable('t')"
    ))
    .await;
    let start = come_back(&relay, "now").await.cursor;
    let head = "select coalesce(max(id), 0) from pgrelay.ledger";
    insert(&sql, 1..=5).await;
    let told: i64 = wait_for("the rows to be sequenced", async || {
        let sequenced = sql.value("select sum(n) from pgrelay.ledger").await;
        let last = sql.value(head).await.parse().unwrap();
        (sequenced == "5").then_some(last)
    })
    .await;
    // Time goes by, and so do other rows.
    wait_for("the first rows to be recycled", async || {
        sql.run("insert into t select max(id) + 1 from t").await;
        let floor: i64 = sql
            .value("select value from pgrelay.meta where key = 'floor'")
            .await
            .parse()
            .unwrap();
        (floor >= told).then_some(())
    })
    .await;
    let mut back = come_back(&relay, &start).await;
    assert_eq!(reasons(&back.refetches), ["retention"]);
    assert!(!back.recovered);
    // From the cursor it was given on, nothing is missing.
    let next = next_row(&sql).await;
    let rows = back.rows_until(next).await;
    assert_eq!(rows, (rows[0]..=next).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_database_restored_from_a_copy_is_noticed() {
    let original = TestDatabase::create().await;
    let copy = TestDatabase::create().await;
    let relay = Relay::start(&original).await;
    let sql = original.connect().await;
    sql.run(&format!(
        "{TABLE}; grant select on t to anon; select pgrelay.enable('t')"
    ))
    .await;
    let mut before = come_back(&relay, "now").await;
    insert(&sql, 1..=2).await;
    let heard = before
        .client
        .changes_until(TOPIC, |change| row(change) == 2)
        .await;
    let kept = cursor(&heard[0]);
    drop(before);
    assert!(relay.stop().await.success());
    drop(sql);
    restore(&copy, &original).await;

    // The original goes on, and a client with it.
    let relay = Relay::start(&original).await;
    let sql = original.connect().await;
    insert(&sql, 3..=4).await;
    let mut ahead = come_back(&relay, &kept).await;
    let heard = ahead
        .client
        .changes_until(TOPIC, |change| row(change) == 4)
        .await;
    assert_eq!(heard.iter().map(row).collect::<Vec<_>>(), [2, 3, 4]);
    let lost = cursor(&heard[2]);
    drop(ahead);
    assert!(relay.stop().await.success());

    // Then the copy takes its place, and writes other rows under the same positions.
    let relay = Relay::start(&copy).await;
    let sql = copy.connect().await;
    let mut watcher = come_back(&relay, "now").await;
    insert(&sql, 13..=19).await;
    watcher.rows_until(19).await;
    let mut back = come_back(&relay, &lost).await;
    assert_eq!(reasons(&back.refetches), ["epoch"]);
    assert!(!back.recovered);
    // What it had when the copy was made is part of both histories.
    let mut again = come_back(&relay, &kept).await;
    assert!(again.recovered, "{:?}", again.refetches);
    assert_eq!(again.rows_until(19).await, [2, 13, 14, 15, 16, 17, 18, 19]);
    is_live(&relay, &sql, &mut back).await;
}

/// Makes `copy` what `original` is now; nobody may be connected to it.
async fn restore(copy: &TestDatabase, original: &TestDatabase) {
    let admin = Session::connect(&copy.superuser_url().with_database("postgres")).await;
    let name = async |database: &TestDatabase| {
        let session = Session::connect(database.superuser_url()).await;
        session.value("select current_database()").await
    };
    let owner = {
        let session = copy.connect().await;
        session.value("select current_user").await
    };
    let (from, to) = (name(original).await, name(copy).await);
    admin.run(&format!("drop database {to} with (force)")).await;
    let create = format!("create database {to} template {from} owner {owner}");
    wait_for("the original to be left alone", async || {
        admin.batch_execute(&create).await.ok()
    })
    .await;
    if owner != "postgres" {
        let session = Session::connect(copy.superuser_url()).await;
        let (old, new) = (from, owner);
        session
            .run(&format!(
                "reassign owned by {old} to {new}; grant all on schema public to {new}"
            ))
            .await;
    }
}

#[tokio::test]
async fn changes_that_were_not_captured_are_a_hole_live_and_replayed() {
    let stage = Stage::open().await;
    stage
        .publish(
            &format!("{TABLE}; create table other (id int primary key)"),
            &["t", "other"],
        )
        .await;
    let mut other = stage.connect(Vsn::V2).await;
    let entry = json!([{"schema": "public", "table": "other", "since": "now"}]);
    other.join_changes(TOPIC, entry).await;
    let trigger = stage
        .sql
        .value("select quote_ident(tgname) from pg_trigger where tgrelid = 't'::regclass and tgname like '!pgrelay_capture%'")
        .await;
    let ways = [
        "truncate t".to_owned(),
        format!("alter table t disable trigger {trigger}; insert into t values (1000)"),
        format!("drop trigger {trigger} on t; insert into t values (2000)"),
    ];
    let mut live = come_back(&stage.relay, "now").await;
    for way in ways {
        let away = come_back(&stage.relay, "now").await.cursor;
        stage.sql.run(&way).await;
        let told = live.refetch().await;
        assert_eq!(told["reason"], "hole", "{way}");
        // From there on it is live.
        let next = next_row(&stage.sql).await;
        let rows = live.rows_until(next).await;
        assert_eq!(rows.last(), Some(&next));
        // Who was away is told the same.
        let mut back = come_back(&stage.relay, &away).await;
        assert!(back.recovered);
        assert_eq!(back.refetch().await["reason"], "hole", "{way}");
        back.rows_until(next).await;
        // Who goes on from there is told nothing more.
        let mut back = come_back(&stage.relay, &cursor(&told)).await;
        back.rows_until(next).await;
        back.client.heartbeat().await;
        let late = back.client.take_unclaimed();
        assert_eq!(late, [], "{way}");
    }
    other.heartbeat().await;
    let told = other.take_unclaimed();
    assert!(
        told.iter()
            .all(|frame| frame.payload["message"] != "must_refetch"),
        "another table: {told:?}"
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_rendered_is_a_hole_and_does_not_fail_its_writer() {
    let stage = Stage::open().await;
    let table = "create type shade as enum ('light', 'dark');
        create function to_json(s shade) returns json language plpgsql as $$ begin
            if s = 'dark' then raise exception 'no'; end if; return '\"light\"'::json; end $$;
        create cast (shade as json) with function to_json(shade);
        create table t (id int primary key, s shade)";
    stage.publish(table, &["t"]).await;
    let mut live = come_back(&stage.relay, "now").await;
    stage.sql.run("insert into t values (1, 'light')").await;
    stage.sql.run("insert into t values (2, 'dark')").await;
    assert_eq!(live.refetch().await["reason"], "hole");
    assert_eq!(stage.sql.value("select count(*) from t").await, "2");
    stage.sql.run("insert into t values (3, 'light')").await;
    assert_eq!(live.rows_until(3).await, [1, 3]);
}
