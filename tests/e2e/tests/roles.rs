//! Who may do what: the migration takes what it is given, users get nothing, and nothing of theirs runs with more than they have.

use futures::future::join_all;
use pgrelay_e2e::CaptureDatabase;
use pgrelay_test_support::{PostgresServer, Role, TestDatabase};

const MESSAGES: &str = "create table public.messages (id int primary key, body text)";

/// A role that owns nothing. It outlives its test, because tests that run at the same time share it.
const WRITER: &str = "
    do $$
    begin
        create role pgrelay_test_writer nologin;
    exception when duplicate_object or unique_violation then
        null;
    end $$;
    create table public.messages (id int primary key, body text);
    grant all on public.messages to pgrelay_test_writer;
    create schema writers authorization pgrelay_test_writer;";

/// Everything that a relay does with the schema, and a writer.
const WORK: &str = "
    select pgrelay.begin_epoch('test');
    insert into public.messages values (1, 'a');
    update public.messages set body = 'b';
    delete from public.messages;
    truncate public.messages;
    select pgrelay.step(true);
    select pgrelay.maintain('0', 1);
    select pg_catalog.setval('pgrelay.log_segment', -1);
    insert into public.messages values (2, 'uncounted');
    select pgrelay.maintain('0', 1);
    select pgrelay.settle_holes();
    select pgrelay.disable('public.messages');
    select pgrelay.enable('public.messages');";

async fn server() -> PostgresServer {
    PostgresServer::builder().start().await
}

/// Has the statements that were announced run by somebody who may.
async fn run_what_is_needed(database: &CaptureDatabase) {
    let superuser = database.database().connect_superuser().await;
    for statement in database.needs() {
        superuser.run(statement).await;
    }
}

#[tokio::test]
async fn the_owner_of_a_database_installs_the_log_and_it_works() {
    let database = CaptureDatabase::create_as(Role::Owner).await;
    assert_eq!(database.needs().len(), 2, "{:?}", database.needs());
    let owner = database.session().value("select current_user").await;
    assert_eq!(database.definer().await, owner);
    database.capture(MESSAGES, "public.messages").await;
    database.session().run(WORK).await;
}

#[tokio::test]
async fn what_an_owner_could_not_do_is_sql_that_a_superuser_can_run() {
    // Roles belong to a server, so this needs one on which none of ours is yet.
    let server = server().await;
    for is_first in [true, false] {
        let database = TestDatabase::create_on(&server.url(), Role::Owner).await;
        let database = CaptureDatabase::install(database).await;
        let needs = database.needs();
        assert_eq!(needs.len(), 2, "{needs:?}");
        assert_eq!(needs[0].contains("create role pgrelay_capture"), is_first);
        assert!(needs[1].starts_with("create event trigger"), "{needs:?}");
        run_what_is_needed(&database).await;
        assert_eq!(database.definer().await, "pgrelay_capture");

        // The hook attaches; and without it, the owner still may.
        let session = database.session();
        session.run(MESSAGES).await;
        session
            .run("alter publication supabase_realtime add table public.messages")
            .await;
        assert!(session.rows("select pgrelay.sync()").await.is_empty());
        session.run(WORK).await;

        // The hook has the rights of the owner, and no others: what it may not do is left alone, and fails no DDL.
        let superuser = database.database().connect_superuser().await;
        superuser
            .run(
                "create table public.not_the_owners (id int);
                 alter publication supabase_realtime add table public.not_the_owners;
                 insert into public.not_the_owners values (1)",
            )
            .await;
        let report = "select action from pgrelay.sync('public.not_the_owners'::regclass)";
        assert_eq!(session.value(report).await, "failed");
    }
}

#[tokio::test]
async fn a_role_that_may_create_roles_makes_the_capture_role_by_itself() {
    let server = server().await;
    let database = TestDatabase::create_on(&server.url(), Role::Owner).await;
    let superuser = database.connect_superuser().await;
    let owner = database.connect().await.value("select current_user").await;
    superuser
        .run(&format!("alter role {owner} createrole"))
        .await;
    let database = CaptureDatabase::install(database).await;
    let needs = database.needs();
    assert_eq!(needs.len(), 1, "{needs:?}");
    assert!(needs[0].starts_with("create event trigger"), "{needs:?}");
    assert_eq!(database.definer().await, "pgrelay_capture");
    database.capture(MESSAGES, "public.messages").await;
    database.session().run(WORK).await;
}

#[tokio::test]
async fn databases_of_a_server_are_migrated_at_the_same_time() {
    let server = server().await;
    let url = server.url();
    let databases = join_all((0..6).map(|_| CaptureDatabase::create_on(&url))).await;
    for database in &databases {
        assert_eq!(database.needs(), [""; 0]);
        assert_eq!(database.definer().await, "pgrelay_capture");
    }
}

#[tokio::test]
async fn the_capture_role_owns_nothing_but_the_triggers_functions() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    let session = database.session();
    let attributes = "select concat_ws(' ', rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication)
                        from pg_roles where rolname = 'pgrelay_capture'";
    assert_eq!(session.value(attributes).await, "f f f f f f f");
    let rights = "
        select string_agg(name || ' ' || lower(privilege), ', ' order by name, privilege)
          from (select relname as name, (aclexplode(relacl)).* from pg_class where relnamespace = 'pgrelay'::regnamespace
                union all
                select relname || '.' || attname, (aclexplode(attacl)).*
                  from pg_class c join pg_attribute a on a.attrelid = c.oid where relnamespace = 'pgrelay'::regnamespace
                union all
                select proname, (aclexplode(proacl)).* from pg_proc where pronamespace = 'pgrelay'::regnamespace
                union all
                select nspname, (aclexplode(nspacl)).* from pg_namespace where nspname = 'pgrelay') acl (name, grantor, grantee, privilege)
         where grantee = 'pgrelay_capture'::regrole";
    assert_eq!(
        session.value(rights).await,
        "capture execute, capture_truncate execute, check_abandoned execute, log insert, log_hole execute, log_holes usage, \
         log_segment select, log_seq usage, pgrelay usage, render execute, render_key execute"
    );
}

#[tokio::test]
async fn users_can_read_nothing_write_nothing_and_call_nothing() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    database.capture(WRITER, "public.messages").await;
    let session = database.session();
    let relations = session
        .rows("select oid::regclass from pg_class where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p', 'S')")
        .await;
    let functions = session
        .rows("select oid::regproc from pg_proc where pronamespace = 'pgrelay'::regnamespace")
        .await;
    assert!(relations.len() > 10 && functions.len() > 20);
    let mut attempts = vec![
        "create table pgrelay.mine (id int)".to_owned(),
        "insert into pgrelay.log (segment, relid, op) values (0, 0, 'I')".to_owned(),
        "create table writers.mine (id int);
         create trigger t after insert on writers.mine for each row execute function pgrelay.capture()"
            .to_owned(),
    ];
    for relation in &relations {
        let relation = relation[0].as_deref().unwrap();
        attempts.push(format!("select * from {relation}"));
        attempts.push(format!("truncate {relation}"));
    }
    for function in &functions {
        attempts.push(format!("select {}()", function[0].as_deref().unwrap()));
    }
    session.run("set role pgrelay_test_writer").await;
    for attempt in &attempts {
        let code = CaptureDatabase::refusal(session, attempt).await;
        assert_eq!(code, "42501", "{attempt}");
    }
    session.run("reset role").await;

    // The functions are closed by themselves too, should somebody open the schema: all but the triggers', which cannot be
    // called, and which whoever makes a partition of a captured table must be able to hand on.
    let open = "select string_agg(oid::regproc::text, ', ' order by oid::regproc::text) from pg_proc
                 where pronamespace = 'pgrelay'::regnamespace and has_function_privilege('pgrelay_test_writer', oid, 'execute')";
    assert_eq!(
        session.value(open).await,
        "pgrelay.capture, pgrelay.capture_truncate"
    );
    let open = "select count(*) from pg_class
                 where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p')
                   and has_any_column_privilege('pgrelay_test_writer', oid, 'select, insert, update')";
    assert_eq!(session.value(open).await, "0");
}

#[tokio::test]
async fn a_cast_of_the_users_own_runs_with_the_rights_of_the_capture_role_only() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    let table = "
        create type public.spy as enum ('looks', 'reads');
        create function public.spy_json(public.spy) returns json language plpgsql as $$
        begin
            if $1 = 'reads' then
                return (select to_json(value) from pgrelay.meta where key = 'cursor_key');
            end if;
            return json_build_object(
                'user', current_user,
                'secrets', has_table_privilege('pgrelay.meta', 'select') or has_any_column_privilege('pgrelay.log', 'select'),
                'maintenance', has_table_privilege('pgrelay.log', 'truncate, delete, update')
                    or has_sequence_privilege('pgrelay.log_segment', 'update')
                    or has_function_privilege('pgrelay.maintain(interval, bigint)', 'execute')
                    or has_schema_privilege('pgrelay', 'create'),
                'users', has_table_privilege('public.spies', 'select, insert')
            );
        end $$;
        create cast (public.spy as json) with function public.spy_json(public.spy);
        create table public.spies (id int, mission public.spy)";
    database.capture(table, "public.spies").await;
    // By a superuser, whose rights it would like to have.
    database
        .session()
        .run("insert into public.spies values (1, 'looks'), (2, 'reads')")
        .await;
    let log = database.log().await;
    assert_eq!(
        log[0].new,
        r#"{"id":1,"mission":{"user" : "pgrelay_capture", "secrets" : false, "maintenance" : false, "users" : false}}"#
    );
    assert_eq!(log[1].op, "H");
}

#[tokio::test]
async fn names_in_public_and_in_pg_temp_shadow_nothing() {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    database.capture(MESSAGES, "public.messages").await;
    let session = database.session();
    // Functions and operators that fit better than the server's own, and raise.
    for schema in ["public", "pg_temp"] {
        for (name, arguments, result) in [
            ("row_to_json", "public.messages", "text"),
            ("octet_length", "text", "int"),
            ("current_setting", "text", "text"),
            ("nextval", "text", "bigint"),
            ("setval", "text, int", "bigint"),
            ("pg_sequence_last_value", "text", "bigint"),
            ("pg_notify", "text, text", "void"),
            ("pg_try_advisory_xact_lock_shared", "bigint", "boolean"),
            ("has_table_privilege", "regclass, text", "boolean"),
            ("format", "text, text", "text"),
            ("clock_timestamp", "", "timestamptz"),
            ("text_is", "text, text", "boolean"),
        ] {
            session
                .run(&format!(
                    "create function {schema}.{name}({arguments}) returns {result} language plpgsql as
                       'begin raise exception ''shadowed by {schema}.{name}''; end'"
                ))
                .await;
        }
        session
            .run(&format!(
                "create operator {schema}.= (function = {schema}.text_is, leftarg = text, rightarg = text);
                 create operator {schema}.<> (function = {schema}.text_is, leftarg = text, rightarg = text)"
            ))
            .await;
    }
    session
        .run(
            "create schema shadows;
             create table shadows.pg_class (oid oid); create table shadows.pg_trigger (oid oid);
             create table shadows.pg_publication_tables (oid oid); create table shadows.log (id int);
             create temporary table pg_class (oid oid); create temporary table pg_trigger (oid oid);
             create temporary table pg_publication_tables (oid oid); create temporary table log (id int);
             create domain shadows.text as int; create domain shadows.oid as int;
             set search_path = pg_temp, shadows, public, pg_catalog",
        )
        .await;
    session.run(WORK).await;
    session
        .run(
            "set timezone = 'Asia/Tokyo';
             insert into public.messages values (3, 'also when it is rendered with other settings');
             insert into public.messages values (4, pg_catalog.repeat('large', 2000000))",
        )
        .await;
    let reader = database.another_session().await;
    let logged = "select string_agg(op::text || ' ' || oversize, ', ' order by seq) from pgrelay.log where relid <> 0";
    assert_eq!(
        reader.value(logged).await,
        "I false, U false, D false, H false, I false, I true"
    );
}
