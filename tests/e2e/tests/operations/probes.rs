//! What a relay answers those who watch over it.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Relay, Request, TcpProxy, TestDatabase, Vsn};
use serde_json::json;

#[tokio::test]
async fn it_is_alive_and_ready_while_it_follows_the_database() {
    let database = TestDatabase::create().await;
    let proxy = TcpProxy::start(database.url().address()).await;
    let relay = Relay::builder(&database.url().through(proxy.address()))
        .allow("lost the change log")
        .allow("housekeeping failed")
        .allow("Connection could not be recycled")
        .start()
        .await;
    let get = async |path: &str| Request::get(&relay.url(path)).send().await;
    for path in ["/healthz", "/healthcheck"] {
        let response = get(path).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    let ping = get("/realtime/v1/api/ping").await;
    assert_eq!(ping.json(), json!({"message": "Success"}));
    for _ in 0..2 {
        proxy.refuse();
        relay.wait_ready(503).await;
        assert!(get("/readyz").await.text().contains("not ready"));
        assert_eq!(get("/healthz").await.status, 200, "out of work, not dead");
        proxy.open();
        relay.wait_ready(200).await;
    }
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_SHARDS", "1")).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let relay = &stage.relay;
    let before = relay.metric("pgrelay_relay_deliveries_total", "").await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    let mut subscribers = [
        stage.subscribe(entries.clone()).await,
        stage.subscribe(entries).await,
    ];
    stage.sql.run("insert into t values (1), (2), (3)").await;
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.heard(&stage.sql).await.len(), 3);
    }
    assert!(relay.metric("pgrelay_relay_sockets", "").await >= 2.0);
    assert!(relay.metric("pgrelay_relay_channels", "").await >= 2.0);
    assert!(relay.metric("pgrelay_relay_bindings", "").await >= 4.0);
    let after = relay.metric("pgrelay_relay_deliveries_total", "").await;
    // Each has got the three rows, and the first mark at least.
    assert!(after - before >= 7.0, "{before} {after}");
    // What is the same for both was written once.
    let encoded = relay.metric("pgrelay_relay_encoded_total", "").await;
    assert!(encoded < after - before, "{encoded}");
    let lost = relay.metric("pgrelay_capture_lost_wakeups_total", "").await;
    assert!(lost.abs() < f64::EPSILON);
    assert!(relay.metric("pgrelay_capture_batch_id", "").await >= 2.0);

    let response = Request::get(&relay.url("/metrics")).send().await;
    let kind = response.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = response.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    // Every sample has a name of ours, a type and a number.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("pgrelay_"), "{line}");
        let value = line.rsplit_once(' ').unwrap().1;
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(!text.contains(&relay.anon_key()));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let stage = Stage::open().await;
    for path in ["/nothing", "/realtime/v1", "/socket", "/../etc/passwd"] {
        let response = Request::get(&stage.relay.url(path)).send().await;
        assert_eq!(response.status, 404, "{path}");
    }
    stage.connect(Vsn::V2).await.heartbeat().await;
}
