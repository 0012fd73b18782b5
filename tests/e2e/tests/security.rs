//! What somebody hostile may try over the network, beyond what other suites show in passing. The whole list is in
//! `SECURITY.md` beside this folder.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use pgrelay_e2e::Stage;
use pgrelay_test_support::{RelayBuilder, Request, Vsn, WsClient, token, wait_for, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const TOPIC: &str = "realtime:room";

fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay
        .set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
        .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
}

/// Everything that comes back for these bytes until the server hangs up, or says nothing more to a request that must end it.
async fn answers(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that was reset has ended, too.
    drop(within("the connection to end", stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn is_well(stage: &Stage) {
    let mut client = stage.connect(Vsn::V2).await;
    client.heartbeat().await;
    client.close().await;
}

#[tokio::test]
async fn requests_of_two_meanings_are_refused_and_end_their_connection() {
    let stage = Stage::open_with(hasty).await;
    let address = stage.relay.address();
    let hidden = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let length = hidden.len();
    for (what, headers, body) in [
        (
            "two lengths",
            format!("content-length: 0\r\ncontent-length: {length}\r\n"),
            hidden,
        ),
        (
            "a length with a sign",
            format!("content-length: +{length}\r\n"),
            hidden,
        ),
        (
            "a list of lengths",
            format!("content-length: 0, {length}\r\n"),
            hidden,
        ),
        (
            "an unknown coding",
            "transfer-encoding: xchunked\r\n".to_owned(),
            hidden,
        ),
        (
            "a chunk of 2^64",
            "transfer-encoding: chunked\r\n".to_owned(),
            "10000000000000000\r\nx\r\n",
        ),
        (
            "a blank before the colon",
            format!("content-length : {length}\r\n"),
            hidden,
        ),
        (
            "a folded line",
            "x-a: b\r\n content-length: 5\r\n".to_owned(),
            hidden,
        ),
    ] {
        let request = format!(
            "POST /realtime/v1/api/broadcast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
        );
        let answer = answers(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        is_well(&stage).await;
    }
}

#[tokio::test]
async fn nothing_but_a_websocket_becomes_a_tunnel() {
    let stage = Stage::open_with(hasty).await;
    let key = stage.relay.anon_key();
    let path = format!("/realtime/v1/websocket?vsn=2.0.0&apikey={key}");
    for headers in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 12\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
        "connection: close\r\n",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        );
        let answer = answers(stage.relay.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{headers}: {answer}");
        assert!(!answer.contains("101"), "{headers}: {answer}");
    }
    is_well(&stage).await;
}

#[tokio::test]
async fn who_trickles_is_given_up() {
    let stage = Stage::open_with(hasty).await;
    let address = stage.relay.address();
    let head = b"GET /healthz HTTP/1.1\r\nhost: ".to_vec();
    let body = b"POST /realtime/v1/api/broadcast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".to_vec();
    let (head, body) = futures::join!(answers(address, &head), answers(address, &body));
    for answer in [head, body] {
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    is_well(&stage).await;
}

#[tokio::test]
async fn what_is_said_in_names_stays_on_its_line_of_the_log_and_makes_no_metrics() {
    let stage = Stage::open_with(|relay| hasty(relay).set("PGRELAY_LOG", "trace")).await;
    let size = async || {
        let text = Request::get(&stage.relay.url("/metrics"))
            .send()
            .await
            .text();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let mut client = stage.connect(Vsn::V2).await;
    client.join(TOPIC, json!({})).await;
    let before = size().await;
    let evil = "a\r\nINJECTED \u{1b}[31m\u{2028}\u{202e}";
    for n in 0..50 {
        let topic = format!("realtime:{evil}{n}");
        client.join(&topic, json!({})).await;
        client.push(&topic, "phx_leave", json!({})).await;
        client.push(&format!("{evil}{n}"), evil, json!({})).await;
        let header = json!({"alg": "RS256", "kid": format!("{evil}{n}")}).to_string();
        use base64::Engine as _;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        let join = json!({"access_token": format!("{header}.e30.AAAA")});
        client.request(TOPIC, "phx_join", join).await;
        let path = stage.relay.url(&format!("/{n}?apikey={n}"));
        Request::get(&path)
            .header("user-agent", &format!("agent{n}"))
            .send()
            .await;
    }
    client.heartbeat().await;
    assert_eq!(size().await, before, "no name is a label");
    for line in stage.relay.log() {
        assert!(
            !line.starts_with("INJECTED") && !line.contains('\u{1b}'),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_forged_bell_wakes_and_nothing_more() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_LOG", "trace")).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let mut subscriber = stage
        .subscribe(json!([{"event": "*", "schema": "public", "table": "t"}]))
        .await;
    subscriber.heard(&stage.sql).await;
    let payload = "forged".repeat(1_300);
    for channel in [
        "pgrelay",
        "pgrelay_ledger",
        "pgrelay_catalog",
        "PGRELAY",
        "Pgrelay",
    ] {
        stage
            .sql
            .run(&format!(
                "begin; set local role anon; select pg_notify('{channel}', '{payload}'); commit"
            ))
            .await;
    }
    stage.sql.run("insert into t values (1)").await;
    let told = subscriber.heard(&stage.sql).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        stage
            .relay
            .log()
            .iter()
            .all(|line| !line.contains("forgedforged"))
    );
}

#[tokio::test]
async fn a_flood_of_pings_is_its_senders_own_trouble() {
    let stage = Stage::open().await;
    let mut flood = stage.connect(Vsn::V2).await;
    for n in 0..20_000_u32 {
        flood
            .send(Message::Ping(n.to_be_bytes().to_vec().into()))
            .await;
        if n % 1_000 == 0 {
            is_well(&stage).await;
        }
    }
    flood.heartbeat().await;
}

#[tokio::test]
async fn a_length_that_is_only_claimed_costs_nothing() {
    let stage = Stage::open().await;
    let request = format!(
        "GET /realtime/v1/websocket?vsn=2.0.0&apikey={} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        stage.relay.anon_key()
    );
    for length in [u64::MAX >> 1, 5_000_001] {
        let mut bytes = request.clone().into_bytes();
        bytes.extend_from_slice(&[0x82, 0xff]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let answer = answers(stage.relay.address(), &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        is_well(&stage).await;
    }
}

#[tokio::test]
async fn numbers_and_nesting_without_measure_are_read_and_refused() {
    let stage = Stage::open_with(hasty).await;
    stage
        .publish("create table t (id numeric primary key)", &["t"])
        .await;
    let mut client = stage.connect(Vsn::V2).await;
    let entry = r#"{"event":"*","schema":"public","table":"t","filter":"id=eq.1e1000000"}"#;
    let join = format!(
        r#"["1","1","{TOPIC}","phx_join",{{"config":{{"postgres_changes":[{entry}]}},"n":1e1000000}}]"#
    );
    client.send(Message::text(join)).await;
    let told = client
        .expect("a refusal", |frame| frame.event == "system")
        .await;
    assert_eq!(told.payload["status"], "error", "{told:?}");
    for garbage in [
        format!(
            r#"["1","1","{TOPIC}","phx_join",{}{}]"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!(
            r#"["1","1","{TOPIC}","phx_join",{{{}"x":1}}]"#,
            r#""a":1,"#.repeat(100_000)
        ),
        format!(
            r#"["1","1","{TOPIC}","phx_join",{{"config":{{"private":true,"private":false}}}}]"#
        ),
    ] {
        client.send(Message::text(garbage)).await;
        client.heartbeat().await;
    }
    is_well(&stage).await;
}

#[tokio::test]
async fn a_token_that_ends_while_the_relay_is_suspended_brings_nothing_more() {
    // A relay that hangs loses its session on purpose.
    let mut stage = Stage::open_with(|relay| relay.allow("lost the change log")).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let end = now() + 8;
    let key = token(&json!({"role": "anon", "exp": end}));
    let mut client = WsClient::connect(stage.relay.address(), Vsn::V2, &key).await;
    client
        .join_changes(
            TOPIC,
            json!([{"event": "*", "schema": "public", "table": "t"}]),
        )
        .await;
    stage.relay.freeze();
    stage.sql.run("insert into t values (1)").await;
    wait_for("the token to end", async || (now() > end).then_some(())).await;
    stage.relay.thaw();
    client
        .expect("the end", |frame| frame.event == "phx_close")
        .await;
    let told = client.take_unclaimed();
    assert!(told.iter().all(|frame| frame.event == "system"), "{told:?}");
}
