//! Policies decide about rows, by what the table says when the change goes out.

use pgrelay_e2e::{Stage, Subscriber};
use pgrelay_test_support::{PostgresServer, Relay, Role, TestDatabase};
use serde_json::json;

use crate::people::{ANN, BOB, NOTES, connect, user};

async fn notes() -> Stage {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    stage
}

#[tokio::test]
async fn each_subscriber_gets_the_rows_it_could_select() {
    let stage = notes().await;
    let mut ann = user(&stage, ANN, "notes").await;
    let mut bob = user(&stage, BOB, "notes").await;
    let mut nobody = stage
        .subscribe(json!([{"schema": "public", "table": "notes"}]))
        .await;
    let mut service = stage
        .subscribe_as(
            "service_role",
            json!([{"schema": "public", "table": "notes"}]),
        )
        .await;
    let mut heard = [const { Vec::new() }; 4];
    for sql in [
        format!("insert into notes values (1, '{ANN}', 'a'), (2, '{BOB}', 'b'), (3, null, 'c')"),
        "update notes set body = 'd' where id = 2".to_owned(),
        "delete from notes where id = 1".to_owned(),
    ] {
        stage.sql.run(&sql).await;
        // Each is judged before the next is made.
        let all = [&mut ann, &mut bob, &mut nobody, &mut service];
        for (subscriber, heard) in all.into_iter().zip(&mut heard) {
            heard.extend(subscriber.heard_briefly(&stage.sql).await);
        }
    }
    let gone = r#"DELETE notes <- {"id":1}"#.to_owned();
    let [ann, bob, nobody, service] = heard;
    assert_eq!(ann, [format!("INSERT {}", note(1, ANN, "a")), gone.clone()]);
    assert_eq!(
        bob,
        [
            format!("INSERT {}", note(2, BOB, "b")),
            format!(r#"UPDATE {} <- {{"id":2}}"#, note(2, BOB, "d")),
            gone.clone()
        ]
    );
    assert_eq!(nobody, [gone]);
    assert_eq!(service.len(), 5);
}

/// What happens to rows before their first change is told: all in one transaction.
const FATES: &str = "
    begin;
    insert into notes values (1, '{ann}', 'card 4111'), (2, '{ann}', 'for ann'), (3, '{ann}', 'short'), (4, '{bob}', 'kept');
    update notes set body = 'redacted' where id = 1;
    update notes set user_id = '{bob}' where id = 2;
    delete from notes where id = 3;
    commit";

fn fates() -> String {
    FATES.replace("{ann}", ANN).replace("{bob}", BOB)
}

fn note(id: i32, sub: &str, body: &str) -> String {
    format!(r#"notes {{"body":"{body}","id":{id},"user_id":"{sub}"}}"#)
}

fn what_ann_hears() -> Vec<String> {
    let redacted = note(1, ANN, "redacted");
    vec![
        format!("INSERT {redacted}"),
        format!(r#"UPDATE {redacted} <- {{"id":1}}"#),
        r#"DELETE notes <- {"id":3}"#.to_owned(),
    ]
}

fn what_bob_hears() -> Vec<String> {
    let reassigned = note(2, BOB, "for ann");
    vec![
        format!("INSERT {reassigned}"),
        format!("INSERT {}", note(4, BOB, "kept")),
        format!(r#"UPDATE {reassigned} <- {{"id":2}}"#),
        r#"DELETE notes <- {"id":3}"#.to_owned(),
    ]
}

#[tokio::test]
async fn rows_that_changed_meanwhile_are_told_as_they_are_now() {
    let stage = notes().await;
    stage
        .sql
        .run("alter table notes replica identity full")
        .await;
    let mut ann = user(&stage, ANN, "notes").await;
    let mut bob = user(&stage, BOB, "notes").await;
    stage.sql.run(&fates()).await;
    let heard = ann.heard_briefly(&stage.sql).await;
    // Under a full identity an UPDATE that is the newest version tells the old row; no other does.
    let mut expected = what_ann_hears();
    expected[1] = format!(
        "UPDATE {} <- {}",
        note(1, ANN, "redacted"),
        note(1, ANN, "card 4111").trim_start_matches("notes ")
    );
    assert_eq!(heard, expected);
    assert_eq!(bob.heard_briefly(&stage.sql).await.len(), 4);
}

#[tokio::test]
async fn a_replay_tells_rows_as_they_are_now() {
    let stage = notes().await;
    let mut joined = Vec::new();
    for sub in [ANN, BOB] {
        let mut client = connect(&stage, &json!({"role": "authenticated", "sub": sub})).await;
        let entry = json!([{"schema": "public", "table": "notes", "since": "now"}]);
        client
            .join(Subscriber::TOPIC, json!({"postgres_changes": entry}))
            .await;
        let greeting = client
            .expect("a cursor", |frame| frame.payload["cursor"].is_string())
            .await;
        joined.push((sub, greeting.payload["cursor"].clone()));
    }
    // They are away while every version is live for somebody else.
    let mut service = stage
        .subscribe_as(
            "service_role",
            json!([{"schema": "public", "table": "notes"}]),
        )
        .await;
    for statement in fates()
        .replace("begin;", "")
        .replace("commit", "")
        .split_inclusive(';')
    {
        stage.sql.run(statement).await;
        service.heard(&stage.sql).await;
    }
    for ((sub, cursor), expected) in joined.into_iter().zip([what_ann_hears(), what_bob_hears()]) {
        let client = connect(&stage, &json!({"role": "authenticated", "sub": sub})).await;
        let entry = json!([{"schema": "public", "table": "notes", "since": cursor}]);
        let mut subscriber = Subscriber::join(client, entry).await;
        assert_eq!(
            subscriber.heard_briefly(&stage.sql).await,
            expected,
            "{sub}"
        );
    }
}

#[tokio::test]
async fn a_filter_and_a_policy_both_have_to_hold() {
    let stage = notes().await;
    let claims = json!({"role": "authenticated", "sub": ANN});
    let entries = |filter: &str| json!([{"schema": "public", "table": "notes", "filter": filter}]);
    let mut native = Subscriber::join(connect(&stage, &claims).await, entries("body=eq.x")).await;
    let mut asked = Subscriber::join(connect(&stage, &claims).await, entries("body=like.x%")).await;
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, '{ANN}', 'x'), (2, '{BOB}', 'x'), (3, '{ANN}', 'y')"
        ))
        .await;
    for subscriber in [&mut native, &mut asked] {
        assert_eq!(
            subscriber.heard_briefly(&stage.sql).await,
            [format!("INSERT {}", note(1, ANN, "x"))]
        );
    }
}

#[tokio::test]
async fn policies_that_look_elsewhere_and_keys_of_many_kinds_work() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create schema private;
             create table private.members (room text, user_id uuid, primary key (room, user_id));
             grant usage on schema private to authenticated;
             grant select on private.members to authenticated;
             create type mood as enum ('good', 'bad');
             create table rooms (room text, mood mood, at timestamptz, tags text[], raw bytea, price numeric, label char(4),
                                 body text, primary key (room, mood, at, tags, raw, price, label));
             alter table rooms enable row level security;
             create policy members on rooms using (exists (
                 select from private.members m where m.room = rooms.room and m.user_id = auth.uid()))",
            &["rooms"],
        )
        .await;
    stage
        .sql
        .run(&format!(
            "insert into private.members values ('a \"b\\', '{ANN}'), ('c', '{BOB}')"
        ))
        .await;
    let mut ann = user(&stage, ANN, "rooms").await;
    let mut bob = user(&stage, BOB, "rooms").await;
    stage
        .sql
        .run(
            r#"insert into rooms select r, 'good', '2024-01-02 03:04:05.678+02', array['x,y', null, '"'], '\x00ff', 1.50, 'ab', 'hi'
                 from unnest(array['a "b\', 'c']) r"#,
        )
        .await;
    for (subscriber, room) in [(&mut ann, r#"a "b\"#), (&mut bob, "c")] {
        let heard = subscriber.heard(&stage.sql).await;
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["data"]["record"]["room"], room);
        assert_eq!(
            heard[0]["data"]["record"]["tags"],
            json!(["x,y", null, "\""])
        );
    }
}

#[tokio::test]
async fn a_policy_that_fails_for_one_does_not_stop_the_others() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_EVALUATE_TIMEOUT", "300ms")).await;
    stage
        .publish(
            &format!(
                "create table notes (id int primary key, user_id uuid, body text);
                 alter table notes enable row level security;
                 create function fail() returns boolean language plpgsql as $$ begin raise 'no'; end $$;
                 create function doze() returns boolean language plpgsql as $$
                   begin perform pg_sleep(60); return true; end $$;
                 create policy own on notes using (
                    case auth.jwt() ->> 'sub' when 'raises' then fail() when 'sleeps' then doze()
                                              else user_id = auth.uid() end);
                 insert into notes values (0, '{ANN}', 'old')"
            ),
            &["notes"],
        )
        .await;
    let mut ann = user(&stage, ANN, "notes").await;
    let entry = json!([{"schema": "public", "table": "notes", "since": "now"}]);
    let mut failing = Vec::new();
    for sub in ["raises", "sleeps"] {
        let client = connect(&stage, &json!({"role": "authenticated", "sub": sub})).await;
        failing.push(Subscriber::join(client, entry.clone()).await);
    }
    for id in 1..=3 {
        stage
            .sql
            .run(&format!("insert into notes values ({id}, '{ANN}', 'x')"))
            .await;
        assert_eq!(
            ann.heard_briefly(&stage.sql).await,
            [format!("INSERT {}", note(id, ANN, "x"))]
        );
    }
    for mut subscriber in failing {
        let told = subscriber
            .client
            .expect("must_refetch", |frame| {
                frame.payload["message"] == "must_refetch"
            })
            .await;
        assert_eq!(told.payload["reason"], "authorization");
        // What needs no policy goes on.
        assert_eq!(subscriber.heard_briefly(&stage.sql).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_relay_that_cannot_take_a_role_on_says_how_to_let_it() {
    let server = PostgresServer::builder().start().await;
    let database = TestDatabase::create_on(&server.url(), Role::Owner).await;
    let superuser = database.connect_superuser().await;
    let sql = database.connect().await;
    let owner = sql.value("select current_user").await;
    let relay = Relay::builder(database.url()).start().await;
    superuser
        .run(&format!("revoke authenticated from {owner}"))
        .await;
    let stage = Stage {
        sql,
        relay,
        database,
    };
    stage.publish(NOTES, &["notes"]).await;
    let mut client = connect(&stage, &json!({"role": "authenticated", "sub": ANN})).await;
    client
        .join(
            Subscriber::TOPIC,
            json!({"postgres_changes": [{"schema": "public", "table": "notes"}]}),
        )
        .await;
    let told = client
        .expect("a refusal", |frame| frame.event == "system")
        .await;
    let message = told.payload["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!("run: grant authenticated to {owner}")),
        "{message}"
    );
    superuser
        .run(&format!("grant authenticated to {owner}"))
        .await;
    client
        .expect("to be live", |frame| {
            frame.payload["message"] == "Subscribed to PostgreSQL"
        })
        .await;
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, '{ANN}', 'a'), (2, '{BOB}', 'b')"
        ))
        .await;
    let change = client.expect_change(Subscriber::TOPIC).await;
    assert_eq!(change["data"]["record"]["id"], 1);
}
