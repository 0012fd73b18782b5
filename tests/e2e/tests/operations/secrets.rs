//! Secrets and rows are in nobody's log, whatever the level.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{
    Relay, Request, SECRET, TestDatabase, Vsn, WsClient, token, token_signed_with,
};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

const PASSWORD: &str = "hunter2-password";
const API_KEY: &str = "sb_secret_log_me_not";
const ROW: &str = "a-row-for-nobodys-log";

#[tokio::test]
async fn no_secret_and_no_row_is_ever_logged() {
    let database = TestDatabase::create().await;
    let user = database.connect().await.value("select current_user").await;
    // The server trusts everybody; what matters is that the password is in the settings.
    let url = database.url().with_user(&format!("{user}:{PASSWORD}"));
    let relay = Relay::builder(&url)
        .set("PGRELAY_LOG", "trace")
        .set("PGRELAY_API_KEYS", &format!("{API_KEY}:service_role"))
        .set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
        .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
        .set("PGRELAY_DIRECT_URL", &url.to_string())
        .start()
        .await;
    let sql = database.connect().await;
    sql.run(
        "create table t (id int primary key, v text); grant select on t to anon, service_role;
         select pgrelay.enable('t')",
    )
    .await;

    let good = relay.anon_key();
    let refreshed = token(&json!({"role": "anon", "sub": "refreshed"}));
    let expired = token_signed_with(SECRET, &json!({"role": "anon", "exp": 1}));
    let unsigned = token_signed_with(
        "another secret",
        &json!({"role": "anon", "exp": 4_000_000_000_u64}),
    );
    let entries = json!([{"schema": "public", "table": "t", "filter": format!("v=eq.{ROW}")}]);
    let mut client = WsClient::connect(relay.address(), Vsn::V2, &good).await;
    let mut opaque = WsClient::connect(relay.address(), Vsn::V1, API_KEY).await;
    for client in [&mut client, &mut opaque] {
        client.join_changes("realtime:r", entries.clone()).await;
    }
    let join = json!({"access_token": refreshed});
    client.request("realtime:other", "phx_join", join).await;
    client
        .push(
            "realtime:r",
            "access_token",
            json!({"access_token": refreshed}),
        )
        .await;
    for bad in [&expired, &unsigned] {
        let join = json!({"access_token": bad});
        client.request("realtime:bad", "phx_join", join).await;
        let url = format!("ws://{}/socket/websocket?apikey={bad}", relay.address());
        assert_eq!(WsClient::refused(&url).await.0, 401);
        let events = relay.url(&format!("/events?table=t&apikey={bad}"));
        assert_eq!(Request::get(&events).send().await.status, 401);
    }
    client
        .send(Message::text(format!("[nonsense {refreshed} {ROW}")))
        .await;
    sql.run(&format!(
        "insert into t values (1, '{ROW}'); update t set id = 2; delete from t"
    ))
    .await;
    opaque.expect_change("realtime:r").await;
    opaque.expect_change("realtime:r").await;
    client.heartbeat().await;
    // The log tells of all this, and yet.
    let lines = relay.log();
    for told in ["socket refused", "frame dropped"] {
        assert!(lines.iter().any(|line| line.contains(told)), "{lines:?}");
    }
    for secret in [
        SECRET, PASSWORD, API_KEY, ROW, &good, &refreshed, &expired, &unsigned,
    ] {
        is_not_in(secret, &lines);
    }
}

fn is_not_in(secret: &str, lines: &[String]) {
    // A signature alone gives a token away too.
    let parts = [secret, secret.rsplit('.').next().unwrap_or(secret)];
    let told: Vec<&String> = lines
        .iter()
        .filter(|line| parts.iter().any(|part| line.contains(part)))
        .collect();
    assert!(told.is_empty(), "{secret} is in the log: {told:?}");
}

#[tokio::test]
async fn no_command_prints_a_secret() {
    let stage = Stage::open().await;
    let user = stage.sql.value("select current_user").await;
    let url = stage
        .database
        .url()
        .with_user(&format!("{user}:{PASSWORD}"));
    let relay = Relay::builder(&url).set("PGRELAY_API_KEYS", &format!("{API_KEY}:anon"));
    for arguments in [
        &["doctor"][..],
        &["status"],
        &["migrate"],
        &["enable", "public.mark"],
        &["enable", "public.nothing"],
        &["uninstall"],
        &["token", "--role", "anon"],
        &["--help"],
    ] {
        let (_, printed) = relay.run(arguments).await;
        for secret in [SECRET, PASSWORD, API_KEY] {
            assert!(
                !printed.contains(secret),
                "{arguments:?} prints {secret}:\n{printed}"
            );
        }
    }
    let unreachable = relay.set(
        "DATABASE_URL",
        &format!("postgresql://{user}:{PASSWORD}@127.0.0.1:1/nowhere"),
    );
    for arguments in [&["doctor"][..], &["status"], &["migrate"]] {
        let (status, printed) = unreachable
            .clone()
            .set("PGRELAY_START_TIMEOUT", "100ms")
            .run(arguments)
            .await;
        assert!(!status.success());
        assert!(!printed.contains(PASSWORD), "{arguments:?}:\n{printed}");
    }
}
