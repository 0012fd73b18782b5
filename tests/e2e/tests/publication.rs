//! What is published is captured, and the owner of a table never pays for it with a statement that fails.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

use pgrelay_e2e::CaptureDatabase;
use pgrelay_test_support::Role;

const MESSAGES: &str = "create table public.messages (id int primary key, body text);";

/// Rows of a table partitioned by list, with a partition each for a and b.
const PARTITIONED: &str = "
    create table public.rooms (id int, place text, primary key (id, place)) partition by list (place);
    create table public.rooms_a partition of public.rooms for values in ('a');
    create table public.rooms_b partition of public.rooms for values in ('b');";

const ADD_MESSAGES: &str = "alter publication supabase_realtime add table public.messages";
const INSERT: &str = "insert into public.messages values (1, 'a')";

/// What `sync` says and does: name and action for each relation that was not in line.
async fn sync(database: &CaptureDatabase) -> Vec<String> {
    let rows = database
        .session()
        .rows("select concat_ws(' ', name, action, error) from pgrelay.sync()")
        .await;
    rows.into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect()
}

/// How many triggers of ours are on user tables.
async fn triggers(database: &CaptureDatabase) -> String {
    database
        .session()
        .value("select count(*) from pg_trigger where tgname like '!pgrelay%'")
        .await
}

/// Which tables are delivered under which name.
async fn delivered(database: &CaptureDatabase) -> String {
    database
        .session()
        .value(
            "select string_agg(relid::regclass || ' as ' || name_relid::regclass, ', ' order by relid::regclass::text)
               from pgrelay.published()",
        )
        .await
}

async fn superuser_database(definitions: &str) -> CaptureDatabase {
    let database = CaptureDatabase::create_as(Role::Superuser).await;
    database.session().run(definitions).await;
    database
}

/// A database without the hook that attaches at once, as a role gets it that is no superuser.
async fn database_without_hook(definitions: &str) -> CaptureDatabase {
    let database = CaptureDatabase::create_as(Role::Owner).await;
    database.session().run(definitions).await;
    database
}

#[tokio::test]
async fn a_table_is_captured_from_the_statement_that_publishes_it() {
    let database = superuser_database(MESSAGES).await;
    database
        .session()
        .run(&format!("begin; {ADD_MESSAGES}; {INSERT}; commit"))
        .await;
    assert_eq!(database.told().await, ["I messages"]);
    assert_eq!(sync(&database).await, [""; 0]);
}

#[tokio::test]
async fn a_table_is_captured_from_the_next_round_where_there_is_no_hook() {
    let database = database_without_hook(MESSAGES).await;
    database.session().run(ADD_MESSAGES).await;
    assert_eq!(triggers(&database).await, "0");
    assert_eq!(sync(&database).await, ["public.messages attached"]);
    database.session().run(INSERT).await;
    assert_eq!(database.told().await, ["I messages"]);
    assert_eq!(sync(&database).await, [""; 0]);
}

#[tokio::test]
async fn looking_does_not_attach() {
    let database = database_without_hook(MESSAGES).await;
    database.session().run(ADD_MESSAGES).await;
    let rows = database
        .session()
        .rows("select name, action, statement from pgrelay.sync(null, false)")
        .await;
    let statement = rows[0][2].clone().unwrap();
    assert_eq!(rows[0][1].as_deref(), Some("missing"));
    assert_eq!(triggers(&database).await, "0");
    // What it prints is what there is to do.
    database.session().run(&statement).await;
    database.session().run(INSERT).await;
    assert_eq!(database.told().await, ["I messages"]);
    // Looking again finds it attached, once.
    let look = "select action from pgrelay.sync(null, false)";
    assert_eq!(database.session().value(look).await, "attached");
    assert!(database.session().rows(look).await.is_empty());
}

#[tokio::test]
async fn names_of_any_shape_are_captured() {
    let database = CaptureDatabase::create().await;
    let tables = [
        r#"public."Mixed ""Case"", comma""#,
        r#""a.schema"."table' \ with $quotes$ é""#,
        r#"public."select""#,
    ];
    database.session().run(r#"create schema "a.schema""#).await;
    for table in tables {
        let definition = format!("create table {table} (id int primary key)");
        database.capture(&definition, table).await;
        database
            .session()
            .run(&format!("insert into {table} values (1)"))
            .await;
    }
    assert_eq!(database.log().await.len(), 3);
    for table in tables {
        database
            .session()
            .run(&format!(
                "select pgrelay.disable($table${table}$table$::regclass)"
            ))
            .await;
    }
    assert_eq!(triggers(&database).await, "0");
}

#[tokio::test]
async fn all_tables_are_captured_except_the_machinery() {
    let database = superuser_database(
        "create schema auth; create schema storage; create schema realtime;
         create table auth.users (id int primary key);
         create table storage.objects (id int primary key);
         create table realtime.messages (id int primary key);
         create unlogged table public.scratch (id int);
         create view public.seen as select 1;",
    )
    .await;
    database
        .session()
        .run(&format!(
            "drop publication supabase_realtime;
             create publication supabase_realtime for all tables with (publish = 'insert');
             {MESSAGES} {INSERT};
             create table public.copied as select 1 as id;
             select 1 as id into public.selected;
             create temporary table passing (id int);
             insert into public.copied values (2);
             insert into public.selected values (2);
             insert into auth.users values (1); insert into storage.objects values (1);
             insert into realtime.messages values (1); insert into public.scratch values (1)"
        ))
        .await;
    assert_eq!(
        database.told().await,
        ["I messages", "I copied", "I selected"]
    );
    assert_eq!(
        database
            .session()
            .value("select count(*) from pg_trigger where tgrelid::regclass::text like 'pgrelay.%'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_published_schema_is_captured_with_what_comes_into_it() {
    let database = superuser_database("create schema chat; create table chat.old (id int);").await;
    // A schema can be published since PostgreSQL 15. Before, its tables are added one by one.
    if database.version().await < 150_000 {
        database
            .session()
            .run("alter publication supabase_realtime add table chat.old; insert into chat.old values (1)")
            .await;
        assert_eq!(database.told().await, ["I old"]);
        return;
    }
    database
        .session()
        .run(
            "alter publication supabase_realtime add tables in schema chat;
             create table chat.new (id int);
             create table chat.rooms (id int, place text) partition by list (place);
             create table chat.rooms_a partition of chat.rooms for values in ('a');
             insert into chat.old values (1);
             insert into chat.new values (1);
             insert into chat.rooms values (1, 'a')",
        )
        .await;
    assert_eq!(database.told().await, ["I old", "I new", "I rooms_a"]);
    // By the schema it is the partitioned table that is published: what is added to it later is captured from birth.
    let points = "select string_agg(point::regclass::text, ',') from pgrelay.captured() where relid = 'chat.rooms_a'::regclass";
    assert_eq!(database.session().value(points).await, "chat.rooms");
    assert_eq!(sync(&database).await, [""; 0]);
}

#[tokio::test]
async fn partitions_are_captured_under_the_name_that_the_publication_gives_them() {
    let database = CaptureDatabase::create().await;
    database.capture(PARTITIONED, "public.rooms").await;
    assert_eq!(
        delivered(&database).await,
        "rooms_a as rooms_a, rooms_b as rooms_b"
    );
    let session = database.session();
    session
        .run("alter publication supabase_realtime set (publish_via_partition_root = true)")
        .await;
    assert_eq!(
        delivered(&database).await,
        "rooms_a as rooms, rooms_b as rooms"
    );
    // Published twice: by itself and with its root.
    session
        .run("alter publication supabase_realtime add table public.rooms_b")
        .await;
    assert_eq!(
        delivered(&database).await,
        "rooms_a as rooms, rooms_b as rooms"
    );
    assert_eq!(sync(&database).await, [""; 0]);
    session
        .run("insert into public.rooms values (1, 'a'); insert into public.rooms_b values (2, 'b')")
        .await;
    assert_eq!(database.told().await, ["I rooms_a", "I rooms_b"]);
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_is_deleted_and_inserted() {
    let database = CaptureDatabase::create().await;
    database.capture(PARTITIONED, "public.rooms").await;
    database
        .session()
        .run("insert into public.rooms values (1, 'a'); update public.rooms set place = 'b'")
        .await;
    assert_eq!(
        database.told().await,
        ["I rooms_a", "D rooms_a", "I rooms_b"]
    );
}

#[tokio::test]
async fn a_new_partition_is_captured_from_birth() {
    let database = database_without_hook(PARTITIONED).await;
    let session = database.session();
    session.run("select pgrelay.enable('public.rooms')").await;
    session
        .run(
            "create table public.rooms_c partition of public.rooms for values in ('c');
             insert into public.rooms values (1, 'c')",
        )
        .await;
    assert_eq!(database.told().await, ["I rooms_c"]);
    // And emptied with the others.
    session.run("truncate public.rooms").await;
    assert!(database.told().await.contains(&"H rooms_c".to_owned()));
    // That it alone is emptied is told from the next round on.
    assert_eq!(sync(&database).await, ["public.rooms_c attached"]);
    session
        .run("truncate pgrelay.log; truncate public.rooms_c")
        .await;
    assert_eq!(database.told().await, ["H rooms_c"]);
}

#[tokio::test]
async fn a_partition_can_be_made_by_somebody_who_knows_nothing_of_the_log() {
    let database = superuser_database(
        "do $$
         begin
             create role pgrelay_test_builder nologin;
         exception when duplicate_object or unique_violation then
             null;
         end $$;
         grant create, usage on schema public to pgrelay_test_builder;
         set role pgrelay_test_builder;",
    )
    .await;
    let session = database.session();
    session.run(PARTITIONED).await;
    session
        .run(
            "reset role;
             alter publication supabase_realtime add table public.rooms;
             set role pgrelay_test_builder;
             create table public.rooms_c partition of public.rooms for values in ('c');
             create table public.rooms_d (id int not null, place text not null);
             alter table public.rooms attach partition public.rooms_d for values in ('d');
             insert into public.rooms values (1, 'c'), (2, 'd');
             reset role",
        )
        .await;
    assert_eq!(database.told().await, ["I rooms_c", "I rooms_d"]);
}

/// Two tables that are captured, one of which becomes a partition of the other.
const ATTACH: &str = "
    create table public.rooms_c (id int not null, place text not null);
    alter publication supabase_realtime add table public.rooms, public.rooms_c;";

#[tokio::test]
async fn a_captured_table_becomes_a_partition_of_a_captured_table() {
    let database = superuser_database(&format!("{PARTITIONED} {ATTACH}")).await;
    let session = database.session();
    session
        .run(
            "insert into public.rooms_c values (1, 'c');
             alter table public.rooms attach partition public.rooms_c for values in ('c');
             insert into public.rooms values (2, 'c')",
        )
        .await;
    assert_eq!(database.told().await, ["I rooms_c", "I rooms_c"]);
    assert_eq!(sync(&database).await, [""; 0]);
}

#[tokio::test]
async fn a_captured_table_becomes_a_partition_where_there_is_no_hook() {
    let database = database_without_hook(&format!("{PARTITIONED} {ATTACH}")).await;
    sync(&database).await;
    let session = database.session();
    session
        .run("alter table public.rooms attach partition public.rooms_c for values in ('c')")
        .await;
    // Until the next round it has both triggers: what happens meanwhile is told twice rather than not at all.
    session
        .run("insert into public.rooms values (1, 'c')")
        .await;
    assert_eq!(database.told().await, ["I rooms_c", "I rooms_c"]);
    assert_eq!(sync(&database).await, ["public.rooms_c attached"]);
    session
        .run("insert into public.rooms values (2, 'c')")
        .await;
    assert_eq!(
        database.told().await,
        ["I rooms_c", "I rooms_c", "I rooms_c"]
    );
}

#[tokio::test]
async fn a_partition_that_is_detached_is_captured_while_it_is_published_itself() {
    let database = superuser_database(&format!("{PARTITIONED} {ATTACH}")).await;
    let session = database.session();
    session
        .run(
            "alter table public.rooms attach partition public.rooms_c for values in ('c');
             alter table public.rooms detach partition public.rooms_a;
             alter table public.rooms detach partition public.rooms_c",
        )
        .await;
    sync(&database).await;
    session
        .run("insert into public.rooms_a values (1, 'a'); insert into public.rooms_c values (1, 'c')")
        .await;
    // The hole: nobody knows what was written between the detachment and this round.
    assert_eq!(database.told().await, ["H rooms_c", "I rooms_c"]);
}

#[tokio::test]
async fn partitions_of_partitions_are_captured_once() {
    let database = superuser_database(
        "create table public.tree (id int, place text) partition by list (place);
         create table public.branch partition of public.tree for values in ('a', 'b') partition by list (place);
         create table public.leaf partition of public.branch for values in ('a');
         alter publication supabase_realtime add table public.leaf;
         insert into public.leaf values (1, 'a');
         alter publication supabase_realtime add table public.branch;
         insert into public.branch values (2, 'a');
         alter publication supabase_realtime add table public.tree;
         insert into public.tree values (3, 'a');",
    )
    .await;
    assert_eq!(database.told().await, ["I leaf"; 3]);
    assert_eq!(sync(&database).await, [""; 0]);
    database
        .session()
        .run(
            "create table public.leaf_b partition of public.branch for values in ('b');
             insert into public.tree values (4, 'b')",
        )
        .await;
    assert_eq!(database.told().await[3..], ["I leaf_b"]);
}

#[tokio::test]
async fn a_child_by_inheritance_is_captured_under_its_own_name() {
    let database = CaptureDatabase::create().await;
    let tables = "
        create table public.parent (id int primary key);
        create table public.child (more text) inherits (public.parent);";
    // Adding the parent adds the children that it has.
    database.capture(tables, "public.parent").await;
    database
        .session()
        .run("insert into public.child values (1, 'more'); insert into public.parent values (2)")
        .await;
    assert_eq!(database.told().await, ["I child", "I parent"]);
    assert_eq!(database.log().await[0].new, r#"{"id":1,"more":"more"}"#);
}

#[tokio::test]
async fn a_renamed_table_stays_captured_and_a_dropped_one_is_forgotten() {
    let database = CaptureDatabase::create().await;
    database.capture(MESSAGES, "public.messages").await;
    let session = database.session();
    session
        .run(
            "create schema other;
             alter table public.messages rename to letters;
             alter table public.letters set schema other;
             insert into other.letters values (1, 'a')",
        )
        .await;
    assert_eq!(sync(&database).await, [""; 0]);
    assert_eq!(database.told().await, ["I letters"]);
    session.run("drop table other.letters").await;
    assert_eq!(sync(&database).await, [""; 0]);
    assert_eq!(
        session.value("select count(*) from pgrelay.attached").await,
        "0"
    );
}

#[tokio::test]
async fn a_trigger_that_was_off_for_a_while_is_a_hole() {
    for off_for_a_while in [
        // It is found off.
        "alter table public.messages disable trigger all",
        "alter table public.messages disable trigger user; insert into public.messages values (1, 'unseen')",
        // It is found as it was.
        "alter table public.messages disable trigger all;
         insert into public.messages values (1, 'unseen');
         do $$
         declare
             name name;
         begin
             for name in select tgname from pg_trigger where tgrelid = 'public.messages'::regclass loop
                 execute format('alter table public.messages enable always trigger %I', name);
             end loop;
         end $$",
        // It is gone.
        "do $$
         begin
             execute (select format('drop trigger %I on public.messages', tgname)
                        from pg_trigger where tgname like '!pgrelay\\_capture%');
         end $$;
         insert into public.messages values (1, 'unseen')",
        "drop trigger \"!pgrelay_truncate\" on public.messages; truncate public.messages",
    ] {
        let database = database_without_hook(MESSAGES).await;
        let session = database.session();
        session.run("select pgrelay.enable('public.messages')").await;
        session.run(off_for_a_while).await;
        assert_eq!(
            sync(&database).await,
            ["public.messages attached"],
            "{off_for_a_while}"
        );
        assert_eq!(database.told().await, ["H messages"], "{off_for_a_while}");
        session
            .run("truncate public.messages; insert into public.messages values (2, 'seen')")
            .await;
        assert_eq!(
            database.told().await,
            ["H messages", "H messages", "I messages"],
            "{off_for_a_while}"
        );
        assert_eq!(sync(&database).await, [""; 0], "{off_for_a_while}");
    }
}

#[tokio::test]
async fn a_trigger_that_may_fire_for_local_changes_only_is_set_right() {
    let database = database_without_hook(MESSAGES).await;
    let session = database.session();
    session
        .run("select pgrelay.enable('public.messages')")
        .await;
    session
        .run("alter table public.messages enable trigger all")
        .await;
    assert_eq!(sync(&database).await, ["public.messages attached"]);
    let replica = database.database().connect_superuser().await;
    replica
        .run(&format!("set session_replication_role = replica; {INSERT}"))
        .await;
    assert_eq!(database.told().await, ["H messages", "I messages"]);
}

#[tokio::test]
async fn a_truncation_is_a_hole_in_every_table_that_it_emptied() {
    let database = CaptureDatabase::create().await;
    let tables = format!(
        "{MESSAGES} {PARTITIONED}
         create table public.receipts (id int primary key, message int references public.messages)"
    );
    database
        .capture(&tables, "public.messages, public.rooms, public.receipts")
        .await;
    let session = database.session();
    let holes = async || {
        let mut told = database.told().await;
        told.sort();
        told.dedup();
        session.run("truncate pgrelay.log").await;
        told
    };
    session.run("truncate public.messages cascade").await;
    assert_eq!(holes().await, ["H messages", "H receipts"]);
    session.run("truncate public.rooms_a").await;
    assert_eq!(holes().await, ["H rooms_a"]);
    session.run("truncate public.rooms").await;
    assert_eq!(holes().await, ["H rooms", "H rooms_a", "H rooms_b"]);
    session.run("begin; truncate public.rooms; rollback").await;
    assert_eq!(holes().await, [""; 0]);
}

#[tokio::test]
async fn the_publication_that_comes_with_the_log_never_fails_an_update() {
    let database = CaptureDatabase::create().await;
    database
        .capture(
            "create table public.keyless (id int); create table public.none (id int); alter table public.none replica identity nothing",
            "public.keyless, public.none",
        )
        .await;
    database
        .session()
        .run(
            "insert into public.keyless values (1); update public.keyless set id = 2; delete from public.keyless;
             insert into public.none values (1); update public.none set id = 2; delete from public.none",
        )
        .await;
    assert_eq!(
        database.told().await,
        [
            "I keyless",
            "U keyless",
            "D keyless",
            "I none",
            "U none",
            "D none"
        ]
    );
}

#[tokio::test]
async fn enable_refuses_a_table_whose_updates_the_publication_would_fail() {
    let database = CaptureDatabase::create().await;
    let session = database.session();
    session
        .run(
            "alter publication supabase_realtime set (publish = 'insert, update, delete');
             create table public.keyless (id int);
             create table public.deferred (id int primary key deferrable);
             create table public.none (id int primary key);
             alter table public.none replica identity nothing;
             create table public.lost (id int not null);
             create unique index lost_id on public.lost (id);
             alter table public.lost replica identity using index lost_id;
             drop index public.lost_id;
             create table public.halves (id int, place text) partition by list (place);
             create table public.half partition of public.halves for values in ('a');
             alter table public.halves replica identity full",
        )
        .await;
    for table in ["keyless", "deferred", "none", "lost", "halves"] {
        let enable = format!("select pgrelay.enable('public.{table}')");
        assert_eq!(
            CaptureDatabase::refusal(session, &enable).await,
            "P0001",
            "{table}"
        );
    }
    assert_eq!(delivered(&database).await, "");
    session
        .run(
            "create table public.keyed (id int primary key);
             create unique index lost_id on public.lost (id);
             alter table public.lost replica identity using index lost_id;
             alter table public.keyless replica identity full;
             alter table public.half replica identity full",
        )
        .await;
    for table in ["keyed", "lost", "keyless", "halves"] {
        session
            .run(&format!("select pgrelay.enable('public.{table}')"))
            .await;
    }
    session
        .run(
            "insert into public.keyed values (1); update public.keyed set id = 2;
             insert into public.lost values (1); update public.lost set id = 2;
             insert into public.keyless values (1); update public.keyless set id = 2;
             insert into public.halves values (1, 'a'); update public.halves set id = 2",
        )
        .await;
    assert_eq!(database.log().await.len(), 8);
}

#[tokio::test]
async fn enable_refuses_what_can_or_must_not_be_captured() {
    let database = superuser_database(
        "create schema auth; create table auth.users (id int primary key);
         create unlogged table public.scratch (id int primary key);
         create view public.seen as select 1 as id;
         create temporary table passing (id int primary key);",
    )
    .await;
    for relation in [
        "pgrelay.log",
        "pgrelay.log_0",
        "pgrelay.meta",
        "auth.users",
        "public.scratch",
        "public.seen",
        "passing",
        "pg_catalog.pg_class",
    ] {
        let enable = format!("select pgrelay.enable('{relation}')");
        let code = CaptureDatabase::refusal(database.session(), &enable).await;
        assert!(
            ["P0001", "22023", "0A000"].contains(&code.as_str()),
            "{relation}: {code}"
        );
    }
    assert_eq!(triggers(&database).await, "0");
}

#[tokio::test]
async fn enable_says_what_it_did_and_does_it_once() {
    let database = database_without_hook(MESSAGES).await;
    let session = database.session();
    let enable = "select pgrelay.enable('public.messages')";
    let statements = session.rows(enable).await;
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert_eq!(statements[0][0].as_deref(), Some(ADD_MESSAGES));
    assert!(session.rows(enable).await.is_empty());
    session.run(INSERT).await;
    assert_eq!(database.told().await, ["I messages"]);
}

#[tokio::test]
async fn disable_leaves_nothing_behind() {
    let database = CaptureDatabase::create().await;
    let tables = format!("{MESSAGES} {PARTITIONED}");
    database
        .capture(&tables, "public.messages, public.rooms")
        .await;
    let session = database.session();
    for table in ["public.messages", "public.rooms"] {
        let statements = session
            .rows(&format!("select pgrelay.disable('{table}')"))
            .await;
        assert!(!statements.is_empty());
    }
    assert_eq!(triggers(&database).await, "0");
    let left = "select (select count(*) from pg_publication_rel) + (select count(*) from pgrelay.attached)";
    assert_eq!(session.value(left).await, "0");
    assert_eq!(sync(&database).await, [""; 0]);
    session
        .run(&format!(
            "{INSERT}; insert into public.rooms values (1, 'a')"
        ))
        .await;
    assert_eq!(database.told().await, [""; 0]);
}

#[tokio::test]
async fn disable_refuses_where_the_next_round_would_attach_again() {
    let database = superuser_database(&format!("{PARTITIONED} {ATTACH}")).await;
    let session = database.session();
    session
        .run("alter table public.rooms attach partition public.rooms_c for values in ('c')")
        .await;
    for table in ["rooms_a", "rooms_c", "rooms"] {
        let disable = format!("select pgrelay.disable('public.{table}')");
        assert_eq!(
            CaptureDatabase::refusal(session, &disable).await,
            "P0001",
            "{table}"
        );
    }
    session
        .run(
            "alter publication supabase_realtime drop table public.rooms_c;
             select pgrelay.disable('public.rooms');
             drop publication supabase_realtime;
             create publication supabase_realtime for all tables with (publish = 'insert')",
        )
        .await;
    let disable = "select pgrelay.disable('public.rooms')";
    assert_eq!(CaptureDatabase::refusal(session, disable).await, "P0001");
}

#[tokio::test]
async fn a_table_in_use_is_attached_later_and_nobody_waits_behind_the_attempt() {
    let database =
        database_without_hook(&format!("{MESSAGES} create table public.free (id int);")).await;
    let session = database.session();
    session
        .run("alter publication supabase_realtime add table public.messages, public.free")
        .await;
    let user = database.another_session().await;
    user.run(&format!("begin; {INSERT}")).await;
    // It returns while the user's transaction is open, and the other table did not wait for it.
    let outcome = session
        .rows("select name, action from pgrelay.sync() order by name")
        .await;
    let expected = [["public.free", "attached"], ["public.messages", "locked"]];
    assert_eq!(
        outcome,
        expected.map(|row| row.map(|value| Some(value.to_owned())))
    );
    user.run("insert into public.messages values (2, 'b'); commit")
        .await;
    assert_eq!(sync(&database).await, ["public.messages attached"]);
}

#[tokio::test]
async fn ddl_attaches_the_tables_that_it_speaks_of_and_locks_no_other() {
    let database =
        superuser_database(&format!("{MESSAGES} create table public.free (id int);")).await;
    let session = database.session();
    session
        .run(
            "alter event trigger pgrelay_ddl disable;
             alter publication supabase_realtime add table public.messages, public.free;
             alter event trigger pgrelay_ddl enable;
             begin; alter table public.free add column more int",
        )
        .await;
    // The other table is missing its trigger and is not touched by that transaction.
    database.another_session().await.run(INSERT).await;
    session
        .run("insert into public.free values (1, 2); commit")
        .await;
    assert_eq!(database.told().await, ["I free"]);
}

#[tokio::test]
async fn two_rounds_at_the_same_time_do_no_harm() {
    let database = database_without_hook(MESSAGES).await;
    let one = database.session();
    one.run(ADD_MESSAGES).await;
    let two = database.another_session().await;
    one.run("begin; select pgrelay.sync()").await;
    let outcome = two.value("select action from pgrelay.sync()").await;
    assert_eq!(outcome, "locked");
    one.run("commit").await;
    assert!(two.rows("select pgrelay.sync()").await.is_empty());
    assert_eq!(triggers(&database).await, "2");
}

#[tokio::test]
async fn a_table_of_somebody_else_is_reported_and_the_others_are_attached() {
    let database = database_without_hook(MESSAGES).await;
    let superuser = database.database().connect_superuser().await;
    superuser
        .run(&format!(
            "create table public.foreign_property (id int);
             alter publication supabase_realtime add table public.foreign_property;
             {ADD_MESSAGES}"
        ))
        .await;
    let rows = database
        .session()
        .rows("select name, action from pgrelay.sync() order by action")
        .await;
    let expected = [
        ["public.messages", "attached"],
        ["public.foreign_property", "failed"],
    ];
    assert_eq!(
        rows,
        expected.map(|row| row.map(|value| Some(value.to_owned())))
    );
}
