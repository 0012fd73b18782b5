//! Privileges on columns decide what a record shows.

use pgrelay_e2e::Stage;
use serde_json::json;

const CARDS: &str = "create table cards (id int primary key, holder text, number text);
    alter table cards replica identity full";

#[tokio::test]
async fn columns_without_privilege_are_absent_and_come_and_go_with_it() {
    let stage = Stage::open().await;
    stage.publish(CARDS, &["cards"]).await;
    stage
        .sql
        .run("revoke select on cards from anon; grant select (id, holder) on cards to anon")
        .await;
    let entry = json!([{"schema": "public", "table": "cards"}]);
    let mut anon = stage.subscribe(entry.clone()).await;
    let mut all = stage.subscribe(json!([{"schema": "public"}])).await;
    let mut service = stage.subscribe_as("service_role", entry).await;
    stage
        .sql
        .run("insert into cards values (1, 'ann', '4111'); update cards set number = '4222'; delete from cards")
        .await;
    for subscriber in [&mut anon, &mut all] {
        let heard = subscriber.heard(&stage.sql).await;
        let columns = json!([{"name": "id", "type": "int4"}, {"name": "holder", "type": "text"}]);
        assert!(
            heard
                .iter()
                .all(|change| change["data"]["columns"] == columns)
        );
        let brief: Vec<_> = heard.iter().map(pgrelay_e2e::brief).collect();
        assert_eq!(
            brief,
            [
                r#"INSERT cards {"holder":"ann","id":1}"#,
                r#"UPDATE cards {"holder":"ann","id":1} <- {"holder":"ann","id":1}"#,
                r#"DELETE cards <- {"holder":"ann","id":1}"#,
            ]
        );
    }
    assert_eq!(service.heard(&stage.sql).await.len(), 3);

    stage
        .sql
        .run("grant select on cards to anon; insert into cards values (2, 'bob', '4333')")
        .await;
    assert_eq!(
        anon.heard_briefly(&stage.sql).await,
        [r#"INSERT cards {"holder":"bob","id":2,"number":"4333"}"#]
    );
    stage
        .sql
        .run("revoke select on cards from anon; grant select (id) on cards to anon; insert into cards values (3, 'cid', '4444')")
        .await;
    assert_eq!(
        anon.heard_briefly(&stage.sql).await,
        [r#"INSERT cards {"id":3}"#]
    );
}

#[tokio::test]
async fn without_privilege_on_the_key_only_an_error_is_told() {
    let stage = Stage::open().await;
    stage.publish(CARDS, &["cards"]).await;
    let entry = json!([{"schema": "public", "table": "cards"}]);
    let mut anon = stage.subscribe(entry.clone()).await;
    let mut schema = stage.subscribe(json!([{"schema": "public"}])).await;
    let filtered = json!([{"schema": "public", "table": "cards", "filter": "number=eq.4111"}]);
    let mut filtered = stage.subscribe(filtered).await;
    stage
        .sql
        .run(
            "revoke select on cards from anon; grant select (holder) on cards to anon;
             insert into cards values (1, 'ann', '4111'); update cards set holder = 'bob'; delete from cards",
        )
        .await;
    for subscriber in [&mut anon, &mut schema] {
        let heard = subscriber.heard(&stage.sql).await;
        let data: Vec<_> = heard.iter().map(|change| change["data"].clone()).collect();
        let bare = |kind: &str| {
            json!({"schema": "public", "table": "cards", "type": kind, "commit_timestamp": null, "columns": [],
                "record": {}, "errors": ["Error 401: Unauthorized"]})
        };
        let mut update = bare("UPDATE");
        update["old_record"] = json!({});
        assert_eq!(data[..2], [bare("INSERT"), update]);
        assert_eq!(data[2]["type"], "DELETE");
        assert_eq!(data[2]["old_record"], json!({"holder": "bob"}));
        assert_eq!(data[2]["errors"], json!(null));
    }
    // What a filter looks at is kept from it now: even that something matched is.
    assert_eq!(filtered.heard_briefly(&stage.sql).await, [""; 0]);
}

#[tokio::test]
async fn policies_and_column_privileges_work_together() {
    let stage = Stage::open().await;
    stage
        .publish(
            &format!(
                "{CARDS}; alter table cards enable row level security;
                 create policy later on cards using (id > 1)"
            ),
            &["cards"],
        )
        .await;
    stage
        .sql
        .run("revoke select on cards from anon; grant select (holder, id) on cards to anon")
        .await;
    let mut anon = stage
        .subscribe(json!([{"schema": "public", "table": "cards"}]))
        .await;
    stage
        .sql
        .run(
            "begin; insert into cards values (1, 'ann', '1'), (2, 'bob', '2'); update cards set holder = 'x'; commit;
             delete from cards",
        )
        .await;
    let heard = anon.heard_briefly(&stage.sql).await;
    assert!(
        heard.iter().all(|change| !change.contains("ann")),
        "{heard:?}"
    );
    assert!(
        heard.iter().all(|change| !change.contains("number")),
        "{heard:?}"
    );
    assert_eq!(heard[heard.len() - 1], r#"DELETE cards <- {"id":2}"#);
}

#[tokio::test]
async fn a_schema_without_usage_shows_nothing() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create schema dev; grant usage on schema dev to anon; create table dev.t (id int primary key)",
            &["dev.t"],
        )
        .await;
    let mut anon = stage
        .subscribe(json!([{"schema": "dev", "table": "t"}]))
        .await;
    stage.sql.run("insert into dev.t values (1)").await;
    assert_eq!(
        anon.heard_briefly(&stage.sql).await,
        [r#"INSERT t {"id":1}"#]
    );
    stage
        .sql
        .run("revoke usage on schema dev from anon; insert into dev.t values (2)")
        .await;
    let heard = anon.heard(&stage.sql).await;
    assert_eq!(
        heard[0]["data"]["errors"],
        json!(["Error 401: Unauthorized"])
    );
    assert_eq!(heard[0]["data"]["record"], json!({}));
}
