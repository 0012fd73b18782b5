//! Broadcasts over the socket.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Frame, Vsn, WsClient};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const TOPIC: &str = "realtime:room:1";

/// A binary push: event `e`, reference `7`.
fn binary(encoding: u8, payload: &[u8]) -> Message {
    let topic = u8::try_from(TOPIC.len()).unwrap();
    let head = [3, 1, 1, topic, 1, 0, encoding];
    let parts = [&head, "17".as_bytes(), TOPIC.as_bytes(), b"e", payload];
    Message::binary(parts.concat())
}

async fn broadcast(client: &mut WsClient) -> Frame {
    client
        .expect("a broadcast", |frame| frame.event == "broadcast")
        .await
}

#[tokio::test]
async fn both_versions_hear_what_either_says() {
    let stage = Stage::open().await;
    let config = json!({"broadcast": {"ack": true, "self": true}});
    for sender in [Vsn::V1, Vsn::V2] {
        let mut v1 = stage.connect(Vsn::V1).await;
        let mut v2 = stage.connect(Vsn::V2).await;
        v1.join(TOPIC, config.clone()).await;
        v2.join(TOPIC, config.clone()).await;
        let payload =
            json!({"type": "broadcast", "event": "é", "payload": {"n": [1, null]}, "extra": true});
        let speaker = if sender == Vsn::V1 { &mut v1 } else { &mut v2 };
        let reply = speaker.request(TOPIC, "broadcast", payload.clone()).await;
        assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
        for client in [&mut v1, &mut v2] {
            let heard = broadcast(client).await;
            assert_eq!((heard.payload, heard.binary), (payload.clone(), false));
            assert_eq!(
                (heard.join_ref, heard.reference),
                (Value::Null, Value::Null)
            );
        }
    }
}

#[tokio::test]
async fn binary_frames_reach_each_version_as_it_can_read_them() {
    let stage = Stage::open().await;
    let mut v1 = stage.connect(Vsn::V1).await;
    let mut v2 = stage.connect(Vsn::V2).await;
    v1.join(TOPIC, json!({})).await;
    v2.join(TOPIC, json!({"broadcast": {"ack": true, "self": true}}))
        .await;
    v2.send(binary(0, &[0, 254, 255])).await;
    v2.send(binary(1, br#"{"a":"b"}"#)).await;
    for payload in [json!([0, 254, 255]), json!({"a": "b"})] {
        let reply = v2
            .expect("an answer", |frame| frame.event == "phx_reply")
            .await;
        assert_eq!(
            (reply.reference, reply.payload["status"].clone()),
            (json!("7"), json!("ok"))
        );
        let heard = broadcast(&mut v2).await;
        assert!(heard.binary);
        assert_eq!(
            (&heard.payload["event"], &heard.payload["payload"]),
            (&json!("e"), &payload)
        );
    }
    let heard = broadcast(&mut v1).await;
    let payload = json!({"type": "broadcast", "event": "e", "payload": {"a": "b"}});
    assert_eq!(heard.payload, payload, "the bytes were not for it");
}

#[tokio::test]
async fn who_speaks_hears_itself_only_where_it_asked_to() {
    let stage = Stage::open().await;
    let mut speaker = stage.connect(Vsn::V2).await;
    let mut other = stage.connect(Vsn::V2).await;
    speaker.join(TOPIC, json!({})).await;
    other.join(TOPIC, json!({})).await;
    speaker
        .push(TOPIC, "broadcast", json!({"event": "e", "payload": {}}))
        .await;
    broadcast(&mut other).await;
    speaker.heartbeat().await;
    assert_eq!(
        speaker.take_unclaimed(),
        [],
        "neither an echo nor an answer"
    );
}

#[tokio::test]
async fn fifty_broadcasts_arrive_in_order() {
    let stage = Stage::open().await;
    let mut speaker = stage.connect(Vsn::V2).await;
    speaker
        .join(TOPIC, json!({"broadcast": {"self": true}}))
        .await;
    for n in 0..50 {
        speaker
            .push(
                TOPIC,
                "broadcast",
                json!({"event": "e", "payload": {"n": n}}),
            )
            .await;
    }
    for n in 0..50 {
        assert_eq!(broadcast(&mut speaker).await.payload["payload"]["n"], n);
    }
}

#[tokio::test]
async fn readiness_is_told_to_those_who_ask() {
    let stage = Stage::open().await;
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut client = stage.connect(vsn).await;
        client
            .join(TOPIC, json!({"broadcast": {"replication_ready": true}}))
            .await;
        let told = client
            .expect("readiness", |frame| frame.event == "system")
            .await;
        let message = "Replication connection established";
        assert_eq!(
            told.payload,
            json!({"channel": "room:1", "extension": "system", "status": "ok", "message": message})
        );
    }
}
