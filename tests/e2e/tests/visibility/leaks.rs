//! Leaks that servers of this protocol had, one test for each: this one does not have them.

use pgrelay_e2e::{Stage, Subscriber, brief};
use serde_json::json;

use crate::people::{ANN, BOB, NOTES, connect, user};

/// A role that application developers made, with a name that needs quotes. It outlives its test, because
/// roles belong to a server.
async fn custom_role(stage: &Stage) {
    let superuser = stage.database.connect_superuser().await;
    let relay = stage.sql.value("select current_user").await;
    superuser
        .run(&format!(
            "select pg_advisory_xact_lock(5494821);
             do $$ begin create role \"has-Hyphen\" nologin; exception when duplicate_object or unique_violation then null; end $$;
             grant \"has-Hyphen\" to {relay}"
        ))
        .await;
}

#[tokio::test]
async fn a_deletion_under_a_full_identity_shows_the_key_only() {
    let stage = Stage::open().await;
    stage
        .publish(
            &format!("{NOTES}; alter table notes replica identity full"),
            &["notes"],
        )
        .await;
    let mut bob = user(&stage, BOB, "notes").await;
    stage
        .sql
        .run(&format!("insert into notes values (1, '{ANN}', 'secret')"))
        .await;
    stage.sql.run("delete from notes").await;
    assert_eq!(
        bob.heard_briefly(&stage.sql).await,
        [r#"DELETE notes <- {"id":1}"#]
    );
}

#[tokio::test]
async fn a_comparison_that_is_null_lets_nothing_through() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    // The policy compares with null for a token without `sub`, and with a null owner for anybody.
    let client = connect(&stage, &json!({"role": "authenticated"})).await;
    let entry = json!([{"schema": "public", "table": "notes"}]);
    let mut unnamed = Subscriber::join(client, entry).await;
    let mut ann = user(&stage, ANN, "notes").await;
    let claims = json!({"role": "service_role"});
    let filtered = json!([{"schema": "public", "table": "notes", "filter": "body=neq.x"}]);
    let mut service = Subscriber::join(connect(&stage, &claims).await, filtered).await;
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, null, 'a'), (2, '{ANN}', null)"
        ))
        .await;
    assert_eq!(unnamed.heard_briefly(&stage.sql).await, [""; 0]);
    assert_eq!(ann.heard(&stage.sql).await.len(), 1);
    let heard = service.heard(&stage.sql).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["data"]["record"]["id"], 1);
}

#[tokio::test]
async fn a_value_stored_out_of_line_is_complete_when_another_changes() {
    let stage = Stage::open().await;
    stage
        .publish(
            &format!("{NOTES}; alter table notes alter body set storage external"),
            &["notes"],
        )
        .await;
    let mut ann = user(&stage, ANN, "notes").await;
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, '{ANN}', repeat('x', 20000))"
        ))
        .await;
    stage.sql.run("update notes set id = 2").await;
    let heard = ann.heard(&stage.sql).await;
    let update = heard.last().unwrap();
    assert_eq!(update["data"]["type"], "UPDATE");
    assert_eq!(
        update["data"]["record"]["body"].as_str().unwrap().len(),
        20_000
    );
}

#[tokio::test]
async fn roles_whose_names_need_quotes_see_what_they_may() {
    let stage = Stage::open().await;
    custom_role(&stage).await;
    stage.publish(NOTES, &["notes"]).await;
    stage
        .sql
        .run("grant select on notes, mark to \"has-Hyphen\"; grant usage on schema auth to \"has-Hyphen\"")
        .await;
    let claims = json!({"role": "has-Hyphen", "sub": ANN});
    let entry = json!([{"schema": "public", "table": "notes"}]);
    let mut custom = Subscriber::join(connect(&stage, &claims).await, entry).await;
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, '{ANN}', 'a'), (2, '{BOB}', 'b')"
        ))
        .await;
    let heard = custom.heard(&stage.sql).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
}

#[tokio::test]
async fn filters_apply_to_deletions() {
    let stage = Stage::open().await;
    stage.publish(NOTES, &["notes"]).await;
    let claims = json!({"role": "authenticated", "sub": ANN});
    for (filter, told) in [("id=eq.1", true), ("id=eq.2", false), ("body=eq.a", false)] {
        let entry =
            json!([{"schema": "public", "table": "notes", "event": "DELETE", "filter": filter}]);
        let mut subscriber = Subscriber::join(connect(&stage, &claims).await, entry).await;
        stage
            .sql
            .run(&format!("insert into notes values (1, '{ANN}', 'a')"))
            .await;
        stage.sql.run("delete from notes").await;
        let heard = subscriber.heard_briefly(&stage.sql).await;
        assert_eq!(!heard.is_empty(), told, "{filter}: {heard:?}");
    }
}

/// Filters used to be evaluated as the subscriber whose policies had been asked last, from the eleventh
/// on, and with functions that application roles may not call.
#[tokio::test]
async fn filters_of_many_subscribers_are_never_evaluated_as_one_of_them() {
    let stage = Stage::open().await;
    custom_role(&stage).await;
    stage.publish(NOTES, &["notes"]).await;
    stage
        .sql
        .run("grant select on notes, mark to \"has-Hyphen\"; grant usage on schema auth to \"has-Hyphen\"")
        .await;
    let filter = json!([{"schema": "public", "table": "notes", "filter": "body=like.a%"}]);
    let mut subscribers = Vec::new();
    for _ in 0..12 {
        let claims = json!({"role": "has-Hyphen", "sub": ANN, "jti": subscribers.len()});
        let client = connect(&stage, &claims).await;
        subscribers.push(Subscriber::join(client, filter.clone()).await);
    }
    stage
        .sql
        .run(&format!(
            "insert into notes values (1, '{ANN}', 'ab'), (2, '{ANN}', 'ba'), (3, '{BOB}', 'ab')"
        ))
        .await;
    for subscriber in &mut subscribers {
        let heard = subscriber.heard(&stage.sql).await;
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["data"]["record"]["id"], 1);
    }
}

#[tokio::test]
async fn bytes_are_hex_once() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table files (id int primary key, raw bytea); alter table files enable row level security;
             create policy all_rows on files using (true)",
            &["files"],
        )
        .await;
    let mut ann = user(&stage, ANN, "files").await;
    stage
        .sql
        .run(r"begin; insert into files values (1, '\x01'); update files set raw = '\x0102ff'; commit")
        .await;
    let heard: Vec<_> = ann.heard(&stage.sql).await.iter().map(brief).collect();
    assert_eq!(
        heard,
        [
            r#"INSERT files {"id":1,"raw":"0102ff"}"#,
            r#"UPDATE files {"id":1,"raw":"0102ff"} <- {"id":1}"#,
        ]
    );
}

/// A row that became visible after it was changed used to be told as it was before.
#[tokio::test]
async fn what_a_row_said_while_it_was_hidden_stays_hidden() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table posts (id int primary key, public boolean, body text);
             alter table posts enable row level security; create policy public on posts using (public)",
            &["posts"],
        )
        .await;
    let mut anybody = user(&stage, ANN, "posts").await;
    stage
        .sql
        .run("begin; insert into posts values (1, false, 'draft'); update posts set public = true, body = 'done'; commit")
        .await;
    let heard = anybody.heard_briefly(&stage.sql).await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        heard.iter().all(|change| !change.contains("draft")),
        "{heard:?}"
    );
}

/// Every claim counts: two tokens that differ in one have nothing in common.
#[tokio::test]
async fn a_value_computed_for_one_never_decides_about_another() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table notes (id int primary key, user_id uuid, body text);
             alter table notes enable row level security;
             create policy own on notes using (user_id = (select auth.uid()))",
            &["notes"],
        )
        .await;
    let mut subscribers = Vec::new();
    for number in 0..8 {
        let sub = format!("00000000-0000-4000-8000-{number:012}");
        subscribers.push(user(&stage, &sub, "notes").await);
    }
    stage
        .sql
        .run("insert into notes select i, ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'x' from generate_series(0, 7) i")
        .await;
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        let heard = subscriber.heard(&stage.sql).await;
        let ids: Vec<_> = heard
            .iter()
            .map(|change| change["data"]["record"]["id"].clone())
            .collect();
        assert_eq!(ids, [json!(number)]);
    }
}

/// What a policy sets for one subscriber is gone before the next is asked.
#[tokio::test]
async fn settings_made_by_a_policy_do_not_outlive_it() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table notes (id int primary key, user_id uuid, body text);
             alter table notes enable row level security;
             create function seen_before() returns boolean language plpgsql as $$
             begin
               if coalesce(current_setting('app.seen', true), '') <> '' then
                 return true;
               end if;
               perform set_config('app.seen', 'yes', true);
               return false;
             end $$;
             create policy own on notes using (seen_before())",
            &["notes"],
        )
        .await;
    let mut ann = user(&stage, ANN, "notes").await;
    let mut bob = user(&stage, BOB, "notes").await;
    stage
        .sql
        .run(&format!("insert into notes values (1, '{ANN}', 'a')"))
        .await;
    assert_eq!(ann.heard_briefly(&stage.sql).await, [""; 0]);
    assert_eq!(bob.heard_briefly(&stage.sql).await, [""; 0]);
}
