//! How a relay stops: nobody new, everybody told, then the end.

use futures::future::join_all;
use pgrelay_e2e::Stage;
use pgrelay_test_support::{EventStream, Relay, RelayBuilder, Request, Vsn, WsClient, wait_for};
use serde_json::json;
use tokio::net::TcpStream;

/// A short goodbye: clients are told within a quarter of this.
fn brief(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_SHUTDOWN_TIMEOUT", "4s")
}

#[tokio::test]
async fn clients_are_told_to_come_back_and_the_process_ends_well() {
    let stage = Stage::open_with(brief).await;
    let entries = json!([{"schema": "public", "table": "mark", "since": "now"}]);
    let mut clients = Vec::new();
    for turn in 0..20 {
        let vsn = if turn % 2 == 0 { Vsn::V1 } else { Vsn::V2 };
        let mut client = stage.connect(vsn).await;
        client.join_changes("realtime:r", entries.clone()).await;
        clients.push(client);
    }
    let url = stage.relay.url(&format!(
        "/events?table=mark&apikey={}",
        stage.relay.anon_key()
    ));
    let mut stream = EventStream::open(Request::get(&url)).await;
    stream.next().await;
    let Stage { relay, .. } = stage;
    let closes = join_all(clients.iter_mut().map(|client| client.expect_close()));
    let ends = async { while stream.try_next().await.is_some() {} };
    let (status, closes, ()) = futures::join!(relay.stop(), closes, ends);
    assert_eq!(status.code(), Some(0));
    assert_eq!(closes, [Some(1012); 20]);
}

#[tokio::test]
async fn nobody_new_is_let_in_while_it_stops() {
    // A long goodbye: the last client is told after a quarter of it.
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_SHUTDOWN_TIMEOUT", "8s")).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = stage.connect(Vsn::V2).await;
        client.join("realtime:r", json!({})).await;
        clients.push(client);
    }
    let address = stage.relay.address();
    let Stage { relay, .. } = stage;
    let (first, rest) = clients.split_at_mut(1);
    let watching = async {
        assert_eq!(first[0].expect_close().await, Some(1012));
        // The first has been told, the last has not: the door is closed already.
        wait_for("the door to be closed", async || {
            TcpStream::connect(address).await.err()
        })
        .await;
        for client in rest {
            assert_eq!(client.expect_close().await, Some(1012));
        }
    };
    let (status, ()) = futures::join!(relay.stop(), watching);
    assert!(status.success());
}

#[tokio::test]
async fn what_was_told_before_the_stop_is_whole_and_resumes_after_it() {
    let stage = Stage::open_with(brief).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let entry = |since: &str| json!([{"schema": "public", "table": "t", "since": since}]);
    let mut client = stage.connect(Vsn::V2).await;
    client.join_changes("realtime:r", entry("now")).await;
    stage
        .sql
        .run("insert into t select i from generate_series(1, 500) i")
        .await;
    let mut rows = Vec::new();
    let mut cursor = String::new();
    let first = client.expect_change("realtime:r").await;
    rows.push(first["data"]["record"]["id"].as_u64().unwrap());
    let Stage {
        relay,
        sql,
        database,
    } = stage;
    let (status, code) = futures::join!(relay.stop(), client.expect_close());
    assert!(status.success());
    assert_eq!(code, Some(1012));
    for frame in client.take_unclaimed() {
        if frame.event == "postgres_changes" {
            rows.push(frame.payload["data"]["record"]["id"].as_u64().unwrap());
            cursor = frame.payload["cursor"].as_str().unwrap().into();
        }
    }
    if cursor.is_empty() {
        cursor = first["cursor"].as_str().unwrap().into();
    }
    sql.run("insert into t values (501)").await;
    let relay = Relay::start(&database).await;
    let mut client = WsClient::connect(relay.address(), Vsn::V2, &relay.anon_key()).await;
    client.join_changes("realtime:r", entry(&cursor)).await;
    while rows.last() != Some(&501) {
        let change = client.expect_change("realtime:r").await;
        rows.push(change["data"]["record"]["id"].as_u64().unwrap());
    }
    assert_eq!(rows, (1..=501).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_does_not_leave_does_not_keep_it_alive() {
    let stage = Stage::open_with(|relay| brief(relay).allow("slow to stop")).await;
    // Once it is in it never reads, so it never answers the close.
    let mut rude = stage.connect(Vsn::V2).await;
    rude.heartbeat().await;
    // An HTTP connection that asks for nothing.
    let _idle = TcpStream::connect(stage.relay.address()).await.unwrap();
    let Stage { relay, .. } = stage;
    assert!(relay.stop().await.success());
}
