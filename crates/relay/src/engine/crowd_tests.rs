//! Promises about topics with members on several shards: one order, one crowd, two namespaces.

use std::sync::Arc;

use pgrelay_protocol::{Encoding, TokenError, Topic, Vsn, client_frame};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    mail::{Body, Cast},
    outlet::{Goodbye, Parcel},
    ports::{ChannelRights, FeedEvent, StoredMessage, StoredPayload},
    testing,
};

mod presence;

struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str, _now: u64) -> Result<Arc<Claims>, TokenError> {
        Ok(claims(token))
    }
}

fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        subject: None,
        expires_at: None,
        json: "{}".into(),
    })
}

/// What was sent, in order, and how the one who sends may hold back.
#[derive(Default)]
struct Sent {
    frames: Vec<(ClientKey, Value)>,
    refuses: bool,
}

impl Outlets for Sent {
    fn admits(&mut self, _receivers: usize) -> bool {
        !self.refuses
    }

    fn send(&mut self, client: ClientKey, parcel: &Parcel) {
        let Parcel::Frame(frame) = parcel else { return };
        let head = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let body = &frame[head..];
        let told = if frame[0] == 0x81 {
            serde_json::from_slice(body).unwrap()
        } else {
            json!({ "binary": body })
        };
        self.frames.push((client, told));
    }

    fn is_full(&mut self, _client: ClientKey) -> bool {
        false
    }

    fn close(&mut self, _client: ClientKey, _goodbye: Goodbye) {}
}

/// Several engines, and the mail between them.
struct Town {
    shards: Vec<(Engine, Sent)>,
    now: Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Person {
    shard: usize,
    client: ClientKey,
}

impl Town {
    fn new(shards: usize) -> Self {
        let config = Arc::new(Config {
            shards,
            ..testing::config()
        });
        let meters = Arc::default();
        let engine = |shard| {
            Engine::one_of_many(
                Arc::clone(&config),
                Arc::new(Tokens),
                Arc::clone(&meters),
                shard,
            )
        };
        let now = Now {
            instant: Instant::now(),
            unix: 1_000,
        };
        Self {
            shards: (0..shards)
                .map(|shard| (engine(shard), Sent::default()))
                .collect(),
            now,
        }
    }

    fn act<R>(&mut self, shard: usize, act: impl FnOnce(&mut Engine, &mut Turn<'_>) -> R) -> R {
        let (engine, outlets) = &mut self.shards[shard];
        let mut turn = Turn {
            now: self.now,
            outlets,
        };
        act(engine, &mut turn)
    }

    /// Lets everything come to rest, from the shard `first` on.
    fn settle(&mut self, first: usize) {
        let count = self.shards.len();
        loop {
            let mut busy = false;
            for shard in (0..count).map(|index| (first + index) % count) {
                busy |= self.act(shard, |engine, turn| engine.step(turn));
                while let Some((to, errand)) = self.shards[shard].0.next_errand() {
                    self.shards[to].0.run(errand);
                    busy = true;
                }
                while let Some((to, delivery)) = self.shards[shard].0.next_delivery() {
                    self.shards[to].0.take_delivery(delivery);
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn person(&mut self, shard: usize, vsn: Vsn) -> Person {
        let client = self.shards[shard].0.connect(vsn, "anon", claims("anon"));
        Person { shard, client }
    }

    fn send(&mut self, person: Person, vsn: Vsn, frame: &Value) {
        let frame = client_frame::decode_text(vsn, &frame.to_string()).unwrap();
        self.act(person.shard, |engine, turn| {
            engine.receive(person.client, frame, turn);
        });
    }

    fn push(&mut self, person: Person, event: &str, payload: &Value) {
        self.send(
            person,
            Vsn::V2,
            &json!(["1", "2", "realtime:a", event, payload]),
        );
    }

    /// Joins `realtime:a` with this config; questions are answered with all rights.
    fn joined(&mut self, shard: usize, config: &Value) -> Person {
        let person = self.person(shard, Vsn::V2);
        self.push(person, "phx_join", &json!({ "config": config }));
        self.answer(shard, ALL);
        self.settle(0);
        self.take(person);
        person
    }

    fn answer(&mut self, shard: usize, rights: ChannelRights) {
        let calls: Vec<_> = std::iter::from_fn(|| self.shards[shard].0.next_call()).collect();
        for call in calls {
            let Call::Channel { topic, claims } = call else {
                unreachable!("{call:?}")
            };
            let answer = Answer::Channel {
                topic,
                claims,
                outcome: Ok(rights),
            };
            self.act(shard, |engine, turn| engine.answer(answer, turn));
        }
    }

    fn take(&mut self, person: Person) -> Vec<Value> {
        let frames = &mut self.shards[person.shard].1.frames;
        let own = frames.extract_if(.., |(to, _)| *to == person.client);
        own.map(|(_, frame)| frame).collect()
    }

    /// The payloads of the messages of this event that came since they were last taken.
    fn heard(&mut self, person: Person, event: &str) -> Vec<Value> {
        let frames = self.take(person).into_iter();
        let of_event = frames.filter(|frame| frame[3] == event);
        of_event.map(|frame| frame[4].clone()).collect()
    }

    fn feed(&mut self, messages: &[StoredMessage]) {
        for shard in 0..self.shards.len() {
            let event = FeedEvent::Messages(messages.into());
            self.act(shard, |engine, turn| engine.feed(event, turn));
        }
        self.settle(0);
    }
}

const ALL: ChannelRights = ChannelRights {
    read: true,
    write: true,
    presence_read: true,
    presence_write: true,
};

const NOTHING: [Value; 0] = [];

fn stored(id: u128, private: bool) -> StoredMessage {
    StoredMessage {
        id: Uuid::from_u128(id),
        topic: "a".into(),
        event: "e".into(),
        private,
        payload: StoredPayload::Json("{}".into()),
        inserted_at_us: 0,
    }
}

#[test]
fn all_hear_the_same_order_wherever_they_are() {
    const SHARDS: usize = 3;
    let mut town = Town::new(SHARDS);
    let people: Vec<_> = (0..6)
        .map(|index| town.joined(index % SHARDS, &json!({"broadcast": {"self": true}})))
        .collect();
    // Everybody talks at once, and the shards take their turns in changing order.
    let mut random: u64 = 7;
    for number in 0..200 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let speaker = usize::try_from(random >> 33).unwrap() % people.len();
        town.push(
            people[speaker],
            "broadcast",
            &json!({"event": "n", "payload": number}),
        );
        if random >> 60 < 5 {
            town.settle(speaker % SHARDS);
        }
    }
    town.settle(0);
    let heard: Vec<_> = people
        .iter()
        .map(|person| town.heard(*person, "broadcast"))
        .collect();
    assert_eq!(heard[0].len(), 200);
    assert!(heard.iter().all(|other| *other == heard[0]));
}

#[test]
fn who_speaks_does_not_hear_itself_unless_it_wants_to() {
    let mut town = Town::new(2);
    let (speaker, other) = (town.joined(0, &json!({})), town.joined(1, &json!({})));
    town.push(speaker, "broadcast", &json!({"event": "e"}));
    town.settle(0);
    assert_eq!(town.take(speaker), NOTHING);
    assert_eq!(
        town.take(other),
        [json!([null, null, "realtime:a", "broadcast", {"event": "e"}])]
    );
}

#[test]
fn public_and_private_channels_of_one_name_never_mix() {
    let mut town = Town::new(2);
    let public = town.joined(0, &json!({"presence": {"enabled": true}}));
    let private = town.joined(1, &json!({"private": true, "presence": {"enabled": true}}));
    let track = json!({"event": "track", "payload": {}});
    for (speaker, other) in [(public, private), (private, public)] {
        town.push(speaker, "broadcast", &json!({"event": "e"}));
        town.push(speaker, "presence", &track);
        town.settle(0);
        assert_eq!(town.take(other), NOTHING);
        assert_eq!(town.take(speaker).len(), 2, "a reply and a diff");
    }
    town.feed(&[stored(1, true)]);
    assert_eq!((town.take(public).len(), town.take(private).len()), (0, 1));
    town.feed(&[stored(2, false)]);
    assert_eq!((town.take(public).len(), town.take(private).len()), (1, 0));
    let topic = Topic::parse("realtime:a").unwrap();
    let said = || Body::Plain(bytes::Bytes::from_static(b"{}"));
    for private_only in [true, false] {
        let cast = Cast::new(topic.clone(), private_only, said());
        town.act(0, |engine, _| {
            engine.send_home(&topic, crate::mail::Errand::Tell(cast));
        });
        town.settle(0);
        let (to_public, to_private) = (town.take(public).len(), town.take(private).len());
        assert_eq!(
            (to_public, to_private),
            (usize::from(!private_only), usize::from(private_only))
        );
    }
}

#[test]
fn every_origin_reaches_every_version_in_its_form() {
    let mut town = Town::new(1);
    let (v1, v2) = (town.person(0, Vsn::V1), town.joined(0, &json!({})));
    let join = json!({"topic": "realtime:a", "event": "phx_join", "payload": {}, "ref": "1"});
    town.send(v1, Vsn::V1, &join);
    town.take(v1);
    let topic = Topic::parse("realtime:a").unwrap();
    let user = |encoding, payload: &'static [u8], metadata: Option<&str>| Body::User {
        event: "e".into(),
        metadata: metadata.map(Into::into),
        encoding,
        payload: bytes::Bytes::from_static(payload),
    };
    let v1_text = |payload: Value| {
        vec![json!({"topic": "realtime:a", "event": "broadcast", "payload": payload, "ref": null})]
    };
    let binary = |metadata: &str, encoding: u8, payload: &[u8]| {
        let lengths = [4, 10, 1, u8::try_from(metadata.len()).unwrap(), encoding];
        let parts = [
            &lengths,
            "realtime:ae".as_bytes(),
            metadata.as_bytes(),
            payload,
        ];
        vec![json!({ "binary": parts.concat() })]
    };
    let plain = json!({"event": "e", "more": [1]});
    for (body, to_v1, to_v2) in [
        (
            Body::Plain(plain.to_string().into()),
            v1_text(plain.clone()),
            vec![json!([null, null, "realtime:a", "broadcast", plain])],
        ),
        (
            user(Encoding::Json, b"[1]", None),
            v1_text(json!({"type": "broadcast", "event": "e", "payload": [1]})),
            binary("", 1, b"[1]"),
        ),
        (
            user(Encoding::Json, b"[1]", Some("{\"id\":\"x\"}")),
            v1_text(
                json!({"type": "broadcast", "event": "e", "payload": [1], "meta": {"id": "x"}}),
            ),
            binary("{\"id\":\"x\"}", 1, b"[1]"),
        ),
        (
            user(Encoding::Binary, &[0, 255], None),
            vec![],
            binary("", 0, &[0, 255]),
        ),
    ] {
        town.act(0, |engine, _| {
            engine.tell_all(Cast::new(topic.clone(), false, body));
        });
        town.settle(0);
        assert_eq!((town.take(v1), town.take(v2)), (to_v1, to_v2));
    }
}

#[test]
fn what_is_said_is_written_once_for_all_of_one_version() {
    let mut town = Town::new(1);
    let people: Vec<_> = (0..50).map(|_| town.joined(0, &json!({}))).collect();
    town.shards[0].0.take_tally();
    town.push(people[0], "broadcast", &json!({"event": "e"}));
    town.settle(0);
    let tally = town.shards[0].0.take_tally();
    assert_eq!((tally.encoded, tally.broadcasts), (1, 49));
}

#[test]
fn what_cannot_be_handed_out_waits_and_stops_the_talk() {
    let mut town = Town::new(1);
    let (speaker, other) = (town.joined(0, &json!({})), town.joined(0, &json!({})));
    town.shards[0].1.refuses = true;
    let mut said = 0;
    while town.shards[0].0.wants_frames() {
        town.push(speaker, "broadcast", &json!({ "n": said }));
        town.act(0, |engine, turn| engine.step(turn));
        said += 1;
        assert!(said < 10_000, "nothing stops it");
    }
    assert_eq!(town.take(other), NOTHING);
    town.shards[0].1.refuses = false;
    town.settle(0);
    assert!(town.shards[0].0.wants_frames());
    let numbers: Vec<_> = (0..said).map(|n| json!({ "n": n })).collect();
    assert_eq!(town.heard(other, "broadcast"), numbers);
}

fn refs(entry: &Value) -> Vec<&str> {
    let metas = entry["metas"].as_array().into_iter().flatten();
    metas.filter_map(|meta| meta["phx_ref"].as_str()).collect()
}

#[test]
fn presence_is_told_to_all_and_ends_with_its_channel() {
    let mut town = Town::new(3);
    let enabled = |key: &str| json!({"presence": {"enabled": true, "key": key}});
    let (ann, bob) = (
        town.joined(0, &enabled("ann")),
        town.joined(1, &enabled("bob")),
    );
    let track = |meta: Value| json!({"event": "track", "payload": meta});
    town.push(ann, "presence", &track(json!({"n": 1})));
    town.settle(0);
    let diff = town.heard(ann, "presence_diff");
    assert_eq!(town.heard(bob, "presence_diff"), diff);
    let joined = &diff[0]["joins"]["ann"]["metas"][0];
    assert_eq!((&joined["n"], &diff[0]["leaves"]), (&json!(1), &json!({})));
    let first = refs(&diff[0]["joins"]["ann"])[0].to_owned();

    town.push(ann, "presence", &track(json!({"n": 2})));
    town.settle(0);
    let diff = town.heard(bob, "presence_diff");
    assert_eq!(diff.len(), 1, "an update is one diff");
    assert_eq!(diff[0]["joins"]["ann"]["metas"][0]["phx_ref_prev"], first);
    assert_eq!(refs(&diff[0]["leaves"]["ann"]), [&*first]);
    let second = refs(&diff[0]["joins"]["ann"])[0].to_owned();

    let carl = town.person(2, Vsn::V2);
    town.push(carl, "phx_join", &json!({"config": enabled("carl")}));
    town.settle(0);
    let state = town.take(carl);
    assert_eq!(state[1][0], "1", "told to one channel");
    let meta = json!({"n": 2, "phx_ref": second});
    assert_eq!(state[1][4], json!({"ann": {"metas": [meta]}}));

    town.act(0, |engine, _| engine.disconnect(ann.client));
    town.settle(0);
    let diff = town.heard(bob, "presence_diff");
    assert_eq!(
        (&diff[0]["joins"], refs(&diff[0]["leaves"]["ann"])),
        (&json!({}), vec![&*second])
    );
    let late = town.person(0, Vsn::V2);
    town.push(late, "phx_join", &json!({"config": enabled("late")}));
    town.settle(0);
    assert_eq!(town.take(late)[1][4], json!({}));
}

#[test]
fn several_changes_of_one_channel_are_several_diffs() {
    let mut town = Town::new(1);
    let (ann, bob) = (town.joined(0, &json!({})), town.joined(0, &json!({})));
    for event in ["track", "untrack", "track"] {
        town.push(ann, "presence", &json!({ "event": event }));
    }
    town.push(bob, "presence", &json!({"event": "track"}));
    town.settle(0);
    let diffs = town.heard(bob, "presence_diff");
    let sizes = |side: &str| -> Vec<_> {
        diffs
            .iter()
            .map(|diff| diff[side].as_object().unwrap().len())
            .collect()
    };
    assert_eq!(
        (sizes("joins"), sizes("leaves")),
        (vec![1, 0, 2], vec![0, 1, 0])
    );
}

#[test]
fn presence_is_withheld_from_who_may_not_see_it() {
    let mut town = Town::new(1);
    let private = json!({"private": true, "presence": {"enabled": true}});
    let watcher = town.joined(0, &private);
    let blind = town.person(0, Vsn::V2);
    town.push(blind, "phx_join", &json!({ "config": private }));
    town.answer(
        0,
        ChannelRights {
            presence_read: false,
            ..ALL
        },
    );
    town.settle(0);
    assert_eq!(town.heard(blind, "presence_state"), NOTHING);
    let silent = town.joined(0, &json!({"private": true}));
    town.push(watcher, "presence", &json!({"event": "track"}));
    town.settle(0);
    assert_eq!(town.heard(watcher, "presence_diff").len(), 1);
    assert_eq!(town.take(blind), NOTHING);
    assert_eq!(
        town.take(silent),
        NOTHING,
        "presence is off until it tracks"
    );
    town.push(silent, "presence", &json!({"event": "track"}));
    town.settle(0);
    assert_eq!(town.heard(silent, "presence_diff").len(), 1);
}

#[test]
fn a_member_without_the_right_to_read_hears_no_broadcast() {
    let mut town = Town::new(1);
    let private = json!({"private": true, "presence": {"enabled": true}});
    let speaker = town.joined(0, &private);
    let deaf = town.person(0, Vsn::V2);
    town.push(deaf, "phx_join", &json!({ "config": private }));
    town.answer(0, ChannelRights { read: false, ..ALL });
    town.settle(0);
    town.take(deaf);
    town.push(speaker, "broadcast", &json!({"event": "e"}));
    town.feed(&[stored(1, true)]);
    assert_eq!(town.take(deaf), NOTHING);
}

#[test]
fn questions_about_one_topic_and_claims_are_asked_once() {
    let mut town = Town::new(1);
    let private = json!({"config": {"private": true}});
    let people = [(); 3].map(|()| town.person(0, Vsn::V2));
    for person in people {
        town.push(person, "phx_join", &private);
    }
    let calls: Vec<_> = std::iter::from_fn(|| town.shards[0].0.next_call()).collect();
    let [Call::Channel { topic, claims }] = &*calls else {
        unreachable!("{calls:?}")
    };
    let answer = Answer::Channel {
        topic: topic.clone(),
        claims: Arc::clone(claims),
        outcome: Ok(ALL),
    };
    town.act(0, |engine, turn| engine.answer(answer, turn));
    for person in people {
        assert_eq!(town.take(person)[0][4]["status"], "ok");
    }
    let late = town.person(0, Vsn::V2);
    town.push(late, "phx_join", &private);
    assert!(
        town.shards[0].0.next_call().is_some(),
        "an answer is not kept"
    );
}

#[test]
fn between_a_replay_and_what_is_live_nothing_is_lost_and_nothing_comes_twice() {
    let mut town = Town::new(1);
    let person = town.person(0, Vsn::V2);
    let replay = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    town.push(person, "phx_join", &json!({ "config": replay }));
    town.answer(0, ALL);
    let Some(Call::Messages {
        client,
        incarnation,
        ..
    }) = town.shards[0].0.next_call()
    else {
        unreachable!("no replay was asked for")
    };
    // These come while the replay is read; it has seen the first of them.
    town.feed(&[stored(2, true), stored(3, true)]);
    assert_eq!(town.take(person), NOTHING, "nothing before the reply");
    let answer = Answer::Messages {
        client,
        incarnation,
        outcome: Ok(vec![stored(1, true), stored(2, true)]),
    };
    town.act(0, |engine, turn| engine.answer(answer, turn));
    town.feed(&[stored(1, true), stored(4, true)]);
    let told = town.take(person);
    assert_eq!((&told[0][3], told.len()), (&json!("phx_reply"), 5));
    for (frame, id) in told[1..3].iter().zip([1, 2]) {
        let meta = json!({"id": Uuid::from_u128(id), "replayed": true});
        assert_eq!(frame[4]["meta"], meta);
    }
    for (frame, id) in told[3..].iter().zip([3, 4]) {
        let bytes: Vec<u8> = serde_json::from_value(frame["binary"].clone()).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains(&Uuid::from_u128(id).to_string()), "{text}");
    }
}

#[test]
fn more_than_is_kept_during_a_replay_fails_its_join() {
    let mut town = Town::new(1);
    let person = town.person(0, Vsn::V2);
    let replay = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    town.push(person, "phx_join", &json!({ "config": replay }));
    town.answer(0, ALL);
    let messages: Vec<_> = (0..=rooms::HELD_MAX as u128)
        .map(|id| stored(id, true))
        .collect();
    town.feed(&messages[1..]);
    let count = |town: &Town| {
        town.shards[0]
            .0
            .session(person.client)
            .unwrap()
            .channel_count()
    };
    assert_eq!(count(&town), 1);
    town.feed(&messages[..1]);
    assert_eq!(count(&town), 0);
    town.now.instant += testing::config().join_error_delay;
    town.act(0, |engine, turn| engine.tick(turn));
    let reason = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(town.take(person)[0][4]["response"]["reason"], reason);
}

#[test]
fn readiness_comes_with_the_first_word_of_the_source() {
    let mut town = Town::new(1);
    let config = json!({"broadcast": {"replication_ready": true}});
    let early = town.person(0, Vsn::V2);
    town.push(early, "phx_join", &json!({ "config": config }));
    assert_eq!(town.heard(early, "system"), NOTHING);
    let head = testing::position(1, i64::MAX);
    town.act(0, |engine, turn| engine.feed(FeedEvent::Head(head), turn));
    let message = "Replication connection established";
    assert_eq!(town.heard(early, "system")[0]["message"], message);
    let late = town.person(0, Vsn::V2);
    town.push(late, "phx_join", &json!({ "config": config }));
    assert_eq!(town.heard(late, "system")[0]["message"], message);
    town.now.instant += std::time::Duration::from_secs(61);
    town.act(0, |engine, turn| engine.tick(turn));
    assert_eq!(
        (town.take(early), town.take(late)),
        (vec![], vec![]),
        "once"
    );

    let mut town = Town::new(1);
    let early = town.person(0, Vsn::V2);
    town.push(early, "phx_join", &json!({ "config": config }));
    town.take(early);
    town.now.instant += std::time::Duration::from_secs(61);
    town.act(0, |engine, turn| engine.tick(turn));
    let told = town.take(early);
    let message = "Replication connection was not established in time";
    assert_eq!(
        (&told[0][4]["message"], &told[1][3]),
        (&json!(message), &json!("phx_close"))
    );
}

#[test]
fn rooms_and_crowds_are_forgotten_with_their_last_member() {
    let mut town = Town::new(1);
    let people: Vec<_> = (0..5).map(|_| town.joined(0, &json!({}))).collect();
    for person in &people {
        town.push(*person, "presence", &json!({"event": "track"}));
    }
    town.settle(0);
    for index in [2, 0, 4, 1, 3] {
        town.act(0, |engine, _| engine.disconnect(people[index].client));
        town.settle(0);
    }
    let engine = &town.shards[0].0;
    let topic = Topic::parse("realtime:a").unwrap();
    assert!(engine.rooms.find(&topic, false).is_none() && engine.rooms.is_empty());
    assert!(engine.presences.is_empty());
}
