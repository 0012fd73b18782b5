//! How a relay starts, or why it does not.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Relay, Session, TcpProxy, TestDatabase, Vsn, WsClient};
use serde_json::json;

#[tokio::test]
async fn without_a_secret_it_does_not_start_and_says_how_to_make_one() {
    let database = TestDatabase::create().await;
    for relay in [
        Relay::builder(database.url()).unset("PGRELAY_JWT_SECRET"),
        Relay::builder(database.url()).set("PGRELAY_JWT_SECRET", ""),
    ] {
        let (status, printed) = relay.run(&["serve"]).await;
        assert_eq!(status.code(), Some(64), "{printed}");
        assert!(printed.contains("PGRELAY_JWT_SECRET"), "{printed}");
        assert!(printed.contains("openssl rand -hex 32"), "{printed}");
    }
    // It has not touched the database.
    let schemas = "select count(*) from pg_namespace where nspname = 'pgrelay'";
    assert_eq!(database.connect().await.value(schemas).await, "0");
}

#[tokio::test]
async fn all_mistakes_are_told_at_once_each_with_its_cure_and_no_secret() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url())
        .set(
            "DATABASE_URL",
            "postgresql://app:pa55word@127.0.0.1:notaport/app",
        )
        .set("PGRELAY_API_KEYS", "sb_secret_hidden:service_role,nonsense")
        .set("PGRELAY_LISTEN", "everywhere")
        .set("PGRELAY_IDLE_TIMEOUT", "60")
        .set("PGRELAY_CHANNELS_MAX", "0")
        .set("PGRELAY_AUTO_MIGRATE", "perhaps")
        .set("PGRELAY_LOG_BYTES_MAX", "1TB")
        .set("PGRELAY_ARM", "always")
        .unset("PGRELAY_JWT_SECRET");
    let (status, printed) = relay.run(&["serve"]).await;
    assert_eq!(status.code(), Some(64));
    for (key, given, cure) in [
        (
            "DATABASE_URL",
            "",
            "postgres://user:password@host:5432/database",
        ),
        ("PGRELAY_API_KEYS", "", "sb_<key>:<role>"),
        ("PGRELAY_LISTEN", "everywhere", "127.0.0.1:4000"),
        ("PGRELAY_IDLE_TIMEOUT", "60", "a number and a unit"),
        ("PGRELAY_CHANNELS_MAX", "0", "a whole number, at least 1"),
        ("PGRELAY_AUTO_MIGRATE", "perhaps", "true or false"),
        ("PGRELAY_LOG_BYTES_MAX", "1TB", "a number of bytes"),
        ("PGRELAY_ARM", "always", "auto or never"),
        ("PGRELAY_JWT_SECRET", "", "openssl rand -hex 32"),
    ] {
        let told = printed
            .lines()
            .any(|line| line.contains(key) && line.contains(given) && printed.contains(cure));
        assert!(told, "{key} {given} {cure}:\n{printed}");
    }
    for secret in ["pa55word", "sb_secret_hidden", "nonsense"] {
        assert!(!printed.contains(secret), "{secret} in:\n{printed}");
    }
}

#[tokio::test]
async fn a_flag_goes_before_the_environment() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url())
        .set("PGRELAY_LISTEN", "192.0.2.1:1")
        .set("PGRELAY_AUTO_MIGRATE", "false")
        .arguments(&["serve", "--listen", "127.0.0.1:0", "--auto-migrate"])
        .start()
        .await;
    assert!(relay.address().ip().is_loopback());
}

#[tokio::test]
async fn a_setting_that_is_none_is_pointed_out_and_ignored() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url())
        .set("PGRELAY_LISTNE", "127.0.0.1:4000")
        .allow("there is no such setting")
        .start()
        .await;
    let line = relay.wait_log("there is no such setting").await;
    assert!(line.contains("PGRELAY_LISTNE"), "{line}");
}

#[tokio::test]
async fn a_short_secret_is_pointed_out() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url())
        .set("PGRELAY_JWT_SECRET", "short")
        .allow("can be guessed")
        .start()
        .await;
    let line = relay.wait_log("can be guessed").await;
    assert!(!line.contains("=short"), "{line}");
}

#[tokio::test]
async fn without_its_schema_it_does_not_start_unless_it_may_migrate() {
    let database = TestDatabase::create().await;
    let relay = Relay::builder(database.url()).set("PGRELAY_AUTO_MIGRATE", "false");
    let (status, printed) = relay.run(&["serve"]).await;
    assert_eq!(status.code(), Some(69), "{printed}");
    assert!(printed.contains("run `pgrelay migrate`"), "{printed}");
    let (status, printed) = relay.run(&["migrate"]).await;
    assert!(status.success(), "{printed}");
    assert!(relay.start().await.stop().await.success());
}

#[tokio::test]
async fn what_is_out_of_reach_is_told_when_its_time_is_over() {
    let database = TestDatabase::create().await;
    let proxy = TcpProxy::start(database.url().address()).await;
    proxy.refuse();
    let relay = Relay::builder(&database.url().through(proxy.address()))
        .set("PGRELAY_START_TIMEOUT", "100ms");
    let (status, printed) = relay.run(&["serve"]).await;
    assert_eq!(status.code(), Some(69), "{printed}");
    assert!(printed.contains("PostgreSQL"), "{printed}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let database = TestDatabase::create().await;
    let first = Relay::start(&database).await;
    let address = first.address().to_string();
    let second = Relay::builder(database.url()).set("PGRELAY_LISTEN", &address);
    let (status, printed) = second.run(&["serve"]).await;
    assert_eq!(status.code(), Some(69), "{printed}");
    assert!(
        printed.contains(&format!("listen on {address}")),
        "{printed}"
    );
}

#[tokio::test]
async fn a_relay_that_may_not_change_tables_says_what_is_missing() {
    let database = TestDatabase::create().await;
    let setup = Relay::builder(database.url());
    let (status, printed) = setup.run(&["migrate"]).await;
    assert!(status.success(), "{printed}");
    let sql = database.connect().await;
    // Without the hook nobody but the relay would attach anything.
    let admin = database.connect_superuser().await;
    admin.run("drop event trigger if exists pgrelay_ddl").await;
    sql.run(
        "create table t (id int primary key); grant select on t to anon;
         alter publication supabase_realtime add table t",
    )
    .await;
    let relay = Relay::builder(database.url())
        .arguments(&["serve", "--no-ddl"])
        .allow("triggers of public.t are missing")
        .start()
        .await;
    let line = relay.wait_log("triggers of public.t are missing").await;
    assert!(line.contains("create trigger"), "{line}");
    let mut client = WsClient::connect(relay.address(), Vsn::V2, &relay.anon_key()).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    client
        .join("realtime:r", json!({"postgres_changes": entries}))
        .await;
    let is_system = |frame: &pgrelay_test_support::Frame| frame.event == "system";
    let told = client.expect("a refusal", is_system).await;
    let message = told.payload["message"].as_str().unwrap();
    let cure = message
        .split_once("its triggers are missing; run: ")
        .unwrap_or_else(|| panic!("{message}"))
        .1;
    // The cure cures.
    sql.run(cure).await;
    let told = client.expect("to be live", is_system).await;
    assert_eq!(told.payload["status"], "ok", "{told:?}");
    sql.run("insert into t values (1)").await;
    client.expect_change("realtime:r").await;
}

#[tokio::test]
async fn two_relays_on_one_database_tell_every_change_once_each() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let second = Relay::start(&stage.database).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut clients = Vec::new();
    for relay in [&stage.relay, &second] {
        for vsn in [Vsn::V1, Vsn::V2] {
            let key = relay.anon_key();
            let mut client = WsClient::connect(relay.address(), vsn, &key).await;
            client.join_changes("realtime:r", entries.clone()).await;
            clients.push(client);
        }
    }
    let writers = [
        stage.database.connect().await,
        stage.database.connect().await,
    ];
    let write = async |writer: &Session, from: usize| {
        for id in 0..100 {
            writer
                .run(&format!("insert into t values ({})", from + id))
                .await;
        }
    };
    futures::join!(write(&writers[0], 0), write(&writers[1], 100));
    stage.sql.run("insert into t values (200)").await;
    let mut heard = Vec::new();
    for client in &mut clients {
        let changes = client
            .changes_until("realtime:r", |change| change["data"]["record"]["id"] == 200)
            .await;
        heard.push(changes);
    }
    for changes in &heard {
        assert_eq!(changes.len(), 201);
        assert_eq!(*changes, heard[0], "the same, in the same order");
    }
    // One goes, and those of the other do not notice.
    let Stage {
        sql,
        relay,
        database,
    } = stage;
    drop(clients.drain(..2));
    assert!(relay.stop().await.success());
    sql.run("insert into t values (201)").await;
    for client in &mut clients {
        let change = client.expect_change("realtime:r").await;
        assert_eq!(change["data"]["record"]["id"], 201);
    }
    drop((clients, second, database));
}
