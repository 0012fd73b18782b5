//! Single messages and their answers.

use pgrelay_e2e::Stage;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::speaker::{Speaker, done, error, joined};

const TOPIC: &str = "realtime:room";

/// References of every JSON type.
fn references() -> [Value; 7] {
    [
        json!("7"),
        json!(""),
        json!(7),
        json!(-1.5),
        json!(true),
        json!(null),
        json!({"a": [1, "b"]}),
    ]
}

#[tokio::test]
async fn a_heartbeat_is_answered_whatever_its_references() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        for reference in references() {
            for join_ref in [Value::Null, json!("1")] {
                speaker
                    .say(
                        (join_ref, reference.clone()),
                        "phoenix",
                        "heartbeat",
                        json!({}),
                    )
                    .await;
                speaker
                    .hears(
                        (Value::Null, reference.clone()),
                        "phoenix",
                        "phx_reply",
                        done(),
                    )
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn references_of_any_type_come_back_as_they_were() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        for (join_ref, reference) in references().into_iter().zip(references().into_iter().rev()) {
            let both = || (join_ref.clone(), reference.clone());
            speaker.say(both(), TOPIC, "phx_join", json!({})).await;
            speaker.hears(both(), TOPIC, "phx_reply", joined()).await;
            speaker.say(both(), TOPIC, "phx_leave", json!({})).await;
            speaker.hears(both(), TOPIC, "phx_reply", done()).await;
            let end = (join_ref.clone(), join_ref.clone());
            speaker.hears(end, TOPIC, "phx_close", json!({})).await;
        }
    }
}

#[tokio::test]
async fn what_is_sent_to_a_topic_that_is_not_joined_is_unmatched() {
    let stage = Stage::open().await;
    let cases = [
        (TOPIC, "anything"),
        (TOPIC, "broadcast"),
        (TOPIC, "presence"),
        (TOPIC, "access_token"),
        (TOPIC, "heartbeat"),
        ("room", "phx_join"),
        ("", "phx_join"),
        ("Realtime:room", "phx_join"),
        ("phoenix", "phx_join"),
        ("phoenix", "anything"),
    ];
    for mut speaker in Speaker::both(&stage.relay).await {
        for (topic, event) in cases {
            speaker.say(("1", "2"), topic, event, json!({})).await;
            let answer = error("unmatched topic");
            speaker
                .hears((Value::Null, "2"), topic, "phx_reply", answer)
                .await;
        }
        // A leave is the exception.
        speaker.say(("1", "2"), TOPIC, "phx_leave", json!({})).await;
        speaker.hears(("1", "2"), TOPIC, "phx_reply", done()).await;
        speaker.hears_nothing().await;
    }
}

#[tokio::test]
async fn unknown_events_of_a_joined_topic_are_taken_in_silence() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("1", TOPIC, json!({})).await;
        for join_ref in [json!("1"), json!("stale"), Value::Null] {
            let references = (join_ref.clone(), "2");
            speaker.say(references, TOPIC, "anything", json!([1])).await;
            let references = (join_ref, "3");
            speaker
                .say(references, TOPIC, "postgres_changes", json!({"ids": [1]}))
                .await;
        }
        speaker.hears_nothing().await;
    }
}

#[tokio::test]
async fn further_elements_and_unknown_members_are_ignored() {
    let stage = Stage::open().await;
    let [mut v1, mut v2] = Speaker::both(&stage.relay).await;
    let text = r#"{"extra":{},"ref":"1","payload":{"x":1},"event":"heartbeat","topic":"phoenix"}"#;
    v1.client.send(Message::text(text)).await;
    v1.hears((Value::Null, "1"), "phoenix", "phx_reply", done())
        .await;
    let text = r#" [ null , "1" , "phoenix" , "heartbeat" , {} , "extra" , [] ] "#;
    v2.client.send(Message::text(text)).await;
    v2.hears((Value::Null, "1"), "phoenix", "phx_reply", done())
        .await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_own_words() {
    let stage = Stage::open().await;
    let mut speaker = Speaker::connect(&stage.relay, pgrelay_test_support::Vsn::V2).await;
    speaker.client.send(Message::Ping("words".into())).await;
    let pong = speaker.client.expect_pong().await;
    assert_eq!(&pong[..], b"words");
    speaker.hears_nothing().await;
}
