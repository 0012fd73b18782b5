//! The commands beside `serve`, through the binary.

use std::process::ExitStatus;

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Relay, RelayBuilder, Role, TcpProxy, TestDatabase, Vsn, WsClient};
use serde_json::{Value, json};

/// Runs a command that must succeed; what it printed.
async fn done(relay: &RelayBuilder, arguments: &[&str]) -> String {
    let (status, printed) = relay.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {status}\n{printed}");
    printed
}

async fn failed(relay: &RelayBuilder, arguments: &[&str]) -> (Option<i32>, String) {
    let (status, printed): (ExitStatus, String) = relay.run(arguments).await;
    assert!(!status.success(), "{arguments:?}:\n{printed}");
    (status.code(), printed)
}

#[tokio::test]
async fn migrating_installs_once_and_can_be_read_first() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url());
    let sql = done(&relay, &["migrate", "--print-sql"]).await;
    assert!(sql.contains("create schema pgrelay"), "{sql}");
    let session = database.connect().await;
    let schemas = "select count(*) from pg_namespace where nspname = 'pgrelay'";
    assert_eq!(
        session.value(schemas).await,
        "0",
        "printing changes nothing"
    );
    let first = done(&relay, &["migrate"]).await;
    for line in ["applied pgrelay/0001_log", "applied realtime/0001_roles"] {
        assert!(first.contains(line), "{first}");
    }
    if database.role() == Role::Owner {
        // What an owner cannot make comes as SQL for somebody who can.
        assert!(first.contains("create event trigger"), "{first}");
    }
    let second = done(&relay, &["migrate"]).await;
    assert!(second.contains("the schema is current"), "{second}");
    assert!(!second.contains("applied"), "{second}");
}

#[tokio::test]
async fn tables_are_published_and_withdrawn_with_the_sql_shown() {
    let stage = Stage::open().await;
    let relay = Relay::builder(stage.database.url());
    stage
        .sql
        .run(
            "create table a (id int primary key); create schema s; create table s.\"B c\" (id int primary key);
             create view v as select 1; grant select on a to anon",
        )
        .await;
    let printed = done(&relay, &["enable", "public.a", "s.\"B c\""]).await;
    for table in ["public.a", "s.\"B c\""] {
        let statement = format!("alter publication supabase_realtime add table {table};");
        assert!(printed.contains(&statement), "{printed}");
    }
    let again = done(&relay, &["enable", "public.a"]).await;
    assert!(
        again.contains("-- public.a is published already"),
        "{again}"
    );
    let entries = json!([{"schema": "public", "table": "a"}]);
    let mut subscriber = stage.subscribe(entries.clone()).await;
    stage.sql.run("insert into a values (1)").await;
    assert_eq!(subscriber.heard(&stage.sql).await.len(), 1);

    let status = done(&relay, &["status"]).await;
    assert!(status.contains("a: captured"), "{status}");
    let printed = done(&relay, &["disable", "public.a"]).await;
    assert!(
        printed.contains("alter publication supabase_realtime drop table public.a;"),
        "{printed}"
    );
    let triggers = "select count(*) from pg_trigger where tgrelid = 'a'::regclass";
    assert_eq!(stage.sql.value(triggers).await, "0");
    let again = done(&relay, &["disable", "public.a"]).await;
    assert!(again.contains("-- public.a is not published"), "{again}");
    stage.sql.run("insert into a values (2)").await;
    assert_eq!(subscriber.heard(&stage.sql).await.len(), 0);

    for (table, word) in [
        ("public.nothing", "does not exist"),
        ("public.v", "is not an ordinary, logged table"),
        ("pgrelay.meta", "never captured"),
        ("one.two.three", ""),
        ("a; drop table a", ""),
    ] {
        let (code, printed) = failed(&relay, &["enable", table]).await;
        assert!(printed.contains(word), "{table}: {printed}");
        assert!(matches!(code, Some(64 | 69 | 70)), "{table}: {code:?}");
    }
    assert_eq!(stage.sql.value("select count(*) from a").await, "2");
}

#[tokio::test]
async fn the_status_tells_tables_position_and_who_is_at_work() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url());
    let (_, printed) = failed(&relay, &["status"]).await;
    assert!(printed.contains("run `pgrelay migrate`"), "{printed}");
    done(&relay, &["migrate"]).await;
    let idle = done(&relay, &["status"]).await;
    for part in [
        "none is published; `pgrelay enable <schema.table>` publishes one",
        "position: none: no relay has run yet",
        "sequencer: no relay is running",
    ] {
        assert!(idle.contains(part), "{part}: {idle}");
    }
    let sql = database.connect().await;
    sql.run(
        "create table t (id int primary key); select pgrelay.enable('t');
         create table secured (id int primary key); alter table secured enable row level security;
         select pgrelay.enable('secured')",
    )
    .await;
    let running = Relay::start(&database).await;
    let busy = done(&relay, &["status"]).await;
    for part in [
        "t: captured",
        "secured: captured; row security is on",
        "epoch 1 batch 1",
        "sequencer: pgrelay (backend ",
    ] {
        assert!(busy.contains(part), "{part}: {busy}");
    }
    drop(running);
}

#[tokio::test]
async fn the_doctor_is_green_where_all_is_well() {
    let stage = Stage::open().await;
    let (status, printed) = Relay::builder(stage.database.url()).run(&["doctor"]).await;
    assert!(status.success(), "{printed}");
    assert!(!printed.contains("RED"), "{printed}");
    for line in [
        "ok    settings: complete",
        "ok    direct connection: PostgreSQL ",
        "ok    no pooler on the direct connection",
        "ok    pooled connection: the same database",
        "ok    schema: current",
        "ok    publication: supabase_realtime",
        "ok    triggers: attached to 1 tables",
        "ok    LISTEN: a bell arrives",
    ] {
        assert!(printed.contains(line), "{line}:\n{printed}");
    }
    let expected = match stage.database.role() {
        Role::Superuser => "ok    event trigger",
        Role::Owner => "warn  event trigger",
    };
    assert!(printed.contains(expected), "{printed}");
}

#[tokio::test]
async fn the_doctor_is_red_with_a_cure_where_something_is_wrong() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url());
    let red = async |relay: &RelayBuilder, finding: &str, cure: &str| {
        let (code, printed) = failed(relay, &["doctor"]).await;
        assert_eq!(code, Some(69), "{printed}");
        let mut lines = printed.lines();
        let found = lines.any(|line| line.starts_with("RED") && line.contains(finding));
        assert!(found, "{finding}:\n{printed}");
        let next = lines.next().unwrap_or_default();
        assert!(
            next.contains("cure: ") && next.contains(cure),
            "{cure}:\n{printed}"
        );
    };
    red(
        &relay,
        "schema: schema pgrelay is missing",
        "pgrelay migrate",
    )
    .await;
    done(&relay, &["migrate"]).await;
    let without_secret = relay.clone().unset("PGRELAY_JWT_SECRET");
    red(
        &without_secret,
        "settings: PGRELAY_JWT_SECRET is not set",
        "openssl",
    )
    .await;

    let admin = database.connect_superuser().await;
    admin.run("drop event trigger if exists pgrelay_ddl").await;
    let sql = database.connect().await;
    sql.run("create table t (id int primary key); alter publication supabase_realtime add table t")
        .await;
    red(&relay, "triggers: missing on", "create trigger").await;
    sql.run("select pgrelay.sync()").await;
    done(&relay, &["doctor"]).await;

    sql.run("create table bare (id int); alter publication supabase_realtime add table bare; select pgrelay.sync();
             alter publication supabase_realtime set (publish = 'insert, update, delete')")
        .await;
    red(&relay, "publication: ", "replica identity full").await;
    sql.run("drop publication supabase_realtime").await;
    red(
        &relay,
        "publication: supabase_realtime does not exist",
        "create publication",
    )
    .await;

    let proxy = TcpProxy::start(database.url().address()).await;
    proxy.refuse();
    let url = database.url().through(proxy.address());
    red(
        &Relay::builder(&url),
        "direct connection: ",
        "start PostgreSQL",
    )
    .await;
    let other = TestDatabase::create().await;
    let elsewhere = relay
        .clone()
        .set("PGRELAY_DIRECT_URL", &other.url().to_string());
    red(&elsewhere, "pooled connection: ", "same database").await;
}

#[tokio::test]
async fn uninstalling_leaves_nothing_and_harms_no_table() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let Stage {
        sql,
        relay,
        database,
    } = stage;
    assert!(relay.stop().await.success());
    let relay = Relay::builder(database.url());
    // Nobody answers the question.
    let (code, printed) = failed(&relay, &["uninstall"]).await;
    assert_eq!(code, Some(64));
    assert!(printed.contains("nothing was removed"), "{printed}");
    sql.run("insert into t values (1)").await;
    let printed = done(&relay, &["uninstall", "--yes"]).await;
    assert!(
        printed.contains("drop schema pgrelay cascade;"),
        "{printed}"
    );
    let left = "select (select count(*) from pg_namespace where nspname = 'pgrelay')
                     + (select count(*) from pg_trigger where tgname like '%pgrelay%')
                     + (select count(*) from pg_event_trigger where evtname like '%pgrelay%')";
    assert_eq!(sql.value(left).await, "0");
    sql.run("insert into t values (2)").await;
    assert_eq!(sql.value("select count(*) from t").await, "2");
    let again = done(&relay, &["uninstall", "--yes"]).await;
    assert!(again.contains("pgrelay is not installed"), "{again}");
    // And it can be installed again.
    let relay = relay.start().await;
    assert!(relay.stop().await.success());
}

#[tokio::test]
async fn a_minted_token_is_accepted_and_says_what_it_was_told() {
    let stage = Stage::open().await;
    let printed = done(
        &Relay::builder(stage.database.url()),
        &[
            "token", "--role", "anon", "--sub", "7f0c", "--exp", "5m", "--claim", "n=1", "--claim",
            "who=me",
        ],
    )
    .await;
    let token = printed.trim();
    WsClient::connect(stage.relay.address(), Vsn::V2, token)
        .await
        .heartbeat()
        .await;
    let claims = stage
        .sql
        .value(&format!(
            "select convert_from(decode(rpad(translate(split_part('{token}', '.', 2), '-_', '+/'),
               4 * ((length(split_part('{token}', '.', 2)) + 3) / 4), '='), 'base64'), 'UTF8')"
        ))
        .await;
    let claims: Value = serde_json::from_str(&claims).unwrap();
    for (key, value) in [
        ("role", json!("anon")),
        ("sub", json!("7f0c")),
        ("n", json!(1)),
        ("who", json!("me")),
    ] {
        assert_eq!(claims[key], value, "{claims}");
    }
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(life, 300);
    let without_secret = Relay::builder(stage.database.url()).unset("PGRELAY_JWT_SECRET");
    let (code, printed) = failed(&without_secret, &["token", "--role", "anon"]).await;
    assert_eq!(code, Some(64));
    assert!(printed.contains("PGRELAY_JWT_SECRET"), "{printed}");
}

#[tokio::test]
async fn bad_usage_is_told_and_does_nothing() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url());
    for arguments in [
        &["nonsense"][..],
        &[],
        &["serve", "--port", "1"],
        &["enable"],
        &["token"],
        &["token", "--role", "anon", "--exp", "soon"],
        &["tail"],
        &["tail", "topic", "--table", "t"],
    ] {
        let (code, printed) = failed(&relay, arguments).await;
        assert_eq!(code, Some(64), "{arguments:?}: {printed}");
        assert!(!printed.is_empty(), "{arguments:?}");
    }
    let help = done(&relay, &["--help"]).await;
    for part in ["serve", "doctor", "PGRELAY_JWT_SECRET"] {
        assert!(help.contains(part), "{part}");
    }
}
