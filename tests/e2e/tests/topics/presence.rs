//! Presence over the socket.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Frame, Vsn, WsClient};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:room";

async fn event(client: &mut WsClient, event: &str) -> Value {
    let frame: Frame = client.expect(event, |frame| frame.event == event).await;
    frame.payload
}

async fn track(client: &mut WsClient, meta: Value) {
    let payload = json!({"type": "presence", "event": "track", "payload": meta});
    let reply = client.request(TOPIC, "presence", payload).await;
    assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
}

#[tokio::test]
async fn who_comes_changes_and_goes_is_told() {
    let stage = Stage::open().await;
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut ann = stage.connect(vsn).await;
        let mut bob = stage.connect(vsn).await;
        let enabled = |key: &str| json!({"presence": {"enabled": true, "key": key}});
        ann.join(TOPIC, enabled("ann")).await;
        assert_eq!(event(&mut ann, "presence_state").await, json!({}));
        track(&mut ann, json!({"n": 1})).await;
        let diff = event(&mut ann, "presence_diff").await;
        let meta = &diff["joins"]["ann"]["metas"][0];
        let first = meta["phx_ref"].clone();
        assert_eq!(
            (meta, &diff["leaves"]),
            (&json!({"n": 1, "phx_ref": first}), &json!({}))
        );

        bob.join(TOPIC, enabled("bob")).await;
        let state = json!({"ann": {"metas": [{"n": 1, "phx_ref": first}]}});
        assert_eq!(event(&mut bob, "presence_state").await, state);
        track(&mut ann, json!({"n": 1})).await;
        track(&mut ann, json!({"n": 2})).await;
        let diff = event(&mut bob, "presence_diff").await;
        let meta = &diff["joins"]["ann"]["metas"][0];
        assert_eq!((&meta["n"], &meta["phx_ref_prev"]), (&json!(2), &first));
        assert_eq!(diff["leaves"]["ann"]["metas"][0]["phx_ref"], first);
        ann.close().await;
        let diff = event(&mut bob, "presence_diff").await;
        assert_eq!(diff["joins"], json!({}));
        assert_eq!(diff["leaves"]["ann"]["metas"][0]["n"], 2);
        bob.close().await;
    }
}

#[tokio::test]
async fn presence_that_nobody_asked_for_has_no_state() {
    let stage = Stage::open().await;
    let mut client = stage.connect(Vsn::V2).await;
    client
        .join(TOPIC, json!({"presence": {"enabled": false}}))
        .await;
    client.heartbeat().await;
    assert_eq!(client.take_unclaimed(), []);
    track(&mut client, json!({})).await;
    let diff = event(&mut client, "presence_diff").await;
    assert_eq!(
        diff["joins"].as_object().unwrap().len(),
        1,
        "under a made up key"
    );
    client.heartbeat().await;
    assert_eq!(client.take_unclaimed(), [], "still no state");
}

#[tokio::test]
async fn joining_again_removes_the_presence_of_before() {
    let stage = Stage::open().await;
    let mut watcher = stage.connect(Vsn::V2).await;
    let mut other = stage.connect(Vsn::V2).await;
    watcher.join(TOPIC, json!({})).await;
    other.join(TOPIC, json!({"presence": {"key": "k"}})).await;
    track(&mut other, json!({})).await;
    event(&mut watcher, "presence_diff").await;
    other.join(TOPIC, json!({"presence": {"key": "k"}})).await;
    let diff = event(&mut watcher, "presence_diff").await;
    assert_eq!(diff["leaves"]["k"]["metas"].as_array().unwrap().len(), 1);
}
