//! What the database keeps true whoever writes: everything here is plain SQL, as `psql` would send it.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use pgrelay_chat::schema::SchemaName;
use pgrelay_e2e::chat::{Person, install, install_base, install_in, open_booking};
use pgrelay_test_support::{Role, Session, TestDatabase};
use tokio_postgres::SimpleQueryMessage;

async fn chat() -> (TestDatabase, Session) {
    let database = TestDatabase::create().await;
    install(&database).await;
    let session = database.connect().await;
    (database, session)
}

/// Rows as `a b|c d`, for comparing at a glance.
async fn lines(session: &Session, sql: &str) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let line = |row: Vec<Option<String>>| row.into_iter().map(text).collect::<Vec<_>>().join(" ");
    session
        .rows(sql)
        .await
        .into_iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("|")
}

/// The SQLSTATE and detail of a statement that must fail.
async fn refusal(session: &Session, sql: &str) -> (String, String) {
    let error = session.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().expect("an answer of the server");
    (
        error.code().code().into(),
        error.detail().unwrap_or_default().into(),
    )
}

/// What `who` gets from statements in one transaction that is then undone, or their SQLSTATE.
async fn as_person(session: &Session, who: &Person, sql: &str) -> Result<String, String> {
    session.run("begin").await;
    let outcome = session
        .simple_query(&format!("{}{sql}", who.become_sql()))
        .await;
    session.run("rollback").await;
    let messages = outcome.map_err(|error| {
        error
            .code()
            .expect("an answer of the server")
            .code()
            .to_owned()
    })?;
    let first = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("-").to_owned()),
        _ => None,
    };
    Ok(messages
        .into_iter()
        .filter_map(first)
        .collect::<Vec<_>>()
        .join("|"))
}

#[tokio::test]
async fn one_insert_opens_a_booking() {
    let (_database, session) = chat().await;
    let client = Person::client();
    let id = open_booking(&session, "REQ1759286674249", &client).await;
    for (sql, expected) in [
        (
            "select code, status, status_version, client_id from bookings",
            format!("REQ1759286674249 pending 1 {}", client.id()),
        ),
        (
            "select booking_id, user_id, role from participants",
            format!("{id} {} client", client.id()),
        ),
        (
            "select seq, message_type, sender_role, content, metadata ->> 'status' from messages",
            "1 system system ⏳ Your booking request has been received... pending".into(),
        ),
        (
            "select h.version, h.from_status, h.to_status, m.seq
               from booking_status_history h join messages m on m.id = h.message_id",
            "1 - pending 1".into(),
        ),
    ] {
        assert_eq!(lines(&session, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn ids_are_ordered_by_time() {
    let (_database, session) = chat().await;
    session
        .run("insert into bookings (code) select 'REQ' || n from generate_series(1, 50) n")
        .await;
    let ids = "(select id from bookings union all select id from messages) x";
    let forms = format!(
        "select distinct substr(id::text, 15, 1), substr(id::text, 20, 1) in ('8', '9', 'a', 'b') from {ids}"
    );
    assert_eq!(lines(&session, &forms).await, "7 t");
    let off = format!(
        "select count(*) from {ids} where abs(extract(epoch from clock_timestamp()) * 1000
           - ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint) > 600000"
    );
    assert_eq!(session.value(&off).await, "0");
}

#[tokio::test]
async fn a_status_change_tells_itself() {
    let (_database, session) = chat().await;
    open_booking(&session, "REQ1", &Person::client()).await;
    session
        .run("update bookings set status = 'ACCEPTED '")
        .await;
    session.run("update bookings set status = 'accepted'").await;
    session.run("update bookings set status = 'on_hold'").await;
    session.run("update bookings set status_version = 17").await;
    let told = "select seq, metadata ->> 'status', metadata ->> 'status_version', content from messages order by seq";
    assert_eq!(
        lines(&session, told).await,
        "1 pending 1 ⏳ Your booking request has been received...\
         |2 accepted 2 ✅ Your booking has been accepted by our team...\
         |3 on_hold 3 🔄 Status updated to: on_hold\
         |4 on_hold 4 🔄 Status updated to: on_hold"
    );
    assert_eq!(
        lines(&session, "select status, status_version from bookings").await,
        "on_hold 4"
    );
    assert_eq!(
        lines(
            &session,
            "select version, from_status, to_status from booking_status_history order by version"
        )
        .await,
        "1 - pending|2 pending accepted|3 accepted on_hold|4 on_hold on_hold"
    );
}

#[tokio::test]
async fn copy_follows_the_locale_of_the_booking() {
    let (_database, session) = chat().await;
    session
        .run("insert into bookings (code, locale) values ('REQ1', 'de-AT'), ('REQ2', 'fr')")
        .await;
    session.run("update bookings set status = 'waiting'").await;
    assert_eq!(
        lines(
            &session,
            "select m.content from messages m join bookings b on b.id = m.booking_id order by code, seq"
        )
        .await,
        "⏳ Ihre Buchungsanfrage ist bei uns eingegangen...|🔄 Neuer Status: waiting\
         |⏳ Your booking request has been received...|🔄 Status updated to: waiting"
    );
}

#[tokio::test]
async fn an_illegal_transition_is_refused_with_the_legal_ones() {
    let (_database, session) = chat().await;
    open_booking(&session, "REQ1", &Person::client()).await;
    let (state, detail) = refusal(&session, "update bookings set status = 'completed'").await;
    assert_eq!(state, "PC010");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&detail).unwrap(),
        serde_json::json!({"from": "pending", "to": "completed", "allowed": ["accepted", "cancelled", "declined"]})
    );
    session
        .run("insert into pgrelay_chat.status_transitions values ('pending', 'completed')")
        .await;
    session
        .run("update bookings set status = 'completed'")
        .await;
}

#[tokio::test]
async fn numbers_have_no_gap_whatever_becomes_of_an_insert() {
    let (_database, session) = chat().await;
    let id = open_booking(&session, "REQ1", &Person::client()).await;
    let insert = format!(
        "insert into messages (booking_id, client_id, content) values ('{id}', 'a', 'one'), ('{id}', 'b', 'two')"
    );
    session.run(&insert).await;
    session
        .run(&format!(
            "{insert} on conflict (booking_id, client_id) do nothing"
        ))
        .await;
    session
        .run(&format!(
            "begin; insert into messages (booking_id, content) values ('{id}', 'gone'); rollback"
        ))
        .await;
    for (sql, state) in [
        (insert, "23505"),
        (
            format!("insert into messages (booking_id, content) values ('{id}', '   ')"),
            "23514",
        ),
        (
            format!(
                "insert into messages (booking_id, content) values ('{id}', repeat('x', 4001))"
            ),
            "23514",
        ),
        (
            format!(
                "insert into messages (booking_id, content, client_id) values ('{id}', 'x', 'system:accepted:2')"
            ),
            "23514",
        ),
    ] {
        assert_eq!(refusal(&session, &sql).await.0, state, "{sql}");
    }
    session
        .run(&format!(
            "insert into messages (booking_id, seq, content) values ('{id}', 99, 'three')"
        ))
        .await;
    assert_eq!(
        lines(
            &session,
            "select seq, content from messages where message_type = 'text' order by seq"
        )
        .await,
        "2 one|3 two|4 three"
    );
}

#[tokio::test]
async fn a_deleted_message_leaves_a_tombstone() {
    let (_database, session) = chat().await;
    let id = open_booking(&session, "REQ1", &Person::client()).await;
    session
        .run(&format!(
            "insert into messages (booking_id, content, metadata) values ('{id}', 'secret', '{{\"a\":1}}')"
        ))
        .await;
    session.run("delete from messages where seq = 2").await;
    let tombstone =
        "select seq, content, metadata, deleted_at is not null from messages where seq = 2";
    assert_eq!(lines(&session, tombstone).await, "2 - {} t");
    session
        .run("update messages set content = 'back', deleted_at = null where seq = 2")
        .await;
    assert_eq!(lines(&session, tombstone).await, "2 - {} t");
    let (state, _) = refusal(&session, "update messages set seq = 7 where seq = 1").await;
    assert_eq!(state, "55000");
    session.run("delete from bookings").await;
    assert_eq!(session.value("select count(*) from messages").await, "0");
}

#[tokio::test]
async fn receipts_only_rise() {
    let (_database, session) = chat().await;
    let client = Person::client();
    let id = open_booking(&session, "REQ1", &client).await;
    session
        .run(&format!(
            "insert into messages (booking_id, content) select '{id}', 'hello' from generate_series(1, 9);
             insert into receipts (booking_id, participant_id, delivered_seq) values ('{id}', '{}', 5)",
            client.id()
        ))
        .await;
    let watermarks = "select role, delivered_seq, read_seq from receipts";
    assert_eq!(lines(&session, watermarks).await, "client 5 0");
    for (change, after) in [
        ("delivered_seq = 3", "client 5 0"),
        ("read_seq = 6", "client 6 6"),
        ("read_seq = 1, delivered_seq = 8", "client 8 6"),
        ("delivered_seq = 1000", "client 10 6"),
        ("delivered_seq = -1, read_seq = -1", "client 10 6"),
    ] {
        session.run(&format!("update receipts set {change}")).await;
        assert_eq!(lines(&session, watermarks).await, after, "{change}");
    }
}

#[tokio::test]
async fn a_closed_chat_takes_no_text_but_status_and_notes() {
    let (_database, session) = chat().await;
    let id = open_booking(&session, "REQ1", &Person::client()).await;
    session.run("update bookings set closed_at = now()").await;
    let hello = format!("insert into messages (booking_id, content) values ('{id}', 'hello?')");
    assert_eq!(refusal(&session, &hello).await.0, "PC007");
    session.run("update bookings set status = 'accepted'").await;
    session
        .run(&format!("insert into messages (booking_id, message_type, content) values ('{id}', 'note', 'was rude')"))
        .await;
    session.run("update bookings set closed_at = null").await;
    session.run(&hello).await;
    assert_eq!(session.value("select max(seq) from messages").await, "4");
}

/// Asked of the change log, so that nothing published is overlooked.
#[tokio::test]
async fn a_change_writes_these_published_rows_and_no_other() {
    let (_database, session) = chat().await;
    assert_eq!(
        session.value("select count(*) from pgrelay.attached").await,
        "7"
    );
    let id = open_booking(&session, "REQ1", &Person::client()).await;
    let operator = Person::operator("Dana").id();
    let mut seen = String::from("0");
    for (sql, rows) in [
        (
            "select 1".into(),
            "bookings I|participants I|messages I|booking_status_history I",
        ),
        (
            "update bookings set status = 'accepted'".into(),
            "bookings U|messages I|booking_status_history I",
        ),
        (
            format!("insert into messages (booking_id, content) values ('{id}', 'hello')"),
            "messages I",
        ),
        (
            format!(
                "insert into messages (booking_id, sender_role, content) values ('{id}', 'client', 'hello')"
            ),
            "messages I",
        ),
        ("delete from messages where seq = 3".into(), "messages U"),
        (
            format!(
                "insert into receipts (booking_id, participant_id, read_seq) values ('{id}', '{operator}', 3)"
            ),
            "receipts I",
        ),
        ("update receipts set read_seq = 2".into(), ""),
        ("update receipts set read_seq = 4".into(), "receipts U"),
        (
            format!(
                "insert into assignments (booking_id, operator_id) values ('{id}', '{operator}')"
            ),
            "assignments I|participants I",
        ),
    ] {
        let sql: String = sql;
        session.run(&sql).await;
        let new =
            format!("select relid::regclass, op from pgrelay.log where seq > {seen} order by seq");
        assert_eq!(lines(&session, &new).await, rows, "{sql}");
        seen = session.value("select max(seq) from pgrelay.log").await;
    }
}

#[tokio::test]
async fn clients_see_their_bookings_and_nothing_else() {
    let (_database, session) = chat().await;
    let (mine, other, operator) = (Person::client(), Person::client(), Person::operator("Dana"));
    let id = open_booking(&session, "REQ1", &mine).await;
    open_booking(&session, "REQ2", &other).await;
    session
        .run(&format!(
            "insert into messages (booking_id, message_type, content) values ('{id}', 'note', 'internal');
             insert into assignments (booking_id, operator_id) values ('{id}', '{}');
             insert into canned_replies (shortcut, body) values ('hi', 'Hello')",
            operator.id()
        ))
        .await;
    for (table, clients, operators) in [
        ("bookings", "1", "2"),
        ("messages", "1", "3"),
        ("participants", "2", "3"),
        ("booking_status_history", "1", "2"),
        ("assignments", "0", "1"),
        ("canned_replies", "0", "1"),
        ("pgrelay_chat.inbox", "0", "2"),
    ] {
        for (who, seen) in [
            (&mine, Ok(clients.into())),
            (&operator, Ok(operators.into())),
            (&Person::service(), Ok(operators.into())),
            (&Person::visitor(), Err("42501".into())),
        ] {
            let count = format!("select count(*) from {table}");
            assert_eq!(
                as_person(&session, who, &count).await,
                seen,
                "{table} {who:?}"
            );
        }
    }
}

/// What a client of booking MINE, whose id is ME, gets in a world where OTHERS is somebody else's booking.
async fn each_as_client(statements: &[(&str, Result<&str, &str>)]) {
    let (_database, session) = chat().await;
    let (mine, other) = (Person::client(), Person::client());
    let id = open_booking(&session, "REQ1", &mine).await;
    let elsewhere = open_booking(&session, "REQ2", &other).await;
    let me = mine.id().to_string();
    let named = |text: &str| {
        let text = text.replace("MINE", &id).replace("OTHERS", &elsewhere);
        text.replace("ME", &me)
    };
    for (sql, outcome) in statements {
        let expected = outcome.map(named).map_err(String::from);
        assert_eq!(
            as_person(&session, &mine, &named(sql)).await,
            expected,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn end_users_send_as_themselves() {
    each_as_client(&[
        ("insert into messages (booking_id, content) values ('MINE', 'x') returning sender_role || sender_id", Ok("clientME")),
        ("insert into messages (booking_id, content) values ('OTHERS', 'x')", Err("42501")),
        ("insert into messages (booking_id, content, sender_role) values ('MINE', 'x', 'operator')", Err("42501")),
        ("insert into messages (booking_id, content, seq) values ('MINE', 'x', 9)", Err("42501")),
        ("insert into messages (booking_id, content, message_type) values ('MINE', 'x', 'note')", Err("PC003")),
        ("insert into messages (booking_id, content, message_type) values ('MINE', 'x', 'system')", Err("PC003")),
    ])
    .await;
}

#[tokio::test]
async fn end_users_change_nothing_that_is_not_theirs() {
    each_as_client(&[
        ("update messages set content = 'changed'", Err("42501")),
        ("update messages set deleted_at = now() returning id", Ok("")),
        ("delete from messages returning id", Ok("")),
        ("update bookings set status = 'accepted' returning id", Ok("")),
        ("update bookings set client_id = null", Err("42501")),
        ("insert into bookings (code, client_id) values ('REQ3', 'ME')", Err("42501")),
        ("insert into receipts (booking_id, participant_id, read_seq) values ('OTHERS', 'ME', 1)", Err("42501")),
        (
            "insert into receipts (booking_id, participant_id, read_seq) values ('MINE', gen_random_uuid(), 1)",
            Err("42501"),
        ),
        ("insert into participants (booking_id, user_id, role) values ('OTHERS', 'ME', 'client')", Err("42501")),
        ("insert into booking_status_history select * from booking_status_history", Err("42501")),
        ("select pgrelay_chat.set_status('REQ1', 'accepted')", Err("PC003")),
        ("select pgrelay_chat.inbox('all', null, null, false, null, null, 9)", Err("PC003")),
        ("select pgrelay_chat.booking('REQ2')", Err("PC002")),
    ])
    .await;
}

/// Some of them write with the owner's rights wherever they are attached.
#[tokio::test]
async fn nobody_can_borrow_a_trigger_function() {
    let (_database, session) = chat().await;
    let borrow = "create temp table t (id uuid, status text, status_version int, code text, locale text);
                  create trigger t after insert on t for each row execute function pgrelay_chat.announce_status()";
    assert_eq!(
        as_person(&session, &Person::operator("Dana"), borrow).await,
        Err("42501".into())
    );
    let callable = "select count(*) from pg_proc
                     where pronamespace = 'pgrelay_chat'::regnamespace and prorettype = 'trigger'::regtype
                       and (has_function_privilege('authenticated', oid, 'execute')
                            or has_function_privilege('anon', oid, 'execute'))";
    assert_eq!(session.value(callable).await, "0");
}

/// What a typing or presence frame is checked against; the tables are those that a realtime schema brings.
#[tokio::test]
async fn a_bookings_private_channel_is_for_its_people() {
    let (database, session) = chat().await;
    session
        .run(
            "create schema realtime;
             create table realtime.messages (topic text, extension text);
             alter table realtime.messages enable row level security;
             create function realtime.topic() returns text language sql stable
               as $$ select nullif(current_setting('realtime.topic', true), '') $$;
             grant usage on schema realtime to anon, authenticated, service_role;
             grant select, insert on realtime.messages to anon, authenticated, service_role",
        )
        .await;
    install(&database).await;
    let (client, operator) = (Person::client(), Person::operator("Dana"));
    let id = open_booking(&session, "REQ1", &client).await;
    let topic = format!("booking:{id}");
    for (who, topic, allowed) in [
        (&client, topic.as_str(), true),
        (&operator, &topic, true),
        (&Person::client(), &topic, false),
        (&Person::visitor(), &topic, false),
        (&client, "booking:REQ1", false),
        (&client, &format!("messages:{id}"), false),
        (
            &operator,
            "booking:0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01",
            false,
        ),
    ] {
        let sql = format!(
            "set local realtime.topic = '{topic}'; insert into realtime.messages values ('{topic}', 'presence')
             returning topic"
        );
        assert_eq!(
            as_person(&session, who, &sql).await.is_ok(),
            allowed,
            "{topic} {who:?}"
        );
    }
}

#[tokio::test]
async fn tables_from_before_the_chat_are_taken_over() {
    let database = TestDatabase::create().await;
    let session = database.connect().await;
    let client = Person::client();
    session
        .run(&format!(
            "create table bookings (id uuid primary key default gen_random_uuid(), code text not null unique,
               status text not null default 'pending', client_id uuid, created_at timestamptz not null default now());
             create table messages (id uuid primary key default gen_random_uuid(),
               booking_id uuid not null references bookings (id) on delete cascade,
               sender_role text not null default 'client', message_type text not null default 'text',
               content text not null, metadata jsonb not null default '{{}}',
               created_at timestamptz not null default now());
             insert into bookings (code, status, client_id) values ('REQ1', 'accepted', '{}');
             insert into messages (booking_id, content, created_at)
               select id, 'old ' || n, now() - n * interval '1 hour' from bookings, generate_series(1, 3) n",
            client.id()
        ))
        .await;
    install(&database).await;
    session
        .run("insert into messages (booking_id, content) select id, 'new' from bookings")
        .await;
    session.run("update bookings set status = 'deployed'").await;
    assert_eq!(
        lines(&session, "select seq, content from messages order by seq").await,
        "1 old 3|2 old 2|3 old 1|4 new|5 🚀 Our team has been deployed and is on the way."
    );
    let seen = as_person(&session, &client, "select count(*) from messages").await;
    assert_eq!(seen.as_deref(), Ok("5"));
}

#[tokio::test]
async fn the_tables_may_live_in_another_schema() {
    let database = TestDatabase::create().await;
    let schema = SchemaName::parse("desk").unwrap();
    install_base(&database.connect().await).await;
    assert_eq!(install_in(database.url(), &schema).await.unwrap().len(), 7);
    assert!(
        install_in(database.url(), &schema)
            .await
            .unwrap()
            .is_empty()
    );
    let moved = install_in(database.url(), &SchemaName::default())
        .await
        .unwrap_err();
    assert_eq!(
        moved.to_string(),
        "the chat is installed in schema desk; it cannot be moved"
    );
    let session = database.connect().await;
    let client = Person::client();
    session
        .run(&format!(
            "insert into desk.bookings (code, client_id) values ('REQ1', '{}')",
            client.id()
        ))
        .await;
    session
        .run("update desk.bookings set status = 'accepted'")
        .await;
    let seen = as_person(&session, &client, "select count(*) from desk.messages").await;
    assert_eq!(seen.as_deref(), Ok("2"));
    assert_eq!(
        session.value("select to_regclass('public.bookings')").await,
        ""
    );
}

#[tokio::test]
async fn a_plain_owner_can_install_and_use_it() {
    let database = TestDatabase::create_as(Role::Owner).await;
    install(&database).await;
    let session = database.connect().await;
    let client = Person::client();
    let id = open_booking(&session, "REQ1", &client).await;
    let hello = format!(
        "insert into messages (booking_id, content) values ('{id}', 'hello') returning seq"
    );
    assert_eq!(
        as_person(&session, &client, &hello).await.as_deref(),
        Ok("2")
    );
    let published =
        "select count(*) from pg_publication_tables where pubname = 'supabase_realtime'";
    assert_eq!(session.value(published).await, "7");
    let helpers = "select auth.uid() || ' ' || auth.role() || ' ' || (auth.jwt() ->> 'role')";
    assert_eq!(
        as_person(&session, &client, helpers).await,
        Ok(format!("{} authenticated authenticated", client.id()))
    );
}
