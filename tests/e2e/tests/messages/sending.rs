//! The functions that applications call, with no relay around.

use pgrelay_test_support::Session;
use serde_json::{Value, json};

use crate::migrated;

/// `topic event private extension` and the payload of every message.
async fn stored(sql: &Session) -> Vec<(String, Value)> {
    let rows = sql
        .rows(
            "select concat_ws(' ', topic, event, private, extension), coalesce(payload, to_jsonb(binary_payload)), id
               from realtime.messages order by inserted_at",
        )
        .await;
    let row = |row: Vec<Option<String>>| {
        let payload = row[1].as_deref().unwrap_or("null");
        let mut payload: Value = serde_json::from_str(payload).unwrap();
        // An id that was added is that of the row.
        if payload.get("id").and_then(Value::as_str) == row[2].as_deref() {
            payload["id"] = json!("its own");
        }
        (row[0].clone().unwrap(), payload)
    };
    rows.into_iter().map(row).collect()
}

/// What these statements leave in the table.
async fn sent(sql: &Session, statements: &str) -> Vec<(String, Value)> {
    sql.run("delete from realtime.messages").await;
    sql.run(statements).await;
    stored(sql).await
}

#[tokio::test]
async fn a_payload_gets_an_id_unless_it_has_one() {
    let database = migrated().await;
    let sql = database.connect().await;
    let found = sent(
        &sql,
        r#"select realtime.send('{"a": 1}', 'e', 'room:1');
           select realtime.send('{"id": 7}', 'e', 'room:1', false);
           select realtime.send(event => 'e', topic => 'named', payload => '{}', private => true);
           select realtime.send_binary('\x00ff', 'b', 'room:1');
           select realtime.send_binary('', 'b', 'room:1', false)"#,
    )
    .await;
    let row = |head: &str, payload: Value| (head.to_owned(), payload);
    assert_eq!(
        found,
        [
            row("room:1 e t broadcast", json!({"a": 1, "id": "its own"})),
            row("room:1 e f broadcast", json!({"id": 7})),
            row("named e t broadcast", json!({"id": "its own"})),
            row("room:1 b t broadcast", json!("\\x00ff")),
            row("room:1 b f broadcast", json!("\\x")),
        ]
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_does_not_undo_what_it_tells_of() {
    let database = migrated().await;
    let sql = database.connect().await;
    sql.run("create table t (id int)").await;
    let found = sent(
        &sql,
        r#"begin;
           insert into t values (1);
           select realtime.send('[1]', 'e', 'a');
           select realtime.send('"text"', 'e', 'a');
           select realtime.send('7', 'e', 'a');
           select realtime.send('{}', 'e', null);
           select realtime.send_binary('\x00', 'e', null);
           commit"#,
    )
    .await;
    assert_eq!(found, []);
    assert_eq!(sql.value("select count(*) from t").await, "1");
    // Both kinds of payload in one row are a mistake of whoever writes the row himself.
    let both = sql
        .batch_execute("insert into realtime.messages (topic, extension, payload, binary_payload) values ('a', 'broadcast', '{}', '')")
        .await
        .unwrap_err();
    let constraint = both.as_db_error().unwrap().constraint().unwrap().to_owned();
    assert_eq!(constraint, "messages_payload_exclusive");
}

#[tokio::test]
async fn the_topic_is_known_to_policies_and_to_the_rest_of_the_transaction() {
    let database = migrated().await;
    let sql = database.connect().await;
    assert_eq!(sql.value("select realtime.topic()").await, "");
    sql.run("begin; select realtime.send('{}', 'e', 'room:1')")
        .await;
    assert_eq!(sql.value("select realtime.topic()").await, "room:1");
    sql.run("commit").await;
    assert_eq!(sql.value("select realtime.topic() is null").await, "t");
}

#[tokio::test]
async fn a_change_is_told_with_both_rows() {
    let database = migrated().await;
    let sql = database.connect().await;
    let found = sent(
        &sql,
        r#"create table todos (id int, details text);
           create function tell() returns trigger language plpgsql as $$ begin
             perform realtime.broadcast_changes('todo:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name,
                                                tg_table_schema, new, old);
             return null;
           end $$;
           create trigger tell after insert or update or delete on todos for each row execute function tell();
           insert into todos values (1, 'x');
           update todos set details = 'y';
           delete from todos"#,
    )
    .await;
    let (x, y) = (
        json!({"id": 1, "details": "x"}),
        json!({"id": 1, "details": "y"}),
    );
    let row = |operation: &str, record: &Value, old: &Value| {
        let payload = json!({
            "id": "its own", "operation": operation, "schema": "public", "table": "todos",
            "record": record, "old_record": old,
        });
        (format!("todo:1 {operation} t broadcast"), payload)
    };
    assert_eq!(
        found,
        [
            row("INSERT", &x, &Value::Null),
            row("UPDATE", &y, &x),
            row("DELETE", &Value::Null, &y),
        ]
    );
}

#[tokio::test]
async fn a_change_that_cannot_be_told_is_the_triggers_mistake() {
    let database = migrated().await;
    let sql = database.connect().await;
    sql.run("create table t (id int)").await;
    for (arguments, message) in [
        (
            "'a', 'e', 'INSERT', 't', 'public', null::t, null::t, 'STATEMENT'",
            "Failed to process the row: function can only be triggered for each row, not for each statement",
        ),
        (
            "'a', 'e', 'TRUNCATE', 't', 'public', null::t, null::t",
            "Failed to process the row: Unexpected operation type: TRUNCATE",
        ),
    ] {
        let error = sql
            .batch_execute(&format!("select realtime.broadcast_changes({arguments})"))
            .await
            .unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), message);
    }
}

#[tokio::test]
async fn a_sender_needs_the_rights_of_his_own_role() {
    let database = migrated().await;
    let sql = database.connect().await;
    let found = sent(
        &sql,
        r#"create policy w on realtime.messages for insert to authenticated
             with check (realtime.topic() = 'room:' || auth.uid()::text);
           create function tell() returns void language sql security definer as
             $$ select realtime.send('{"id": 0}', 'definer', 'room:x') $$;
           begin;
           set local role authenticated;
           set local "request.jwt.claims" = '{"sub": "7f0c0000-0000-4000-8000-000000000001", "role": "authenticated"}';
           select realtime.send('{"id": 1}', 'own', 'room:7f0c0000-0000-4000-8000-000000000001');
           select realtime.send('{"id": 2}', 'other', 'room:x');
           select realtime.send_binary('\x00', 'other', 'room:x');
           select tell();
           commit;
           begin;
           set local role anon;
           select realtime.send('{"id": 3}', 'anon', 'room:7f0c0000-0000-4000-8000-000000000001');
           commit;
           begin;
           set local role service_role;
           select realtime.send('{"id": 4}', 'service', 'room:x');
           commit"#,
    )
    .await;
    let events: Vec<_> = found
        .iter()
        .map(|(head, _)| head.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(events, ["own", "definer", "service"]);
}

#[tokio::test]
async fn the_roles_of_an_application_may_write_and_not_erase() {
    let database = migrated().await;
    let sql = database.connect().await;
    for role in ["anon", "authenticated", "service_role"] {
        for (right, has) in [
            ("select", "t"),
            ("insert", "t"),
            ("update", "t"),
            ("delete", "f"),
            ("truncate", "f"),
        ] {
            let question =
                format!("select has_table_privilege('{role}', 'realtime.messages', '{right}')");
            assert_eq!(sql.value(&question).await, has, "{role} {right}");
        }
        let parts = format!(
            "select count(*) from pg_inherits where inhparent = 'realtime.messages'::regclass
                and has_table_privilege('{role}', inhrelid, 'select')"
        );
        assert_eq!(sql.value(&parts).await, "0", "{role}");
    }
}
