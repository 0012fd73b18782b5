//! Joining, joining again, leaving.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{RelayBuilder, Vsn};
use serde_json::{Value, json};

use crate::speaker::{Speaker, done, error, joined};

const TOPIC: &str = "realtime:room";

/// Refusals are answered at once.
fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
}

#[tokio::test]
async fn what_is_missing_or_mistyped_in_a_join_does_not_fail_it() {
    let stage = Stage::open().await;
    let cases = [
        json!({}),
        json!({"config": {}}),
        json!({"config": null}),
        json!({"config": {"private": "yes"}}),
        json!({"config": {"private": null, "unknown": 1}, "version": "realtime-js/2.112.2"}),
        json!({"config": {"broadcast": {"ack": 1, "self": "TRUE", "replication_ready": []}}}),
        json!({"config": {"broadcast": null, "presence": 7}}),
        json!({"config": {"presence": {"key": 5, "enabled": "no"}}}),
        json!({"config": {"postgres_changes": null}}),
        json!({"config": {"postgres_changes": "all"}}),
        json!({"config": {"postgres_changes": {"table": "t"}}}),
        json!({"config": {"postgres_changes": [null, null]}}),
        json!({"access_token": null}),
        json!({"access_token": 7, "user_token": []}),
    ];
    for mut speaker in Speaker::both(&stage.relay).await {
        for payload in &cases {
            speaker.join("1", TOPIC, payload.clone()).await;
            speaker.say(("1", "2"), TOPIC, "phx_leave", json!({})).await;
            speaker.hears(("1", "2"), TOPIC, "phx_reply", done()).await;
            speaker
                .hears(("1", "1"), TOPIC, "phx_close", json!({}))
                .await;
        }
    }
}

#[tokio::test]
async fn a_payload_of_the_wrong_shape_fails_the_join() {
    let stage = Stage::open_with(hasty).await;
    let cases = [
        (json!([]), "the payload"),
        (json!("join"), "the payload"),
        (json!(null), "the payload"),
        (json!({"config": []}), "config"),
        (json!({"config": "all"}), "config"),
        (json!({"config": {"broadcast": "yes"}}), "config.broadcast"),
        (
            json!({"config": {"postgres_changes": [{"table": "t"}, 7]}}),
            "an entry of config.postgres_changes",
        ),
    ];
    for mut speaker in Speaker::both(&stage.relay).await {
        for (payload, part) in &cases {
            let reason =
                format!("UnknownErrorOnChannel: {part} must be an object of at most 1000 keys");
            speaker.refused(TOPIC, payload.clone(), &reason).await;
        }
    }
}

#[tokio::test]
async fn any_name_behind_the_prefix_is_a_topic() {
    let stage = Stage::open_with(hasty).await;
    for mut speaker in Speaker::both(&stage.relay).await {
        let longest = format!("realtime:{}", "x".repeat(1_015));
        for topic in [
            "realtime:a:b:c",
            "realtime: ",
            "realtime:*",
            "realtime:ünïcode ❤",
            "realtime:realtime:",
            &longest,
        ] {
            speaker.join("1", topic, json!({})).await;
        }
        speaker
            .refused(
                "realtime:",
                json!({}),
                "TopicNameRequired: You must provide a topic name",
            )
            .await;
    }
}

#[tokio::test]
async fn a_second_join_ends_the_first_after_its_answer() {
    let stage = Stage::open_with(hasty).await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("1", TOPIC, json!({})).await;
        speaker.join("2", TOPIC, json!({})).await;
        speaker
            .hears(("1", "1"), TOPIC, "phx_close", json!({}))
            .await;
        // One that is refused ends it too.
        speaker
            .refused(
                TOPIC,
                json!({"access_token": "potato"}),
                "MalformedJWT: The token provided is not a valid JWT",
            )
            .await;
        speaker
            .hears(("2", "2"), TOPIC, "phx_close", json!({}))
            .await;
        speaker.say(("2", "3"), TOPIC, "anything", json!({})).await;
        speaker
            .hears(
                (Value::Null, "3"),
                TOPIC,
                "phx_reply",
                error("unmatched topic"),
            )
            .await;
        for reference in 0..50 {
            speaker
                .say((reference, reference), TOPIC, "phx_join", json!({}))
                .await;
            speaker
                .hears((reference, reference), TOPIC, "phx_reply", joined())
                .await;
            if reference > 0 {
                let old = reference - 1;
                speaker
                    .hears((old, old), TOPIC, "phx_close", json!({}))
                    .await;
            }
        }
        speaker.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_leave_followed_by_a_join_begins_anew() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("1", TOPIC, json!({})).await;
        speaker.say(("1", "2"), TOPIC, "phx_leave", json!({})).await;
        speaker.say(("3", "3"), TOPIC, "phx_join", json!({})).await;
        speaker.hears(("1", "2"), TOPIC, "phx_reply", done()).await;
        speaker
            .hears(("1", "1"), TOPIC, "phx_close", json!({}))
            .await;
        speaker
            .hears(("3", "3"), TOPIC, "phx_reply", joined())
            .await;
    }
}

#[tokio::test]
async fn only_the_join_itself_can_be_left() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("5", TOPIC, json!({})).await;
        for stale in [json!("4"), json!(5), json!(null)] {
            speaker
                .say((stale, "6"), TOPIC, "phx_leave", json!({}))
                .await;
            speaker.hears_nothing().await;
        }
        speaker.say(("5", "7"), TOPIC, "phx_leave", json!({})).await;
        speaker.hears(("5", "7"), TOPIC, "phx_reply", done()).await;
        speaker
            .hears(("5", "5"), TOPIC, "phx_close", json!({}))
            .await;
        // What was joined without a reference can be left with any.
        speaker
            .say((Value::Null, "8"), TOPIC, "phx_join", json!({}))
            .await;
        speaker
            .hears((Value::Null, "8"), TOPIC, "phx_reply", joined())
            .await;
        speaker.say(("x", "9"), TOPIC, "phx_leave", json!({})).await;
        speaker.hears(("x", "9"), TOPIC, "phx_reply", done()).await;
        speaker
            .hears((Value::Null, Value::Null), TOPIC, "phx_close", json!({}))
            .await;
    }
}

#[tokio::test]
async fn a_channel_that_was_left_or_replaced_hears_no_more_changes() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let mut client = stage.connect(Vsn::V2).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    client.join_changes(TOPIC, entries.clone()).await;
    client.join_changes("realtime:other", entries.clone()).await;
    // Again: one delivery for each change, not two.
    client.join_changes(TOPIC, entries.clone()).await;
    stage.sql.run("insert into t values (1)").await;
    client.expect_change(TOPIC).await;
    client.expect_change("realtime:other").await;
    let mut leaver = stage.connect(Vsn::V2).await;
    let response = leaver.join_changes(TOPIC, entries).await;
    assert!(response["postgres_changes"][0]["id"].is_number());
    leaver.join(TOPIC, json!({})).await;
    stage.sql.run("insert into t values (2)").await;
    let heard = client.expect_change(TOPIC).await;
    assert_eq!(heard["data"]["record"]["id"], 2);
    client.expect_change("realtime:other").await;
    client.heartbeat().await;
    leaver.heartbeat().await;
    for client in [client, leaver].iter_mut() {
        let late = client.take_unclaimed();
        assert!(
            late.iter().all(|frame| frame.event != "postgres_changes"),
            "{late:?}"
        );
    }
}

#[tokio::test]
async fn a_socket_has_a_limit_of_channels() {
    let limited = |relay: RelayBuilder| hasty(relay).set("PGRELAY_CHANNELS_MAX", "2");
    let stage = Stage::open_with(limited).await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("1", "realtime:a", json!({})).await;
        speaker.join("2", "realtime:b", json!({})).await;
        let reason = "ChannelRateLimitReached: Too many channels";
        speaker.refused("realtime:c", json!({}), reason).await;
        speaker.hears_nothing().await;
        // Joining again takes no more room, and leaving makes some.
        speaker.join("3", "realtime:b", json!({})).await;
        speaker
            .hears(("2", "2"), "realtime:b", "phx_close", json!({}))
            .await;
        speaker
            .say(("1", "4"), "realtime:a", "phx_leave", json!({}))
            .await;
        speaker
            .hears(("1", "4"), "realtime:a", "phx_reply", done())
            .await;
        speaker
            .hears(("1", "1"), "realtime:a", "phx_close", json!({}))
            .await;
        speaker.join("5", "realtime:c", json!({})).await;
    }
}

#[tokio::test]
async fn a_channel_has_a_limit_of_entries() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_BINDINGS_MAX", "2")).await;
    let entry = json!({"schema": "public", "table": "mark"});
    let mut client = stage.connect(Vsn::V2).await;
    client
        .join(TOPIC, json!({"postgres_changes": [entry, entry, entry]}))
        .await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let frame = client
            .expect("a system message", |frame| frame.event == "system")
            .await;
        told.push(frame.payload["status"].as_str().unwrap().to_owned());
    }
    told.sort_unstable();
    assert_eq!(told, ["error", "ok"]);
}

#[tokio::test]
async fn a_refused_join_waits_and_keeps_nobody_waiting() {
    let stage = Stage::open_with(|relay| relay.set("PGRELAY_JOIN_ERROR_DELAY", "1s")).await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker
            .say(("1", "1"), "realtime:", "phx_join", json!({}))
            .await;
        // Sent later and answered earlier.
        speaker.join("2", TOPIC, json!({})).await;
        speaker.hears_nothing().await;
        let reason = error("TopicNameRequired: You must provide a topic name");
        speaker
            .hears(("1", "1"), "realtime:", "phx_reply", reason)
            .await;
    }
}
