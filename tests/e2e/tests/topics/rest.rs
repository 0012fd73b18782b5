//! Broadcasts over HTTP, heard over the socket.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Request, Vsn};
use serde_json::json;

#[tokio::test]
async fn what_is_posted_is_heard_in_both_versions() {
    let stage = Stage::open().await;
    let mut v1 = stage.connect(Vsn::V1).await;
    let mut v2 = stage.connect(Vsn::V2).await;
    for client in [&mut v1, &mut v2] {
        for topic in ["realtime:a", "realtime:b:c"] {
            client.join(topic, json!({})).await;
        }
    }
    let key = stage.relay.anon_key();
    let post = async |path: &str, media_type: &str, body: Vec<u8>| {
        let url = stage.relay.url(path);
        let request = Request::post(&url, media_type, body);
        let response = request.header("apikey", &key).send().await;
        assert_eq!((response.status, &*response.text()), (202, ""), "{path}");
        assert_eq!(response.headers["access-control-allow-origin"], "*");
    };
    let messages = json!({"messages": [
        {"topic": "a", "event": "one", "payload": {"n": 1}},
        {"topic": "b:c", "event": "two", "payload": {"n": 2}, "id": "x"},
    ]});
    let json = "application/json";
    post(
        "/realtime/v1/api/broadcast?vsn=2.0.0",
        json,
        messages.to_string().into(),
    )
    .await;
    let single = "/api/broadcast/b%3Ac/events/user%2Fjoined";
    post(single, "application/octet-stream", vec![0, 255]).await;
    post(single, json, b"[1]".to_vec()).await;
    for client in [&mut v1, &mut v2] {
        let mut heard = async |topic: &str| {
            client
                .expect("a broadcast", |frame| {
                    frame.event == "broadcast" && frame.topic == topic
                })
                .await
        };
        let one = heard("realtime:a").await;
        assert_eq!(
            one.payload,
            json!({"type": "broadcast", "event": "one", "payload": {"n": 1}})
        );
        let two = heard("realtime:b:c").await;
        assert_eq!(
            (&two.payload["meta"], two.binary),
            (&json!({"id": "x"}), false)
        );
        let mut three = heard("realtime:b:c").await;
        if three.binary {
            assert_eq!(
                three.payload["payload"],
                json!([0, 255]),
                "bytes for 2.0.0 only"
            );
            three = heard("realtime:b:c").await;
            assert!(three.binary);
        }
        assert_eq!(
            (&three.payload["event"], &three.payload["payload"]),
            (&json!("user/joined"), &json!([1]))
        );
    }
}
