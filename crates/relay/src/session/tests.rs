//! Promises of one socket's channels, each shown by one sequence of frames.

use pgrelay_protocol::TokenError;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::ports::{ChannelError, StoredMessage, StoredPayload};

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
    instant: Instant,
    restarting: bool,
    config: Config,
    meters: Arc<Meters>,
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
            instant: Instant::now(),
            restarting: false,
            config: Config {
                channels_per_client_max: CHANNELS_MAX,
                ..crate::testing::config()
            },
            meters: Arc::default(),
        }
    }

    /// Effects as text: messages as they are, everything else named. Seats are given on the way.
    fn told(&mut self, effects: Vec<Effect>) -> Vec<Value> {
        let message = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
        effects
            .into_iter()
            .filter_map(|effect| {
                Some(match effect {
                Effect::Say(text) => message(&text),
                Effect::Seat(seating) => {
                    self.session.seated(seating.incarnation, MemberKey::of(0));
                    if !seating.private && !seating.held {
                        return None;
                    }
                    json!({"seat": seating.topic.as_str(), "held": seating.held, "hears": seating.hearing.broadcasts})
                }
                Effect::Unseat(_) | Effect::Forget(_) => return None,
                Effect::SayBinary(bytes) => json!({"binary": bytes}),
                Effect::TurnAway => json!("turn away"),
                Effect::Authorize(_, topic, claims) => {
                    json!({"authorize": topic.as_str(), "role": claims.role})
                }
                Effect::Replay(_, _, wish) => {
                    json!({"replay": wish.since_ms, "limit": wish.limit})
                }
                Effect::Release(_, ids) => json!({"release": ids.len()}),
                Effect::Hear(_, hearing) => {
                    json!({"hear": [hearing.broadcasts, hearing.presence]})
                }
                Effect::Broadcast(_, body) => match body {
                    Body::Plain(payload) => json!({"say": message(&payload)}),
                    Body::User { event, payload, .. } => {
                        json!({"say": event, "bytes": payload.len()})
                    }
                    Body::PresenceDiff(_) => unreachable!(),
                },
                Effect::Presence(_, wish) => match wish {
                    PresenceWish::Track { key, meta } => {
                        json!({"track": message(meta.as_bytes()), "key": key})
                    }
                    PresenceWish::Untrack => json!("untrack"),
                    PresenceWish::State => json!("who is there"),
                },
                Effect::AwaitReady(_) => json!("await ready"),
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
            })
            .collect()
    }

    fn send(&mut self, frame: &Value) -> Vec<Value> {
        let frame =
            pgrelay_protocol::client_frame::decode_text(self.vsn, &frame.to_string()).unwrap();
        let effects = self.decide(|session, rules| session.receive(frame, rules));
        self.told(effects)
    }

    fn decide(
        &mut self,
        decide: impl FnOnce(&mut Session, Rules<'_>) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let rules = Rules {
            config: &self.config,
            meters: &self.meters,
            now: Now {
                instant: self.instant,
                unix: self.now,
            },
            restarting: self.restarting,
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
        let effects = self.decide(|session, rules| session.expire(channel, rules));
        self.told(effects)
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
    for event in ["whatever", "heartbeat"] {
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

/// A broadcast as a text frame.
fn broadcast(reference: &str, payload: &Value) -> Value {
    json!(["1", reference, "realtime:a", "broadcast", payload])
}

fn presence(reference: &str, payload: &Value) -> Value {
    json!(["1", reference, "realtime:a", "presence", payload])
}

fn done(reference: &str) -> Value {
    json!(["1", reference, "realtime:a", "phx_reply", {"status": "ok", "response": {}}])
}

const NOTHING: [Value; 0] = [];

impl Client {
    fn join_with(&mut self, config: &Value) -> Vec<Value> {
        self.join("1", "realtime:a", &json!({"config": config}))
    }

    fn authorize(&mut self, role: &str, outcome: Result<ChannelRights, &str>) -> Vec<Value> {
        let channel = &self.session.channels[0];
        let (incarnation, asked) = (channel.incarnation, channel.asked.clone());
        let claims = asked.unwrap_or_else(|| claims(role, Some(5_000)));
        assert_eq!(&*claims.role, role);
        let outcome = outcome.map_err(|message| ChannelError {
            message: message.to_owned(),
            retryable: true,
        });
        let effects =
            self.decide(|session, rules| session.authorized(incarnation, &claims, &outcome, rules));
        self.told(effects)
    }

    fn replay(&mut self, messages: Option<&[StoredMessage]>) -> Vec<Value> {
        let incarnation = self.session.channels[0].incarnation;
        let effects = self.decide(|session, rules| session.replayed(incarnation, messages, rules));
        self.told(effects)
    }
}

const ALL: ChannelRights = ChannelRights {
    read: true,
    write: true,
    presence_read: true,
    presence_write: true,
};

#[test]
fn a_broadcast_is_acknowledged_where_the_join_asked_for_it() {
    let payload = json!({"type": "broadcast", "event": "e", "payload": {"a": 1}, "extra": []});
    for (ack, reply) in [(true, Some(done("5"))), (false, None)] {
        let mut client = Client::new(Vsn::V2);
        client.join_with(&json!({"broadcast": {"ack": ack}}));
        let told = client.send(&broadcast("5", &payload));
        let said = json!({ "say": payload });
        assert_eq!(told, reply.into_iter().chain([said]).collect::<Vec<_>>());
    }
}

#[test]
fn stale_join_references_are_accepted_and_answered_with_the_current_one() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"broadcast": {"ack": true}}));
    for join_ref in [json!(null), json!("0")] {
        let told = client.send(&json!([join_ref, "5", "realtime:a", "broadcast", {"event": "e"}]));
        assert_eq!(told[0], done("5"));
        let track = json!({"event": "track", "payload": {}});
        let told = client.send(&json!([join_ref, "6", "realtime:a", "presence", track]));
        assert_eq!(told[0], done("6"));
    }
}

#[test]
fn a_broadcast_may_be_as_large_as_its_limit_and_no_larger() {
    for (ack, over) in [(true, 1), (false, 0)] {
        let mut client = Client::new(Vsn::V2);
        client.config.payload_bytes_max = 100;
        client.join_with(&json!({"broadcast": {"ack": ack}}));
        let sized = |bytes: usize| json!({"p": "x".repeat(bytes - r#"{"p":""}"#.len())});
        assert_eq!(client.send(&broadcast("5", &sized(100))).len(), 1 + over);
        let told = client.send(&broadcast("5", &sized(101)));
        let error = json!({"status": "error", "response": "payload_size_exceeded"});
        let refused = json!(["1", "5", "realtime:a", "phx_reply", error]);
        assert_eq!(told, vec![refused; over]);
    }
}

#[test]
fn events_beyond_their_rate_close_their_channel() {
    let mut client = Client::new(Vsn::V2);
    client.config.events_per_second_max = Some(2);
    client.join_with(&json!({}));
    for event in ["broadcast", "whatever"] {
        client.send(&json!(["1", "5", "realtime:a", event, {}]));
    }
    let told = client.send(&broadcast("5", &json!({})));
    assert_eq!(told, [closing("Too many messages per second"), close("1")]);
    client.join_with(&json!({}));
    client.now += 1;
    let told = client.send(&broadcast("5", &json!({})));
    assert_eq!(told, [json!({"say": {}})]);
}

#[test]
fn joins_beyond_their_rate_turn_the_socket_away() {
    let mut client = Client::new(Vsn::V2);
    client.config.joins_per_second_max = Some(2);
    for _ in 0..2 {
        assert_eq!(client.join_with(&json!({}))[0], ok("1", "realtime:a"));
    }
    let reason = "ClientJoinRateLimitReached: Too many joins per second";
    let told = client.join_with(&json!({}));
    let expected = [
        refused("1", "realtime:a", reason),
        close("1"),
        json!("turn away"),
    ];
    assert_eq!(told, expected);
    client.now += 1;
    assert_eq!(client.join_with(&json!({}))[0], ok("1", "realtime:a"));
}

#[test]
fn clients_beyond_their_number_do_not_join() {
    let meters = Arc::<Meters>::default();
    let [mut first, mut second] = [(); 2].map(|()| {
        let mut client = Client::new(Vsn::V2);
        client.config.clients_max = Some(1);
        client.meters = Arc::clone(&meters);
        client
    });
    for topic in ["realtime:a", "realtime:b"] {
        assert_eq!(first.join("1", topic, &json!({}))[0], ok("1", topic));
    }
    let reason = "ConnectionRateLimitReached: Too many connected users";
    let refused = json!({"later": [refused("1", "realtime:a", reason)]});
    assert_eq!(second.join_with(&json!({})), [refused]);
    second.config.clients_max = Some(2);
    assert_eq!(second.join_with(&json!({}))[0], ok("1", "realtime:a"));
}

#[test]
fn only_private_channels_may_be_all_there_is() {
    let mut client = Client::new(Vsn::V2);
    client.config.private_only = true;
    let reason = "PrivateOnly: This project only allows private channels";
    let told = client.join_with(&json!({"private": false}));
    assert_eq!(
        told,
        [json!({"later": [refused("1", "realtime:a", reason)]})]
    );
    let told = client.join_with(&json!({"private": true}));
    assert_eq!(told, [json!({"authorize": "realtime:a", "role": "anon"})]);
}

#[test]
fn a_private_join_is_answered_by_the_policies() {
    let check = |rights, presence: bool, joins: bool| {
        let mut client = Client::new(Vsn::V2);
        client.join_with(&json!({"private": true, "presence": {"enabled": presence}}));
        let told = client.authorize("anon", Ok(rights));
        let reason = "Unauthorized: You do not have permissions to read from this Channel topic: a";
        if joins {
            assert_eq!(told[0], ok("1", "realtime:a"));
        } else {
            assert_eq!(
                told,
                [json!({"later": [refused("1", "realtime:a", reason)]})]
            );
            assert_eq!(client.session.channel_count(), 0);
        }
    };
    let none = ChannelRights::default();
    check(ALL, false, true);
    check(ChannelRights { read: true, ..none }, false, true);
    check(
        ChannelRights {
            presence_read: true,
            ..none
        },
        true,
        true,
    );
    check(
        ChannelRights {
            presence_read: true,
            ..none
        },
        false,
        false,
    );
    check(
        ChannelRights {
            write: true,
            presence_write: true,
            ..none
        },
        true,
        false,
    );
}

#[test]
fn what_the_policies_cannot_say_refuses_the_join_with_their_words() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true}));
    let words = "Realtime was unable to connect to the project database";
    let told = client.authorize("anon", Err(words));
    assert_eq!(
        told,
        [json!({"later": [refused("1", "realtime:a", words)]})]
    );
}

#[test]
fn what_is_sent_before_a_join_is_decided_comes_after_it() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true, "broadcast": {"ack": true}}));
    for reference in ["5", "6"] {
        assert_eq!(client.send(&broadcast(reference, &json!({}))), NOTHING);
    }
    let told = client.authorize("anon", Ok(ALL));
    assert_eq!(told[0], ok("1", "realtime:a"));
    let said = json!({"say": {}});
    assert_eq!(
        told[told.len() - 4..],
        [done("5"), said.clone(), done("6"), said]
    );

    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true}));
    for _ in 0..WAITING_MAX {
        assert_eq!(client.send(&broadcast("5", &json!({}))), NOTHING);
    }
    let told = client.send(&broadcast("6", &json!({})));
    assert_eq!(told, [unmatched("6", "realtime:a")]);
}

#[test]
fn a_leave_takes_back_an_undecided_join() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true}));
    let told = client.send(&json!(["1", "8", "realtime:a", "phx_leave", {}]));
    assert_eq!(told, [done("8"), close("1")]);
    assert_eq!(client.session.channel_count(), 0);
}

#[test]
fn who_may_not_write_is_not_heard_and_not_told() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true, "broadcast": {"ack": true}}));
    client.authorize(
        "anon",
        Ok(ChannelRights {
            write: false,
            ..ALL
        }),
    );
    assert_eq!(client.send(&broadcast("5", &json!({}))), NOTHING);
}

#[test]
fn a_new_token_has_the_rights_asked_again() {
    let refresh = |client: &mut Client, token: &str| {
        client.send(&json!([null, "7", "realtime:a", "access_token", {"access_token": token}]))
    };
    let none = ChannelRights::default();
    let lost = "You no longer have permission to read from this Channel topic: a";
    let no = "You do not have permissions to read from this Channel topic: a";
    for (before, after, end) in [
        (ALL, none, Some(no)),
        (
            ALL,
            ChannelRights {
                presence_read: false,
                ..ALL
            },
            Some(lost),
        ),
        (ALL, ChannelRights { read: false, ..ALL }, Some(lost)),
        (ChannelRights { read: false, ..ALL }, none, Some(no)),
        (ChannelRights { read: false, ..ALL }, ALL, None),
        (ALL, ALL, None),
    ] {
        let mut client = Client::new(Vsn::V2);
        client.join_with(&json!({"private": true, "presence": {"enabled": true}}));
        client.authorize("anon", Ok(before));
        let told = refresh(&mut client, "other:3000");
        let ask = json!({"authorize": "realtime:a", "role": "other"});
        let reclaim = json!({"reclaim": "other"});
        assert_eq!(told, [json!({"expires": 3_000}), ask, reclaim]);
        let told = client.authorize("other", Ok(after));
        match end {
            Some(end) => assert_eq!(told, [closing(end), close("1")]),
            None => assert_eq!(told, [json!({"hear": [true, true]})]),
        }
    }
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true, "broadcast": {"ack": true}}));
    client.authorize("anon", Ok(ALL));
    refresh(&mut client, "other:3000");
    client.authorize(
        "other",
        Ok(ChannelRights {
            write: false,
            ..ALL
        }),
    );
    assert_eq!(
        client.send(&broadcast("5", &json!({}))),
        NOTHING,
        "forgotten"
    );
    refresh(&mut client, "third:3000");
    let told = client.authorize("third", Err("words"));
    assert_eq!(told, [closing("words"), close("1")]);
}

#[test]
fn an_answer_about_an_older_token_changes_nothing() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true}));
    client.authorize("anon", Ok(ALL));
    client.send(&json!([null, "7", "realtime:a", "access_token", {"access_token": "other:3000"}]));
    let incarnation = client.session.channels[0].incarnation;
    let old = claims("anon", Some(5_000));
    let outcome = Ok(ChannelRights::default());
    let effects =
        client.decide(|session, rules| session.authorized(incarnation, &old, &outcome, rules));
    assert!(effects.is_empty(), "{effects:?}");
}

fn stored(id: u128, payload: StoredPayload) -> StoredMessage {
    StoredMessage {
        id: Uuid::from_u128(id),
        topic: "a".into(),
        event: "e".into(),
        private: true,
        payload,
        inserted_at_us: 0,
    }
}

#[test]
fn a_replay_follows_the_reply_and_comes_before_what_is_new() {
    let messages = [
        stored(1, StoredPayload::Json("{\"v\":1}".into())),
        stored(2, StoredPayload::Binary(bytes::Bytes::from_static(&[7]))),
    ];
    let config = json!({"private": true, "broadcast": {"replay": {"since": 5, "limit": 99}}});
    let meta = json!({"id": Uuid::from_u128(1), "replayed": true});
    let payload = json!({"type": "broadcast", "event": "e", "payload": {"v": 1}, "meta": meta});
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut client = Client::new(vsn);
        let join = json!({"topic": "realtime:a", "event": "phx_join", "ref": "1", "join_ref": "1", "payload": {"config": config}});
        match vsn {
            Vsn::V1 => client.send(&join),
            Vsn::V2 => client.join_with(&config),
        };
        let told = client.authorize("anon", Ok(ALL));
        let seat = json!({"seat": "realtime:a", "held": true, "hears": true});
        assert_eq!(told, [seat, json!({"replay": 5, "limit": 25})]);
        let told = client.replay(Some(&messages));
        if vsn == Vsn::V2 {
            assert_eq!(told[0], ok("1", "realtime:a"));
            assert_eq!(
                told[2],
                json!(["1", null, "realtime:a", "broadcast", payload])
            );
            assert_eq!(told[3]["binary"][0], 4);
            assert_eq!(told[4], json!({"release": 2}));
        } else {
            assert_eq!(told[2]["payload"], payload);
            assert_eq!(told[3], json!({"release": 2}), "no bytes for 1.0.0");
        }
    }
}

#[test]
fn replays_that_cannot_be_given_refuse_the_join() {
    let prefix = "UnableToReplayMessages: ";
    let public = json!({"broadcast": {"replay": {"since": 1}}});
    let told = Client::new(Vsn::V2).join_with(&public);
    let reason = format!("{prefix}Replay is not allowed for public channels");
    assert_eq!(
        told,
        [json!({"later": [refused("1", "realtime:a", &reason)]})]
    );

    let reason = format!("{prefix}Replay params are not valid");
    for replay in [
        json!({}),
        json!({"since": "1"}),
        json!({"since": 1, "limit": "2"}),
        json!({"since": i64::MAX}),
    ] {
        let mut client = Client::new(Vsn::V2);
        client.join_with(&json!({"private": true, "broadcast": {"replay": replay}}));
        let told = client.authorize("anon", Ok(ALL));
        assert_eq!(
            told,
            [json!({"later": [refused("1", "realtime:a", &reason)]})],
            "{replay}"
        );
    }

    let private = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    let mut client = Client::new(Vsn::V2);
    client.join_with(&private);
    client.authorize("anon", Ok(ALL));
    let reason = format!("{prefix}Realtime was unable to replay messages");
    let told = client.replay(None);
    assert_eq!(
        told,
        [json!({"later": [refused("1", "realtime:a", &reason)]})]
    );

    let mut client = Client::new(Vsn::V2);
    let mut config = private;
    config["presence"] = json!({"enabled": true});
    client.join_with(&config);
    let told = client.authorize("anon", Ok(ChannelRights { read: false, ..ALL }));
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: a";
    assert_eq!(
        told,
        [json!({"later": [refused("1", "realtime:a", reason)]})]
    );
}

#[test]
fn presence_pushes_are_answered_one_by_one() {
    let mut client = Client::new(Vsn::V2);
    let told = client.join_with(&json!({"presence": {"enabled": true, "key": "k"}}));
    assert_eq!(told.last(), Some(&json!("who is there")));
    let track = |meta: Value| presence("5", &json!({"event": "TRACK", "payload": meta}));
    let tracked = |meta: Value| json!({"track": meta, "key": "k"});
    let untrack = presence("5", &json!({"event": "untrack"}));
    assert_eq!(client.send(&untrack), [done("5")], "nothing was tracked");
    let told = client.send(&track(json!({"a": 1})));
    assert_eq!(told, [done("5"), tracked(json!({"a": 1}))]);
    assert_eq!(
        client.send(&track(json!({"a": 1}))),
        [done("5")],
        "the same again"
    );
    let told = client.send(&track(json!({"a": 2})));
    assert_eq!(told, [done("5"), tracked(json!({"a": 2}))]);
    assert_eq!(client.send(&untrack), [done("5"), json!("untrack")]);
    let told = client.send(&track(json!({"a": 2})));
    assert_eq!(told, [done("5"), tracked(json!({"a": 2}))]);
    assert_eq!(client.send(&presence("5", &json!({}))), [done("5")]);
    let error = |response: Value| json!(["1", "5", "realtime:a", "phx_reply", {"status": "error", "response": response}]);
    let told = client.send(&track(json!("not a map")));
    assert_eq!(
        told,
        [error(
            json!({"reason": "Presence track payload must be a map"})
        )]
    );
    let told = client.send(&presence("5", &json!({"event": "jump"})));
    assert_eq!(told, [error(json!({}))]);
}

#[test]
fn tracking_switches_presence_on_without_a_state() {
    let rights = ChannelRights {
        write: false,
        ..ALL
    };
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true}));
    let told = client.authorize("anon", Ok(rights));
    assert_ne!(told.last(), Some(&json!("who is there")));
    for event in ["untrack", "jump"] {
        let told = client.send(&presence("5", &json!({ "event": event })));
        assert_eq!(told.len(), 1, "does not switch it on");
    }
    let told = client.send(&presence("5", &json!({"event": "track"})));
    assert_eq!(told[..2], [done("5"), json!({"hear": [true, true]})]);
    assert_eq!(told[2]["track"], json!({}));
    assert_eq!(told[2]["key"].as_str().map(str::len), Some(36), "made up");
}

#[test]
fn presence_needs_the_right_to_it() {
    let mut client = Client::new(Vsn::V2);
    client.join_with(&json!({"private": true, "presence": {"enabled": true}}));
    let rights = ChannelRights {
        presence_read: false,
        presence_write: false,
        ..ALL
    };
    let told = client.authorize("anon", Ok(rights));
    assert_ne!(told.last(), Some(&json!("who is there")));
    let told = client.send(&presence("5", &json!({"event": "track"})));
    let error = json!({"status": "error", "response": {}});
    assert_eq!(told, [json!(["1", "5", "realtime:a", "phx_reply", error])]);
    assert_eq!(
        client.send(&presence("5", &json!({"event": "untrack"}))),
        [done("5")]
    );
}

#[test]
fn presence_may_be_on_for_everybody() {
    let mut client = Client::new(Vsn::V2);
    client.config.presence_enabled = true;
    let told = client.join_with(&json!({}));
    assert_eq!(told.last(), Some(&json!("who is there")));
}

#[test]
fn presence_beyond_its_limits_closes_its_channel() {
    let mut client = Client::new(Vsn::V2);
    client.config.presence_calls_max = Some(2);
    client.join_with(&json!({}));
    let untrack = presence("5", &json!({"event": "untrack"}));
    for _ in 0..2 {
        assert_eq!(client.send(&untrack), [done("5")]);
    }
    client.instant += client.config.presence_window + std::time::Duration::from_millis(1);
    for _ in 0..2 {
        assert_eq!(client.send(&untrack), [done("5")], "another window");
    }
    let end = closing("Client presence rate limit exceeded");
    assert_eq!(client.send(&untrack), [end, close("1")]);

    let mut client = Client::new(Vsn::V2);
    client.config.presence_events_per_second_max = Some(2);
    client.join_with(&json!({"presence": {"enabled": true}}));
    assert_eq!(client.send(&untrack), [done("5")]);
    let end = closing("Too many presence messages per second");
    assert_eq!(client.send(&untrack), [end.clone(), close("1")]);
    let told = client.join_with(&json!({"presence": {"enabled": true}}));
    assert_eq!(told[0], ok("1", "realtime:a"), "the join succeeds");
    assert_eq!(told[told.len() - 2..], [end, close("1")]);

    let mut client = Client::new(Vsn::V2);
    client.config.payload_bytes_max = 100;
    client.join_with(&json!({}));
    let track = |bytes: usize| {
        let meta = json!({"p": "x".repeat(bytes - r#"{"p":""}"#.len())});
        presence("5", &json!({"event": "track", "payload": meta}))
    };
    assert_eq!(client.send(&track(100))[0], done("5"));
    let end = closing("Track message size exceeded");
    assert_eq!(client.send(&track(101)), [end, close("1")]);
}

#[test]
fn readiness_is_told_once_or_ends_the_channel() {
    let mut client = Client::new(Vsn::V2);
    let told = client.join_with(&json!({"broadcast": {"replication_ready": true}}));
    assert_eq!(told.last(), Some(&json!("await ready")));
    let channel = client.session.channels[0].incarnation;
    let effects = client.session.ready(channel, true);
    let message = "Replication connection established";
    let payload =
        json!({"channel": "a", "extension": "system", "status": "ok", "message": message});
    let told = client.told(effects);
    assert_eq!(told, [json!(["1", null, "realtime:a", "system", payload])]);
    let effects = client.session.ready(channel, false);
    let message = "Replication connection was not established in time";
    assert_eq!(client.told(effects), [closing(message), close("1")]);
    assert!(client.session.ready(channel, true).is_empty());
    let told = client.join_with(&json!({}));
    assert_ne!(told.last(), Some(&json!("await ready")));
}

#[test]
fn an_operator_says_farewell_to_every_channel() {
    let mut client = Client::new(Vsn::V2);
    client.join("1", "realtime:a", &json!({}));
    client.join("2", "realtime:b", &json!({}));
    let payload =
        json!({"extension": "system", "status": "ok", "message": "Server requested disconnect"});
    let told: Vec<Value> = client
        .session
        .farewell()
        .iter()
        .map(|text| serde_json::from_slice(text).unwrap())
        .collect();
    let expected =
        ["realtime:a", "realtime:b"].map(|topic| json!([null, null, topic, "system", payload]));
    assert_eq!(told, expected);
}
