//! Tokens of joins, their refresh and their end.

use std::time::{SystemTime, UNIX_EPOCH};

use pgrelay_e2e::Stage;
use pgrelay_test_support::{RelayBuilder, SECRET, Vsn, token, token_signed_with};
use serde_json::{Value, json};

use crate::speaker::{Speaker, closing, error};

const TOPIC: &str = "realtime:room";

/// Refusals are answered at once.
fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn anon(exp: u64) -> String {
    token(&json!({"role": "anon", "exp": exp}))
}

/// Tokens that are refused: what they are, the word at a join and the word at a refresh.
fn refused_tokens() -> Vec<(&'static str, String, String, String)> {
    let malformed = "The token provided is not a valid JWT";
    let missing = "Fields `role` and `exp` are required in JWT";
    let kid = "Failed to generate JWT signer for key ID (kid) \"19de8c2c\", check your JWT secret or JWKS configuration";
    let signer = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
    let signed = |claims: Value| token_signed_with(SECRET, &claims);
    let far = 4_000_000_000_u64;
    [
        (
            "no jwt",
            "potato".to_owned(),
            format!("MalformedJWT: {malformed}"),
            malformed,
        ),
        (
            "nothing",
            String::new(),
            format!("MalformedJWT: {malformed}"),
            malformed,
        ),
        (
            "no role",
            signed(json!({"exp": far})),
            format!("InvalidJWTToken: {missing}"),
            missing,
        ),
        (
            "no exp",
            signed(json!({"role": "anon"})),
            format!("InvalidJWTToken: {missing}"),
            missing,
        ),
        (
            "another secret",
            token_signed_with("another", &json!({"role": "anon", "exp": far})),
            "JwtSignatureError: Failed to validate JWT signature".to_owned(),
            ":signature_error",
        ),
        (
            "an unknown key",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IjE5ZGU4YzJjIn0.e30.AAAA".to_owned(),
            format!("JwtSignerError: {kid}"),
            kid,
        ),
        (
            "no algorithm",
            "eyJhbGciOiJub25lIn0.e30.AAAA".to_owned(),
            format!("JwtSignerError: {signer}"),
            ":error_generating_signer",
        ),
        (
            "an exp that is text",
            signed(json!({"role": "anon", "exp": "4000000000"})),
            "Unknown Error on Channel".to_owned(),
            "Unknown Error on Channel",
        ),
    ]
    .map(|(what, token, join, refresh)| (what, token, join, refresh.to_owned()))
    .into()
}

#[tokio::test]
async fn a_join_with_a_refused_token_is_told_why() {
    let stage = Stage::open_with(hasty).await;
    for mut speaker in Speaker::both(&stage.relay).await {
        for (_, token, reason, _) in refused_tokens() {
            let payload = json!({"access_token": token});
            speaker.refused(TOPIC, payload, &reason).await;
        }
        // The age of an expired one is told in whole seconds.
        let payload = json!({"access_token": anon(unix_now() - 100)});
        speaker.say(("9", "9"), TOPIC, "phx_join", payload).await;
        let reply = speaker.client.next().await;
        let reason = reply.payload["response"]["reason"].as_str().unwrap();
        assert!(
            age_in(reason, "InvalidJWTToken: Token has expired ") >= 100,
            "{reason}"
        );
        speaker.hears_nothing().await;
    }
}

/// `<before><n> seconds ago`
fn age_in(text: &str, before: &str) -> u64 {
    let age = text
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(" seconds ago"));
    age.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_join_is_judged_by_the_right_token() {
    let stage = Stage::open_with(hasty).await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let service = stage.relay.service_key();
    let anon = stage.relay.anon_key();
    stage.sql.run("revoke select on t from anon").await;
    // The connection is anon's; only service_role is let through to the table.
    let cases = [
        (json!({}), "error"),
        (json!({"access_token": null}), "error"),
        (json!({"access_token": 5}), "error"),
        (json!({"access_token": service}), "ok"),
        (json!({"access_token": format!(" {service}\n")}), "ok"),
        (json!({"user_token": service}), "ok"),
        (json!({"access_token": anon, "user_token": service}), "ok"),
        (
            json!({"access_token": service, "user_token": anon}),
            "error",
        ),
        (json!({"access_token": null, "user_token": service}), "ok"),
        (json!({"access_token": "sb_publishable_x"}), "error"),
        (
            json!({"access_token": "sb_secret_x", "user_token": service}),
            "error",
        ),
    ];
    for (mut payload, status) in cases {
        let shown = payload.to_string();
        payload["config"] = json!({"postgres_changes": [{"schema": "public", "table": "t"}]});
        let mut client = stage.connect(Vsn::V2).await;
        let reply = client.request(TOPIC, "phx_join", payload).await;
        assert_eq!(reply.payload["status"], "ok", "{shown}: {reply:?}");
        let told = client
            .expect("a system message", |frame| frame.event == "system")
            .await;
        assert_eq!(told.payload["status"], status, "{shown}: {told:?}");
    }
}

#[tokio::test]
async fn a_refresh_that_says_nothing_new_is_ignored() {
    let stage = Stage::open().await;
    let key = stage.relay.anon_key();
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("1", TOPIC, json!({"access_token": key})).await;
        for payload in [
            json!({"access_token": null}),
            json!({"access_token": "sb_publishable_x"}),
            json!({"access_token": "sb_"}),
            json!({"access_token": key}),
            json!({"access_token": 5}),
            json!({"access_token": {}}),
            json!({}),
            json!([]),
            json!("text"),
        ] {
            speaker
                .say(("1", "2"), TOPIC, "access_token", payload)
                .await;
        }
        speaker.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_refused_refresh_tells_why_and_closes_the_channel_only() {
    let stage = Stage::open().await;
    for mut speaker in Speaker::both(&stage.relay).await {
        speaker.join("other", "realtime:other", json!({})).await;
        for (what, token, _, message) in refused_tokens() {
            speaker.join(what, TOPIC, json!({})).await;
            // Whatever reference it carries.
            let payload = json!({"access_token": token});
            speaker
                .say((Value::Null, "2"), TOPIC, "access_token", payload)
                .await;
            speaker
                .hears(
                    (what, Value::Null),
                    TOPIC,
                    "system",
                    closing("room", &message),
                )
                .await;
            speaker
                .hears((what, what), TOPIC, "phx_close", json!({}))
                .await;
        }
        speaker.join("1", TOPIC, json!({})).await;
        let payload = json!({"access_token": anon(unix_now() - 100)});
        speaker
            .say(("1", "2"), TOPIC, "access_token", payload)
            .await;
        let told = speaker.client.next().await;
        let message = told.payload["message"].as_str().unwrap();
        assert!(age_in(message, "Token has expired ") >= 100, "{message}");
        speaker
            .hears(("1", "1"), TOPIC, "phx_close", json!({}))
            .await;
        // The channel is gone, the other one is not.
        speaker.say(("1", "3"), TOPIC, "anything", json!({})).await;
        speaker
            .hears(
                (Value::Null, "3"),
                TOPIC,
                "phx_reply",
                error("unmatched topic"),
            )
            .await;
        speaker
            .say(("other", "4"), "realtime:other", "anything", json!({}))
            .await;
        speaker.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_new_token_is_taken_in_silence_and_decides_from_then_on() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    stage.sql.run("revoke select on t from anon").await;
    let mut client = stage.connect(Vsn::V2).await;
    let entries = json!([{"schema": "public", "table": "t"}]);
    client
        .join(TOPIC, json!({"postgres_changes": entries}))
        .await;
    let is_system = |frame: &pgrelay_test_support::Frame| frame.event == "system";
    let told = client.expect("a refusal", is_system).await;
    assert_eq!(told.payload["status"], "error");
    let push = |key: String| json!({"access_token": key});
    client
        .push(TOPIC, "access_token", push(stage.relay.service_key()))
        .await;
    let told = client.expect("to be live", is_system).await;
    assert_eq!(told.payload["message"], "Subscribed to PostgreSQL");
    stage.sql.run("insert into t values (1)").await;
    assert_eq!(client.expect_change(TOPIC).await["data"]["record"]["id"], 1);
    // And back again: nothing more of that table.
    let other_anon = token(&json!({"role": "anon", "n": 1}));
    client.push(TOPIC, "access_token", push(other_anon)).await;
    let told = client.expect("a refusal", is_system).await;
    assert_eq!(told.payload["status"], "error", "{told:?}");
    stage.sql.run("insert into t values (2)").await;
    let mut service = stage
        .subscribe_as("service_role", json!([{"schema": "public", "table": "t"}]))
        .await;
    service.heard(&stage.sql).await;
    client.heartbeat().await;
    assert_eq!(client.take_unclaimed(), []);
}

/// Enough to connect and join on a loaded machine.
const LIFETIME_SECONDS: u64 = 8;

#[tokio::test]
async fn the_end_of_a_token_closes_its_channels_and_not_the_socket() {
    let stage = Stage::open().await;
    let end = |vsn| token_ends(&stage, vsn);
    futures::join!(end(Vsn::V1), end(Vsn::V2));
}

async fn token_ends(stage: &Stage, vsn: Vsn) {
    let soon = unix_now() + LIFETIME_SECONDS;
    let mut speaker = Speaker::connect_with(&stage.relay, vsn, &anon(soon)).await;
    speaker.join("short", "realtime:short", json!({})).await;
    // These live on: another token, and one that is refreshed before the end.
    let long = stage.relay.anon_key();
    speaker
        .join("long", "realtime:long", json!({"access_token": long}))
        .await;
    speaker.join("saved", "realtime:saved", json!({})).await;
    let payload = json!({"access_token": long});
    speaker
        .say(("saved", "1"), "realtime:saved", "access_token", payload)
        .await;
    // An opaque key does not prolong anything.
    let payload = json!({"access_token": "sb_publishable_x"});
    speaker
        .say(("short", "2"), "realtime:short", "access_token", payload)
        .await;
    let told = speaker.client.next().await;
    assert_eq!(told.topic, "realtime:short", "{told:?}");
    let message = told.payload["message"].as_str().unwrap();
    age_in(message, "Token has expired ");
    assert_eq!(told.payload, closing("short", message));
    assert!(unix_now() >= soon, "not before its time");
    speaker
        .hears(("short", "short"), "realtime:short", "phx_close", json!({}))
        .await;
    for (join_ref, topic) in [("long", "realtime:long"), ("saved", "realtime:saved")] {
        speaker
            .say((join_ref, "3"), topic, "anything", json!({}))
            .await;
    }
    speaker.hears_nothing().await;
}

#[tokio::test]
async fn a_channel_gets_no_change_after_its_token_has_ended() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let key = anon(unix_now() + LIFETIME_SECONDS);
    let mut client =
        pgrelay_test_support::WsClient::connect(stage.relay.address(), Vsn::V2, &key).await;
    client
        .join_changes(TOPIC, json!([{"schema": "public", "table": "t"}]))
        .await;
    client
        .expect("the end", |frame| frame.event == "phx_close")
        .await;
    stage.sql.run("insert into t values (1)").await;
    let mut other = stage
        .subscribe(json!([{"schema": "public", "table": "t"}]))
        .await;
    other.heard(&stage.sql).await;
    client.heartbeat().await;
    let late = client.take_unclaimed();
    assert!(late.iter().all(|frame| frame.event == "system"), "{late:?}");
}
