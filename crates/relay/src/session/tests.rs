use serde_json::{Value, json};

use super::*;

const CHANNELS_MAX: usize = 2;

/// Tokens name what they are; the clock stands at 1,000.
struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError> {
        match token.split_once(':') {
            Some((role, exp)) => {
                let exp: u64 = exp.parse().unwrap();
                if exp <= now {
                    Err(TokenError::Expired(now - exp))
                } else {
                    Ok(claims(role, Some(exp)))
                }
            }
            None if token == "unsigned" => Err(TokenError::Signature),
            None if token == "roleless" => Err(TokenError::MissingClaims),
            None if token == "unknown key" => Err(TokenError::Signer(Some("k1".to_owned()))),
            None => Err(TokenError::Malformed),
        }
    }
}

fn claims(role: &str, expires_at: Option<u64>) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        subject: None,
        expires_at,
        json: "{}".into(),
    })
}

struct Client {
    session: Session,
    vsn: Vsn,
    marks: RandomState,
    now: u64,
    restarting: bool,
}

impl Client {
    fn new(vsn: Vsn) -> Self {
        let marks = RandomState::new();
        let session = Session::new(vsn, "anon:5000", claims("anon", Some(5_000)), &marks);
        Self {
            session,
            vsn,
            marks,
            now: 1_000,
            restarting: false,
        }
    }

    /// Effects as text: messages as they are, everything else named.
    fn told(effects: Vec<Effect>) -> Vec<Value> {
        let message = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
        effects
            .into_iter()
            .map(|effect| match effect {
                Effect::Say(text) => message(&text),
                Effect::SayLater(texts) => {
                    json!({"later": texts.iter().map(|text| message(text)).collect::<Vec<_>>()})
                }
                Effect::Open(opening) => {
                    let role = &opening.claims.role;
                    json!({"open": opening.topic.as_str(), "bindings": opening.bindings.len(), "role": role})
                }
                Effect::Reclaim(_, claims) => json!({"reclaim": claims.role}),
                Effect::Shut(_) => json!("shut"),
                Effect::ExpireAt(_, at) => json!({"expires": at}),
            })
            .collect()
    }

    fn send(&mut self, frame: &Value) -> Vec<Value> {
        let frame =
            pgrelay_protocol::client_frame::decode_text(self.vsn, &frame.to_string()).unwrap();
        Self::told(self.decide(|session, rules| session.receive(frame, rules)))
    }

    fn decide(
        &mut self,
        decide: impl FnOnce(&mut Session, Rules<'_>) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let (unix_now, restarting) = (self.now, self.restarting);
        let rules = Rules {
            channels_max: CHANNELS_MAX,
            unix_now,
            restarting,
            tokens: &Tokens,
            marks: &self.marks,
        };
        decide(&mut self.session, rules)
    }

    fn join(&mut self, reference: &str, topic: &str, payload: &Value) -> Vec<Value> {
        self.send(&json!([reference, reference, topic, "phx_join", payload]))
    }

    /// Joins `realtime:a` under reference `reference`, with a subscription.
    fn joined(&mut self, reference: &str, token: &str) {
        let told = self.join(reference, "realtime:a", &json!({"access_token": token}));
        assert_eq!(told[0][4]["status"], "ok", "{told:?}");
        let channel = self.session.channels.last().unwrap().incarnation;
        self.session.attach(channel, SubscriptionKey::of(0));
    }

    fn expire(&mut self) -> Vec<Value> {
        let channel = self.session.channels[0].incarnation;
        Self::told(self.decide(|session, rules| session.expire(channel, rules)))
    }
}

fn ok(reference: &str, topic: &str) -> Value {
    json!([reference, reference, topic, "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}])
}

fn refused(reference: &str, topic: &str, reason: &str) -> Value {
    json!([reference, reference, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}])
}

fn close(join_ref: &str) -> Value {
    json!([join_ref, join_ref, "realtime:a", "phx_close", {}])
}

fn unmatched(reference: &str, topic: &str) -> Value {
    json!([null, reference, topic, "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}])
}

fn closing(message: &str) -> Value {
    let payload =
        json!({"channel": "a", "extension": "system", "status": "error", "message": message});
    json!(["1", null, "realtime:a", "system", payload])
}

#[test]
fn a_join_is_answered_first_and_echoes_its_entries() {
    let mut client = Client::new(Vsn::V2);
    let entries =
        json!([{"event": "INSERT", "schema": "public", "table": "t"}, null, {"table": 5}]);
    let told = client.join(
        "3",
        "realtime:a",
        &json!({"config": {"postgres_changes": entries}}),
    );
    let echo = &told[0][4]["response"]["postgres_changes"];
    assert_eq!(
        (
            echo[0]["event"].as_str(),
            echo[1]["table"].as_i64(),
            echo.as_array().unwrap().len()
        ),
        (Some("INSERT"), Some(5), 2)
    );
    assert!(echo[0]["id"].as_u64().unwrap() > 0);
    assert_eq!(
        told[1..],
        [
            json!({"expires": 5_000}),
            json!({"open": "realtime:a", "bindings": 2, "role": "anon"})
        ]
    );
}

#[test]
fn version_1_speaks_objects_without_join_references() {
    let mut client = Client::new(Vsn::V1);
    let told = client.send(&json!({"topic": "realtime:a", "event": "phx_join", "payload": {}, "ref": "1", "join_ref": "1"}));
    let payload = json!({"status": "ok", "response": {"postgres_changes": []}});
    assert_eq!(
        told[0],
        json!({"topic": "realtime:a", "event": "phx_reply", "payload": payload, "ref": "1"})
    );
}

#[test]
fn the_token_of_a_join_is_chosen_as_the_wire_prescribes() {
    for (payload, role) in [
        (json!({}), "anon"),
        (json!({"access_token": null}), "anon"),
        (json!({"access_token": 5}), "anon"),
        (json!({"access_token": "user:2000"}), "user"),
        (json!({"access_token": "sb_publishable_x"}), "anon"),
        (
            json!({"access_token": "user:2000", "user_token": "other:2000"}),
            "other",
        ),
        (json!({"user_token": "other:2000"}), "other"),
        (
            json!({"access_token": "sb_x", "user_token": "other:2000"}),
            "anon",
        ),
    ] {
        let told = Client::new(Vsn::V2).join("1", "realtime:a", &payload);
        assert_eq!(told[2]["role"], role, "{payload}");
    }
}

#[test]
fn refusals_wait_and_name_their_reason() {
    for (topic, payload, reason) in [
        (
            "realtime:",
            json!({}),
            "TopicNameRequired: You must provide a topic name",
        ),
        (
            "realtime:a",
            json!({"access_token": "potato"}),
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            "realtime:a",
            json!({"access_token": ""}),
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            "realtime:a",
            json!({"access_token": "u:1000"}),
            "InvalidJWTToken: Token has expired 0 seconds ago",
        ),
        (
            "realtime:a",
            json!({"access_token": "u:997"}),
            "InvalidJWTToken: Token has expired 3 seconds ago",
        ),
        (
            "realtime:a",
            json!({"access_token": "roleless"}),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        ),
        (
            "realtime:a",
            json!({"access_token": "unsigned"}),
            "JwtSignatureError: Failed to validate JWT signature",
        ),
        (
            "realtime:a",
            json!({"access_token": "unknown key"}),
            "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"k1\", check your JWT secret or JWKS configuration",
        ),
    ] {
        let told = Client::new(Vsn::V2).join("1", topic, &payload);
        assert_eq!(
            told,
            [json!({"later": [refused("1", topic, reason)]})],
            "{payload}"
        );
    }
}

#[test]
fn the_token_of_the_connection_expires_too() {
    let mut client = Client::new(Vsn::V2);
    client.now = 5_002;
    let reason = "InvalidJWTToken: Token has expired 2 seconds ago";
    assert_eq!(
        client.join("1", "realtime:a", &json!({})),
        [json!({"later": [refused("1", "realtime:a", reason)]})]
    );
}

#[test]
fn channels_are_counted_and_a_rejoin_is_not_one_more() {
    let mut client = Client::new(Vsn::V2);
    client.join("1", "realtime:a", &json!({}));
    client.join("2", "realtime:b", &json!({}));
    let reason = "ChannelRateLimitReached: Too many channels";
    assert_eq!(
        client.join("3", "realtime:c", &json!({})),
        [json!({"later": [refused("3", "realtime:c", reason)]})]
    );
    assert_eq!(
        client.join("4", "realtime:a", &json!({}))[0],
        ok("4", "realtime:a")
    );
    client.send(&json!(["2", "5", "realtime:b", "phx_leave", {}]));
    assert_eq!(
        client.join("6", "realtime:c", &json!({}))[0],
        ok("6", "realtime:c")
    );
}

#[test]
fn nobody_joins_a_server_that_goes_down() {
    let mut client = Client::new(Vsn::V2);
    client.restarting = true;
    let reason = "RealtimeRestarting: Realtime is restarting, please standby";
    assert_eq!(
        client.join("1", "realtime:a", &json!({})),
        [json!({"later": [refused("1", "realtime:a", reason)]})]
    );
}

#[test]
fn a_second_join_replaces_the_first_and_closes_it_after_its_own_reply() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "anon:2000");
    let told = client.join("2", "realtime:a", &json!({}));
    let open = json!({"open": "realtime:a", "bindings": 0, "role": "anon"});
    assert_eq!(
        told,
        [
            json!("shut"),
            ok("2", "realtime:a"),
            close("1"),
            json!({"expires": 5_000}),
            open
        ]
    );
}

#[test]
fn a_refused_second_join_ends_the_first_as_well() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "anon:2000");
    let told = client.join("2", "realtime:a", &json!({"access_token": "potato"}));
    let refused = refused(
        "2",
        "realtime:a",
        "MalformedJWT: The token provided is not a valid JWT",
    );
    assert_eq!(
        told,
        [json!("shut"), json!({"later": [refused, close("1")]})]
    );
    assert_eq!(client.session.channel_count(), 0);
}

#[test]
fn a_leave_is_answered_then_closed() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "anon:2000");
    let leave = |join_ref: Value| json!([join_ref, "8", "realtime:a", "phx_leave", {}]);
    let done = |join_ref: Value| json!([join_ref, "8", "realtime:a", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(
        client.send(&leave(json!("7"))),
        [] as [Value; 0],
        "of another incarnation"
    );
    assert_eq!(
        client.send(&leave(json!("1"))),
        [done(json!("1")), close("1"), json!("shut")]
    );
    assert_eq!(
        client.send(&leave(json!("1"))),
        [done(json!("1"))],
        "not joined any more"
    );
    client.send(&json!([null, "9", "realtime:a", "phx_join", {}]));
    assert_eq!(
        client.send(&leave(json!("5")))[0],
        done(json!("5")),
        "joined without a reference"
    );
}

#[test]
fn heartbeats_and_unmatched_topics_are_answered() {
    let mut client = Client::new(Vsn::V2);
    let beat = json!(["4", "7", "phoenix", "heartbeat", {}]);
    assert_eq!(
        client.send(&beat),
        [json!([null, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}])]
    );
    for (topic, event) in [
        ("phoenix", "phx_join"),
        ("phoenix", "other"),
        ("room", "phx_join"),
        ("realtime:a", "broadcast"),
        ("realtime:a", "presence"),
        ("realtime:a", "access_token"),
        ("realtime:a", "whatever"),
    ] {
        assert_eq!(
            client.send(&json!(["1", "7", topic, event, {}])),
            [unmatched("7", topic)],
            "{event} on {topic}"
        );
    }
}

#[test]
fn unknown_events_of_a_joined_channel_are_ignored() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "anon:2000");
    for event in ["broadcast", "presence", "whatever", "heartbeat"] {
        assert_eq!(
            client.send(&json!([null, "7", "realtime:a", event, {}])),
            [] as [Value; 0],
            "{event}"
        );
    }
}

#[test]
fn refreshes_that_say_nothing_new_are_ignored() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "user:2000");
    for payload in [
        json!({"access_token": "sb_publishable_x"}),
        json!({"access_token": null}),
        json!({"access_token": 5}),
        json!({}),
        json!("text"),
        json!({"access_token": "user:2000"}),
    ] {
        let told = client.send(&json!(["1", "7", "realtime:a", "access_token", payload]));
        assert_eq!(told, [] as [Value; 0], "{payload}");
    }
}

#[test]
fn a_valid_refresh_is_accepted_silently() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "user:2000");
    let told = client
        .send(&json!([null, "7", "realtime:a", "access_token", {"access_token": "other:3000"}]));
    assert_eq!(
        told,
        [json!({"expires": 3_000}), json!({"reclaim": "other"})]
    );
}

#[test]
fn a_refused_refresh_says_why_and_closes_the_channel() {
    for (token, message) in [
        ("", "The token provided is not a valid JWT"),
        ("u:990", "Token has expired 10 seconds ago"),
        ("roleless", "Fields `role` and `exp` are required in JWT"),
        ("unsigned", ":signature_error"),
    ] {
        let mut client = Client::new(Vsn::V2);
        client.joined("1", "user:2000");
        let told =
            client.send(&json!(["1", "7", "realtime:a", "access_token", {"access_token": token}]));
        assert_eq!(
            told,
            [closing(message), close("1"), json!("shut")],
            "{token}"
        );
        let told = client.send(&json!(["1", "8", "realtime:a", "broadcast", {}]));
        assert_eq!(told, [unmatched("8", "realtime:a")]);
    }
}

#[test]
fn an_expired_token_closes_its_channel_to_the_second() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "user:2000");
    client.now = 1_999;
    assert_eq!(client.expire(), [json!({"expires": 2_000})]);
    client.now = 2_000;
    assert_eq!(
        client.expire(),
        [
            closing("Token has expired 0 seconds ago"),
            close("1"),
            json!("shut")
        ]
    );
}

#[test]
fn a_refreshed_token_outlives_the_old_expiry() {
    let mut client = Client::new(Vsn::V2);
    client.joined("1", "user:2000");
    client.send(&json!(["1", "7", "realtime:a", "access_token", {"access_token": "user:3000"}]));
    client.now = 2_500;
    assert_eq!(client.expire(), [json!({"expires": 3_000})]);
}
