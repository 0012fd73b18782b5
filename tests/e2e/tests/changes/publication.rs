//! Which tables are relayed to whom, and what is said where one is not.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Frame, Vsn, WsClient, token, wait_for};
use serde_json::json;

const TABLE: &str =
    "create table t (id int primary key); grant select on t to anon, authenticated, service_role";
const TOPIC: &str = "realtime:room";
const EXCEPTION: &str = "Unable to subscribe to changes with given parameters. An exception happened so please check \
     your connect parameters: [event: *, schema: public, table: t, filters: [], select: nil]. Exception: ERROR";

fn is_system(frame: &Frame) -> bool {
    frame.topic == TOPIC && frame.event == "system"
}

/// The next `system` message of the channel.
async fn told(client: &mut WsClient) -> (String, String) {
    let frame = client.expect("a system message", is_system).await;
    let word = |key: &str| frame.payload[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(word("extension"), "postgres_changes", "{frame:?}");
    assert_eq!(word("channel"), "room", "{frame:?}");
    (word("status"), word("message"))
}

fn live() -> (String, String) {
    ("ok".into(), "Subscribed to PostgreSQL".into())
}

fn error(message: &str) -> (String, String) {
    ("error".into(), message.into())
}

async fn connect_as(stage: &Stage, role: &str) -> WsClient {
    let key = token(&json!({"role": role}));
    WsClient::connect(stage.relay.address(), Vsn::V2, &key).await
}

#[tokio::test]
async fn what_is_not_published_is_refused_by_name() {
    let stage = Stage::open().await;
    stage.sql.run(TABLE).await;
    stage.sql.run("create view v as select * from t").await;
    let cases = [
        (
            json!({"event": "INSERT", "schema": "public", "table": "t"}),
            "[event: INSERT, schema: public, table: t, filters: [], select: nil]",
        ),
        (
            json!({"schema": "public", "table": "nowhere", "filter": "a=eq.1", "select": ["a", "b"]}),
            r#"[event: *, schema: public, table: nowhere, filters: [{"a", "eq", "1", false}], select: ["a", "b"]]"#,
        ),
        (
            json!({"schema": "public", "table": "v"}),
            "[event: *, schema: public, table: v, filters: [], select: nil]",
        ),
        (
            json!({"event": "DELETE", "schema": "pgrelay"}),
            "[event: DELETE, schema: pgrelay, table: *, filters: [], select: nil]",
        ),
        (
            json!({"table": "T"}),
            "[event: *, schema: public, table: T, filters: [], select: nil]",
        ),
    ];
    for (entry, parameters) in cases {
        let mut client = stage.connect(Vsn::V2).await;
        let join = json!({"postgres_changes": [entry]});
        let response = client.join(TOPIC, join).await;
        let expected = format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for \
             the given connect parameters: {parameters}"
        );
        let frame = client.expect("a refusal", is_system).await;
        assert_eq!(
            frame.payload,
            json!({
                "channel": "room", "extension": "postgres_changes", "status": "error", "message": expected,
                "binding": response["postgres_changes"][0]["id"],
            })
        );
        // The channel stays joined: nobody calls its topic unmatched.
        client.push(TOPIC, "anything", json!({})).await;
        client.heartbeat().await;
        assert_eq!(client.take_unclaimed(), []);
    }
}

#[tokio::test]
async fn publishing_a_table_is_enough_and_revives_who_asked_for_it_before() {
    let stage = Stage::open().await;
    stage.sql.run(TABLE).await;
    let mut waiting = stage.connect(Vsn::V2).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    waiting
        .join(TOPIC, json!({"postgres_changes": entries}))
        .await;
    assert_eq!(told(&mut waiting).await.0, "error");
    let mut everything = stage.subscribe(json!([{"schema": "public"}])).await;
    stage
        .sql
        .run("alter publication supabase_realtime add table t")
        .await;
    assert_eq!(told(&mut waiting).await, live());
    // The join of a published table sees to it that its changes are captured.
    let mut late = stage.subscribe(entries).await;
    stage.sql.run("insert into t values (1)").await;
    assert_eq!(
        waiting.expect_change(TOPIC).await["data"]["record"]["id"],
        1
    );
    for subscriber in [&mut late, &mut everything] {
        let heard = subscriber.heard_briefly(&stage.sql).await;
        assert_eq!(heard, [r#"INSERT t {"id":1}"#]);
    }
}

#[tokio::test]
async fn a_publication_for_all_tables_relays_tables_made_later() {
    let stage = Stage::open().await;
    let admin = stage.database.connect_superuser().await;
    let owner = stage.sql.value("select current_user").await;
    admin
        .run(&format!(
            "drop publication supabase_realtime;
             create publication supabase_realtime for all tables with (publish = 'insert');
             alter publication supabase_realtime owner to {}",
            if owner == "postgres" {
                "postgres"
            } else {
                "current_user"
            }
        ))
        .await;
    stage.sql.run(TABLE).await;
    let mut subscriber = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    stage.sql.run("insert into t values (1)").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#]
    );
}

#[tokio::test]
async fn a_table_that_leaves_the_publication_is_silent_and_refused() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut subscriber = stage.subscribe(entries.clone()).await;
    stage.sql.run("insert into t values (1)").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#]
    );
    stage
        .sql
        .run("alter publication supabase_realtime drop table t")
        .await;
    // At once where an event trigger tells the relay, else within seconds.
    let one_more = "insert into t select max(id) + 1 from t";
    wait_for("the table to fall silent", async || {
        stage.sql.run(one_more).await;
        subscriber.heard(&stage.sql).await.is_empty().then_some(())
    })
    .await;
    stage.sql.run(one_more).await;
    assert_eq!(subscriber.heard(&stage.sql).await, [json!(null); 0]);
    let mut late = stage.connect(Vsn::V2).await;
    late.join(TOPIC, json!({"postgres_changes": entries})).await;
    assert!(
        told(&mut late)
            .await
            .1
            .contains("Please check Realtime is enabled")
    );
    // Coming back, it is heard again.
    stage
        .sql
        .run("alter publication supabase_realtime add table t")
        .await;
    assert_eq!(told(&mut late).await, live());
    stage.sql.run("insert into t values (0)").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":0}"#]
    );
}

#[tokio::test]
async fn without_its_publication_everything_is_refused() {
    let stage = Stage::open().await;
    stage.sql.run("drop publication supabase_realtime").await;
    let mut client = stage.connect(Vsn::V2).await;
    let entry = json!({"event": "INSERT", "schema": "public"});
    client
        .join(TOPIC, json!({"postgres_changes": [entry]}))
        .await;
    assert_eq!(
        told(&mut client).await,
        error(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the \
             given connect parameters: [event: INSERT, schema: public, table: *, filters: [], select: nil]"
        )
    );
}

#[tokio::test]
async fn without_a_policy_only_those_who_bypass_row_security_see_rows() {
    let stage = Stage::open().await;
    stage
        .publish(
            &format!("{TABLE}; alter table t enable row level security"),
            &["t"],
        )
        .await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut anybody = stage.subscribe(entries.clone()).await;
    let mut everything = stage.subscribe(json!([{"schema": "public"}])).await;
    let mut service = stage.subscribe_as("service_role", entries).await;
    stage
        .sql
        .run("insert into t values (1); update t set id = 2; delete from t")
        .await;
    assert_eq!(
        service.heard_briefly(&stage.sql).await,
        [
            r#"INSERT t {"id":1}"#,
            r#"UPDATE t {"id":2} <- {"id":1}"#,
            r#"DELETE t <- {"id":2}"#,
        ]
    );
    for subscriber in [&mut anybody, &mut everything] {
        assert_eq!(
            subscriber.heard_briefly(&stage.sql).await,
            [r#"DELETE t <- {"id":2}"#]
        );
    }
}

#[tokio::test]
async fn row_security_that_is_switched_on_hides_the_very_next_row() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut subscriber = stage.subscribe(entries.clone()).await;
    let mut service = stage.subscribe_as("service_role", entries).await;
    stage.sql.run("insert into t values (1)").await;
    assert_eq!(
        subscriber.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#]
    );
    stage
        .sql
        .run("begin; alter table t enable row level security; insert into t values (2); commit")
        .await;
    assert_eq!(subscriber.heard_briefly(&stage.sql).await, [""; 0]);
    assert_eq!(
        service.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#, r#"INSERT t {"id":2}"#]
    );
}

#[tokio::test]
async fn deletes_under_row_security_tell_the_primary_key_only() {
    let stage = Stage::open().await;
    let table = "create table secrets (id int primary key, word text);
        alter table secrets replica identity full; alter table secrets enable row level security";
    stage.publish(table, &["secrets"]).await;
    let entries = json!([{"schema": "public", "table": "secrets"}]);
    let mut service = stage.subscribe_as("service_role", entries).await;
    stage
        .sql
        .run("insert into secrets values (1, 'x'); update secrets set word = 'y'; delete from secrets")
        .await;
    assert_eq!(
        service.heard_briefly(&stage.sql).await,
        [
            r#"INSERT secrets {"id":1,"word":"x"}"#,
            r#"UPDATE secrets {"id":1,"word":"y"} <- {"id":1,"word":"x"}"#,
            r#"DELETE secrets <- {"id":1}"#,
        ]
    );
}

#[tokio::test]
async fn a_role_is_told_what_keeps_it_out_and_let_in_when_that_is_gone() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    for (rights, reason) in [
        (
            "revoke select on t from anon",
            "42501 (insufficient_privilege) permission denied for table public.t; run: grant select on public.t to anon",
        ),
        (
            "revoke select on t from authenticated",
            "42501 (insufficient_privilege) permission denied for table public.t; run: grant select on public.t to \
             authenticated",
        ),
    ] {
        stage.sql.run(rights).await;
        let role = if rights.ends_with("anon") {
            "anon"
        } else {
            "authenticated"
        };
        let mut client = connect_as(&stage, role).await;
        client
            .join(TOPIC, json!({"postgres_changes": entries}))
            .await;
        let refusal = error(&format!("{EXCEPTION} {reason}"));
        assert_eq!(told(&mut client).await, refusal);
        stage.sql.run(&format!("grant select on t to {role}")).await;
        assert_eq!(told(&mut client).await, live());
        stage
            .sql
            .run(&format!("insert into t select count(*) from t -- {role}"))
            .await;
        let change = client.expect_change(TOPIC).await;
        assert_eq!(change["data"]["type"], "INSERT");
    }
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_told_so() {
    let stage = Stage::open().await;
    stage.publish(TABLE, &["t"]).await;
    let mut client = connect_as(&stage, "potato").await;
    client
        .join(
            TOPIC,
            json!({"postgres_changes": [{"schema": "public", "table": "t"}]}),
        )
        .await;
    assert_eq!(
        told(&mut client).await,
        error(&format!(
            "{EXCEPTION} 42704 (undefined_object) role \"potato\" does not exist"
        ))
    );
}
