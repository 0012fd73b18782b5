//! A trigger that logs changes does not fail the transaction of the user whose changes they are.
//!
//! The list of dangers, each with its test or with the reason why there is none, is in `tests/e2e/HAZARDS.md`.

use std::path::Path;

use pgrelay_e2e::{CaptureDatabase, Listener};
use pgrelay_test_support::{PostgresServer, Role, wait_for};

/// The table that most tests write to.
const MESSAGES: &str = "create table public.messages (id int primary key, body text);";

/// A table with a type of the user's own whose cast to json refuses one value.
const MOODS: &str = "
    create type public.mood as enum ('good', 'bad');
    create function public.mood_json(public.mood) returns json language plpgsql as $$
    begin
        if $1 = 'bad' then raise exception 'no bad moods in json'; end if;
        return to_json('*'::text);
    end $$;
    create cast (public.mood as json) with function public.mood_json(public.mood);
    create table public.moods (id int primary key, mood public.mood);";

/// A role that owns nothing. It outlives its test, because tests that run at the same time share it.
const WRITER: &str = "
    do $$
    begin
        create role pgrelay_test_writer nologin;
    exception when duplicate_object or unique_violation then
        null;
    end $$;";

async fn messages() -> CaptureDatabase {
    let database = CaptureDatabase::create().await;
    database.capture(MESSAGES, "public.messages").await;
    database
}

async fn moods() -> CaptureDatabase {
    let database = CaptureDatabase::create().await;
    database.capture(MOODS, "public.moods").await;
    database
}

#[tokio::test]
async fn json_that_jsonb_refuses_is_logged_as_it_is() {
    let database = CaptureDatabase::create().await;
    let table = "create table public.documents (id int primary key, body json)";
    database.capture(table, "public.documents").await;
    for body in [r#""\u0000""#, r#""\ud800""#, "1e200000"] {
        let insert = format!("insert into public.documents values (1, '{body}')");
        let session = database.session();
        session.run(&insert).await;
        let image = session.value("select new_row from pgrelay.log").await;
        assert_eq!(image, format!(r#"{{"id":1,"body":{body}}}"#));
        session
            .run("delete from public.documents; truncate pgrelay.log")
            .await;
    }
}

#[tokio::test]
async fn a_failing_cast_of_the_users_own_becomes_a_hole_in_its_table_only() {
    let database = CaptureDatabase::create().await;
    let tables = format!("{MOODS} {MESSAGES}");
    database
        .capture(&tables, "public.moods, public.messages")
        .await;
    let session = database.session();
    session
        .run(
            "begin;
             insert into public.moods values (1, 'good'), (2, 'bad');
             insert into public.messages values (1, 'after it');
             commit",
        )
        .await;
    assert_eq!(database.told().await, ["I moods", "H moods", "I messages"]);
    assert_eq!(
        session.value("select count(*) from public.moods").await,
        "2"
    );
    assert_eq!(database.holes_counted().await, "0");
}

#[tokio::test]
async fn a_hole_is_written_to_the_servers_log_and_not_shown_to_the_user() {
    let database = moods().await;
    let mut writer = Listener::connect(database.database().url()).await;
    writer
        .run("set client_min_messages = notice; insert into public.moods values (1, 'bad')")
        .await
        .unwrap();
    assert_eq!(writer.notices(), [""; 0]);
    writer
        .run("set client_min_messages = log; insert into public.moods values (2, 'bad')")
        .await
        .unwrap();
    assert_eq!(
        writer.notices(),
        ["pgrelay: a row of public.moods cannot be logged (sqlstate P0001)"]
    );
}

#[tokio::test]
async fn a_row_too_large_for_the_log_is_logged_by_its_key() {
    let database = CaptureDatabase::create().await;
    // A column called k: the key is put together in a query of its own, whose names must not collide with the table's.
    let table =
        "create table public.files (k text, number int, body text, primary key (k, number))";
    database.capture(table, "public.files").await;
    // As large in memory, and small on disk.
    database
        .session()
        .run(
            "insert into public.files values ('it''s \"k\"', 1, repeat('many megabytes ', 600000));
             set bytea_output = 'escape';
             update public.files set number = 2;
             delete from public.files",
        )
        .await;
    let key = |number| format!(r#"{{"k":"it's \"k\"","number":{number}}}"#);
    let images: Vec<_> = database
        .log()
        .await
        .into_iter()
        .map(|row| (row.op, row.oversize, row.new, row.old))
        .collect();
    assert_eq!(
        images,
        [
            ("I".to_owned(), true, key(1), String::new()),
            ("U".to_owned(), true, key(2), key(1)),
            ("D".to_owned(), true, String::new(), key(2)),
        ]
    );
}

#[tokio::test]
async fn a_row_beyond_a_gigabyte_as_text_becomes_a_hole() {
    let database = CaptureDatabase::create().await;
    let table = "create table public.bits (id int primary key, bits varbit)";
    database.capture(table, "public.bits").await;
    let session = database.session();
    // A digit for each bit. Without the deadline of other statements: it is a gigabyte.
    session
        .batch_execute(
            "insert into public.bits
             select 1, eight || four || one
               from (select 0::bit(83000000)::varbit as one offset 0) a,
                    lateral (select one || one || one || one as four offset 0) b,
                    lateral (select four || four as eight offset 0) c",
        )
        .await
        .unwrap();
    assert_eq!(database.told().await, ["H bits"]);
    let kept = "select length(bits) from public.bits";
    assert_eq!(session.value(kept).await, "1079000000");
}

#[tokio::test]
async fn nobody_is_notified_while_no_relay_sleeps() {
    let database = messages().await;
    let mut relay = Listener::connect(database.database().url()).await;
    relay.run("listen pgrelay").await.unwrap();
    database
        .session()
        .run("insert into public.messages values (1, 'a')")
        .await;
    assert_eq!(relay.notifications().await, []);
}

#[tokio::test]
async fn a_sleeping_relay_is_rung_once_per_transaction_with_nothing_to_read() {
    let database = messages().await;
    let mut relay = Listener::connect(database.database().url()).await;
    relay
        .run("listen pgrelay; select pg_advisory_lock(pgrelay.doorbell_key())")
        .await
        .unwrap();
    database
        .session()
        .run(
            "begin;
             insert into public.messages select i, 'a' from generate_series(1, 100) i;
             update public.messages set body = 'b';
             truncate public.messages;
             commit",
        )
        .await;
    database
        .session()
        .run("begin; insert into public.messages values (1, 'never'); rollback")
        .await;
    assert_eq!(
        relay.notifications().await,
        [("pgrelay".to_owned(), String::new())]
    );
}

#[tokio::test]
async fn a_listener_that_is_stuck_cannot_fail_a_writer() {
    // The size of the queue can be set since PostgreSQL 17. Before, it is 8 GB, which no test fills: there, the writer meets a
    // stuck listener and a queue with room.
    let can_be_filled = CaptureDatabase::create().await.version().await >= 170_000;
    let mut server = PostgresServer::builder();
    if can_be_filled {
        server = server.set("max_notify_queue_pages", "64");
    }
    let server = server.start().await;
    let database = CaptureDatabase::create_on(&server.url()).await;
    database.capture(MESSAGES, "public.messages").await;
    let sleeping_relay = database.another_session().await;
    sleeping_relay
        .run("select pg_advisory_lock(pgrelay.doorbell_key())")
        .await;
    let stuck = database.another_session().await;
    stuck.run("listen anything").await;
    stuck.run("begin; select 1").await;
    let talkative = database.another_session().await;
    let mut refusal = None;
    for number in 0..70 {
        let notify = format!("select pg_notify('anything', repeat('x', 7900) || {number})");
        refusal = talkative.batch_execute(&notify).await.err();
        if refusal.is_some() {
            break;
        }
        database
            .session()
            .run(&format!(
                "insert into public.messages values ({number}, 'a')"
            ))
            .await;
    }
    assert_eq!(refusal.is_some(), can_be_filled, "{refusal:?}");
    database
        .session()
        .run("insert into public.messages values (100, 'written while the queue is as full as it gets')")
        .await;
    stuck.run("rollback").await;
}

#[tokio::test]
async fn a_transaction_can_be_prepared_whoever_holds_the_doorbell() {
    let server = PostgresServer::builder()
        .set("max_prepared_transactions", "10")
        .start()
        .await;
    let database = CaptureDatabase::create_on(&server.url()).await;
    database.capture(MESSAGES, "public.messages").await;
    let holder = database.another_session().await;
    holder
        .run("select pg_advisory_lock(pgrelay.doorbell_key())")
        .await;
    let session = database.session();
    session
        .run(
            "begin;
             insert into public.messages values (1, 'a');
             truncate public.messages;
             prepare transaction 'changes'",
        )
        .await;
    assert_eq!(database.told().await, [""; 0]);
    session.run("commit prepared 'changes'").await;
    assert_eq!(database.told().await, ["I messages", "H messages"]);
    session
        .run(
            "begin;
             create table public.more (id int primary key);
             alter publication supabase_realtime add table public.more;
             prepare transaction 'definitions'",
        )
        .await;
    session.run("commit prepared 'definitions'").await;
}

#[tokio::test]
async fn a_writer_without_any_right_on_the_log_is_captured() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    let table = format!("{MESSAGES} {WRITER} grant all on public.messages to pgrelay_test_writer");
    database.capture(&table, "public.messages").await;
    database
        .session()
        .run(
            "set role pgrelay_test_writer;
             insert into public.messages values (1, 'a');
             update public.messages set body = current_user;
             truncate public.messages;
             reset role",
        )
        .await;
    assert_eq!(
        database.told().await,
        ["I messages", "U messages", "H messages"]
    );
}

#[tokio::test]
async fn a_writer_under_row_level_security_is_captured_and_stays_itself() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    let table = format!(
        "{MESSAGES} {WRITER}
         grant all on public.messages to pgrelay_test_writer;
         alter table public.messages enable row level security;
         create policy own on public.messages using (false) with check (body = current_user)"
    );
    database.capture(&table, "public.messages").await;
    let session = database.session();
    session
        .run(
            "set role pgrelay_test_writer;
             insert into public.messages values (1, 'pgrelay_test_writer');
             insert into public.messages values (2, current_user)",
        )
        .await;
    let somebody_else = "insert into public.messages values (3, 'somebody else')";
    assert_eq!(
        CaptureDatabase::refusal(session, somebody_else).await,
        "42501"
    );
    session.run("reset role").await;
    assert_eq!(database.told().await, ["I messages", "I messages"]);
}

#[tokio::test]
async fn rights_that_were_revoked_cost_a_hole_and_not_a_write() {
    let database = messages().await;
    let session = database.session();
    let definer = database.definer().await;
    session
        .run("insert into public.messages values (1, 'a')")
        .await;
    session
        .run(&format!("revoke insert on pgrelay.log from {definer}"))
        .await;
    session
        .run("insert into public.messages values (2, 'a')")
        .await;
    database
        .another_session()
        .await
        .run("insert into public.messages values (3, 'a')")
        .await;
    assert_eq!(database.holes_counted().await, "2");
    session
        .run(&format!("grant insert on pgrelay.log to {definer}"))
        .await;
    session
        .run("insert into public.messages values (4, 'a')")
        .await;
    assert_eq!(database.told().await, ["I messages", "I messages"]);
}

#[tokio::test]
async fn writers_survive_a_restore_that_left_out_all_rights() {
    let database = messages().await;
    let session = database.session();
    let definer = database.definer().await;
    let statements = "
        insert into public.messages values (1, 'a');
        update public.messages set body = 'b';
        delete from public.messages;
        truncate public.messages;";
    session.run(statements).await;
    session
        .run(&format!(
            "revoke all on all tables in schema pgrelay from {definer};
             revoke all on all sequences in schema pgrelay from {definer};
             revoke all on all functions in schema pgrelay from {definer}, public;
             revoke all on schema pgrelay from {definer}"
        ))
        .await;
    session.run(statements).await;
    database.another_session().await.run(statements).await;
}

#[tokio::test]
async fn a_log_that_is_gone_costs_a_hole_and_not_a_write() {
    let database = messages().await;
    let session = database.session();
    session
        .run("insert into public.messages values (1, 'a')")
        .await;
    session.run("drop table pgrelay.log cascade").await;
    session
        .run("insert into public.messages values (2, 'a')")
        .await;
    database
        .another_session()
        .await
        .run("insert into public.messages values (3, 'a'); truncate public.messages")
        .await;
    assert_eq!(database.holes_counted().await, "3");
    session.run("drop sequence pgrelay.log_holes").await;
    session
        .run("insert into public.messages values (4, 'a'); truncate public.messages")
        .await;
}

#[tokio::test]
async fn a_segment_that_is_missing_is_replaced_by_the_default_one() {
    let database = messages().await;
    let session = database.session();
    session
        .run(
            "select setval('pgrelay.log_segment', 77); insert into public.messages values (1, 'a')",
        )
        .await;
    let place = "select tableoid::regclass from pgrelay.log";
    assert_eq!(session.value(place).await, "pgrelay.log_default");
}

#[tokio::test]
async fn the_log_survives_a_crash_with_what_was_committed() {
    let mut server = PostgresServer::builder().start().await;
    let database = CaptureDatabase::create_on(&server.url()).await;
    database.capture(MESSAGES, "public.messages").await;
    database
        .session()
        .run("insert into public.messages values (1, 'a')")
        .await;
    server.crash().await;
    server.start().await;
    let session = database.another_session().await;
    session
        .run("insert into public.messages values (2, 'b')")
        .await;
    let bodies = "select string_agg(new_row::json ->> 'body', ',' order by seq) from pgrelay.log";
    assert_eq!(session.value(bodies).await, "a,b");
}

#[tokio::test]
async fn a_statement_timeout_inside_the_trigger_is_the_users_own() {
    let database = CaptureDatabase::create().await;
    let table = "
        create type public.slowness as enum ('slow');
        create function public.slow_json(public.slowness) returns json language plpgsql as $$
        begin
            perform pg_sleep(600);
            return 'null';
        end $$;
        create cast (public.slowness as json) with function public.slow_json(public.slowness);
        create table public.patience (id int primary key, how public.slowness)";
    database.capture(table, "public.patience").await;
    let session = database.session();
    session.run("set statement_timeout = '200ms'").await;
    let statement = "insert into public.patience values (1, 'slow')";
    assert_eq!(CaptureDatabase::refusal(session, statement).await, "57014");
    session
        .run("reset statement_timeout; insert into public.patience values (1, null)")
        .await;
    assert_eq!(database.told().await, ["I patience"]);
}

#[tokio::test]
async fn nothing_hangs_on_the_tables_of_the_log_that_could_fail_an_insert() {
    let database = messages().await;
    // Not-null constraints are rows of pg_constraint since PostgreSQL 18; the triggers fill all those columns.
    let strange = "
        select c.oid::regclass::text
          from pg_class c
         where c.relnamespace = 'pgrelay'::regnamespace and c.relkind in ('r', 'p')
           and (c.relrowsecurity or c.relpersistence <> 'p'
             or exists (select from pg_trigger t where t.tgrelid = c.oid)
             or exists (select from pg_constraint k where c.oid in (k.conrelid, k.confrelid) and k.contype not in ('p', 'n')))";
    let found = database.session().rows(strange).await;
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn serializable_writers_do_not_conflict_in_the_log() {
    let database = messages().await;
    let one = database.another_session().await;
    let two = database.another_session().await;
    for statement in [
        "begin isolation level serializable; select count(*) from pg_class",
        "insert into public.messages values (pg_backend_pid(), 'a')",
        "update public.messages set body = 'b' where id = pg_backend_pid()",
        "commit",
    ] {
        one.run(statement).await;
        two.run(statement).await;
    }
    assert_eq!(database.log().await.len(), 4);
}

#[tokio::test]
async fn writers_do_not_wait_for_each_other_in_the_log() {
    let database = messages().await;
    let one = database.another_session().await;
    let two = database.another_session().await;
    let insert = "begin; insert into public.messages values (pg_backend_pid(), 'open')";
    one.run(insert).await;
    two.run(insert).await;
    // The others stay open until this has ended.
    database
        .session()
        .run("insert into public.messages values (0, 'a'); update public.messages set body = 'b' where id = 0")
        .await;
    assert_eq!(database.told().await, ["I messages", "U messages"]);
    one.run("commit").await;
    two.run("commit").await;
    assert_eq!(database.log().await.len(), 4);
}

#[tokio::test]
async fn the_order_of_changes_outlives_32_bits() {
    let database = messages().await;
    let session = database.session();
    session
        .run(
            "select setval('pgrelay.log_seq', 4294967295), setval('pgrelay.log_holes', 4294967295);
             insert into public.messages values (1, 'a');
             select setval('pgrelay.log_segment', -1);
             insert into public.messages values (2, 'a')",
        )
        .await;
    assert_eq!(
        session.value("select seq from pgrelay.log").await,
        "4294967296"
    );
    assert_eq!(database.holes_counted().await, "4294967296");
}

#[tokio::test]
async fn tables_may_change_their_shape_in_the_middle_of_a_session() {
    let database = messages().await;
    database
        .session()
        .run(
            "insert into public.messages values (1, 'a');
             alter table public.messages add column more int default 5;
             update public.messages set body = 'b';
             alter table public.messages rename column body to words;
             update public.messages set more = 6;
             alter table public.messages alter column more type text;
             update public.messages set more = 7;
             alter table public.messages drop column words;
             alter table public.messages rename to letters;
             update public.letters set more = null",
        )
        .await;
    let log = database.log().await;
    let images: Vec<_> = log.iter().map(|row| row.new.as_str()).collect();
    assert_eq!(
        images,
        [
            r#"{"id":1,"body":"a"}"#,
            r#"{"id":1,"body":"b","more":5}"#,
            r#"{"id":1,"words":"b","more":6}"#,
            r#"{"id":1,"words":"b","more":"7"}"#,
            r#"{"id":1,"more":null}"#,
        ]
    );
    // A column with a default is in the image of a row that was not rewritten for it.
    assert_eq!(log[1].old, r#"{"id":1,"body":"a","more":5}"#);
}

#[tokio::test]
async fn a_table_can_be_altered_in_the_transaction_that_wrote_to_it() {
    let database = messages().await;
    database
        .session()
        .run(
            "begin;
             insert into public.messages values (1, 'a');
             alter table public.messages add column more int;
             insert into public.messages values (2, 'b', 3);
             truncate public.messages;
             drop table public.messages;
             commit",
        )
        .await;
    // The table has no name any more.
    assert_eq!(database.told().await, ["I", "I", "H"]);
}

#[tokio::test]
async fn ddl_survives_a_hook_that_is_broken() {
    // Only a superuser can have the hook.
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    database.capture(MESSAGES, "public.messages").await;
    database
        .session()
        .run(
            "drop function pgrelay.sync(oid, boolean);
             create table public.more (id int primary key);
             alter publication supabase_realtime add table public.more;
             alter table public.messages add column more text",
        )
        .await;
}

#[tokio::test]
async fn a_transaction_of_ddl_keeps_its_own_settings() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    let session = database.session();
    session
        .run(&format!(
            "begin; set local lock_timeout = '7s'; {MESSAGES}
             alter publication supabase_realtime add table public.messages"
        ))
        .await;
    assert_eq!(session.value("show lock_timeout").await, "7s");
    assert_eq!(session.value("show search_path").await, "\"$user\", public");
    session.run("commit").await;
    assert_eq!(session.value("show lock_timeout").await, "0");
}

#[tokio::test]
async fn dropping_the_schema_takes_the_triggers_along() {
    let database = messages().await;
    let writer = database.another_session().await;
    writer
        .run("insert into public.messages values (1, 'a')")
        .await;
    let session = database.session();
    session
        .run("set client_min_messages = warning; drop schema pgrelay cascade")
        .await;
    writer
        .run("insert into public.messages values (2, 'b'); truncate public.messages")
        .await;
    session.run("create table public.more (id int)").await;
    let left = "select (select count(*) from pg_trigger) + (select count(*) from pg_event_trigger)";
    assert_eq!(session.value(left).await, "0");
}

#[tokio::test]
async fn a_bulk_insert_takes_no_transaction_id_per_row() {
    let database = moods().await;
    let session = database.session();
    session
        .run(
            "begin;
             insert into public.moods
               select i, case when i % 100 = 0 then 'bad'::public.mood else 'good' end from generate_series(1, 1000) i;
             commit",
        )
        .await;
    // xmin is the subtransaction that wrote the row.
    let ids = "select count(*) || ' ' || count(distinct xmin::text) from pgrelay.log";
    assert_eq!(session.value(ids).await, "1000 1");
}

#[tokio::test]
async fn a_counted_hole_outlives_the_rollback_of_its_writer() {
    let database = messages().await;
    database
        .session()
        .run("select setval('pgrelay.log_segment', -1)")
        .await;
    database
        .session()
        .run("begin; insert into public.messages values (1, 'a'); rollback")
        .await;
    assert_eq!(database.holes_counted().await, "1");
    assert_eq!(database.told().await, [""; 0]);
}

#[tokio::test]
async fn a_counted_hole_is_told_after_the_writer_that_may_have_made_it() {
    let database = messages().await;
    let session = database.session();
    let writer = database.another_session().await;
    session
        .run("select setval('pgrelay.log_segment', -1)")
        .await;
    writer
        .run("begin; insert into public.messages values (1, 'a')")
        .await;
    session.run("select setval('pgrelay.log_segment', 0)").await;
    // The first call takes note of the hole, and the later ones wait for the writer.
    for _ in 0..3 {
        assert_eq!(session.value("select pgrelay.settle_holes()").await, "0");
    }
    assert_eq!(database.told().await, [""; 0]);
    writer.run("commit").await;
    let settled = wait_for("the hole to be told", async || {
        let settled = session.value("select pgrelay.settle_holes()").await;
        (settled != "0").then_some(settled)
    })
    .await;
    assert_eq!(settled, "1");
    // Of no table in particular: of any.
    assert_eq!(database.told().await, ["H"]);
    assert_eq!(session.value("select pgrelay.settle_holes()").await, "0");
}

#[tokio::test]
async fn functions_can_be_replaced_under_open_transactions() {
    let database = messages().await;
    let writer = database.another_session().await;
    writer
        .run("begin; insert into public.messages values (1, 'a')")
        .await;
    let session = database.session();
    let definitions = session
        .rows(
            "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'pgrelay'::regnamespace",
        )
        .await;
    for definition in definitions {
        session.run(definition[0].as_deref().unwrap()).await;
    }
    writer
        .run("insert into public.messages values (2, 'b'); commit")
        .await;
    assert_eq!(database.told().await, ["I messages", "I messages"]);
}

#[tokio::test]
async fn rows_applied_from_another_server_are_captured_and_do_not_stop_it() {
    let server = PostgresServer::builder()
        .set("wal_level", "logical")
        .start()
        .await;
    let source = server.connect().await;
    source.run(MOODS).await;
    source
        .run("create publication everything for all tables")
        .await;
    source
        .run("select pg_create_logical_replication_slot('everything', 'pgoutput')")
        .await;
    let database = CaptureDatabase::create_on(&server.url()).await;
    database.capture(MOODS, "public.moods").await;
    let address = server.url().address();
    database
        .session()
        .run(&format!(
            "create subscription everything
               connection 'host={} port={} user=postgres dbname=postgres' publication everything
               with (create_slot = false, slot_name = 'everything', copy_data = false)",
            address.ip(),
            address.port()
        ))
        .await;
    source
        .run(
            "insert into public.moods values (1, 'good'), (2, 'bad');
             update public.moods set mood = 'good';
             truncate public.moods",
        )
        .await;
    let told = wait_for("the changes to be applied", async || {
        let told = database.told().await;
        (told.len() >= 5).then_some(told)
    })
    .await;
    // The second hole is of the row that was bad before, the third of the truncation.
    assert_eq!(
        told,
        ["I moods", "H moods", "U moods", "H moods", "H moods"]
    );
    database.session().run("drop subscription everything").await;
}

#[tokio::test]
async fn settings_of_a_strict_session_do_not_reach_the_triggers() {
    let database = messages().await;
    database
        .session()
        .run(
            "set plpgsql.extra_errors = 'all'; set plan_cache_mode = force_custom_plan; set transform_null_equals = on;
             set standard_conforming_strings = off; set escape_string_warning = off; set row_security = off;
             set default_transaction_isolation = serializable; set lock_timeout = '1s';
             insert into public.messages values (1, 'a');
             update public.messages set body = 'b';
             truncate public.messages",
        )
        .await;
    assert_eq!(
        database.told().await,
        ["I messages", "U messages", "H messages"]
    );
}

#[test]
fn the_table_of_hazards_names_tests_that_exist() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(crate_folder.join("HAZARDS.md")).unwrap();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let shown_by = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        // "file: `test`, `test`; file: `test`"; what is not a test of ours has other signs in it.
        let mut file = String::new();
        for part in shown_by.split([';', ',']) {
            let part = part.trim();
            let (before, test) = part.split_once('`').unwrap_or((part, ""));
            if let Some(name) = before.trim().strip_suffix(':') {
                file = name.to_owned();
            }
            let test = test.trim_end_matches('`');
            if test.is_empty() || test.contains(['/', '-', '.', ' ']) {
                continue;
            }
            let folder = if file == "upkeep" || file == "ledger" {
                "../ledger/tests"
            } else {
                "tests"
            };
            let source = crate_folder.join(folder).join(&file).with_extension("rs");
            let source = std::fs::read_to_string(&source)
                .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
            assert!(
                source.contains(&format!("fn {test}(")),
                "there is no {test} in {file}"
            );
            named += 1;
        }
    }
    assert!(named > 30, "only {named} tests are named");
}
