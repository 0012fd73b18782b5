//! Promises that one sequence of events shows; the simulation looks for all others.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pgrelay_protocol::{CursorKey, FilterOp, RefetchReason, TokenError, Vsn, client_frame};
use serde_json::{Value, json};

use super::*;
use crate::{
    change::{Change, Relation},
    filter::{FilterTest, ResolvedBinding, Scalar, Test},
    outlet::{Goodbye, Parcel},
    ports::{BindingError, ChannelRights, EvaluateError, FeedEvent},
    testing::{change, page, position, table},
    view::{Glance, Rights, Sight, Viewer},
};

struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str, _now: u64) -> Result<Arc<Claims>, TokenError> {
        if token == "potato" {
            return Err(TokenError::Malformed);
        }
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

/// What was sent, in order.
#[derive(Default)]
struct Sent(Vec<(ClientKey, Value)>);

impl Outlets for Sent {
    fn admits(&mut self, _receivers: usize) -> bool {
        true
    }

    fn send(&mut self, client: ClientKey, parcel: &Parcel) {
        let Parcel::Frame(frame) = parcel else { return };
        let head = if frame[1] < 126 { 2 } else { 4 };
        if frame[0] == 0x89 {
            let payload = String::from_utf8(frame[head..].to_vec()).unwrap();
            let ping = json!([null, null, "", "ping", payload]);
            return self.0.push((client, ping));
        }
        let message = serde_json::from_slice(&frame[head..]).unwrap();
        self.0.push((client, message));
    }

    fn is_full(&mut self, _client: ClientKey) -> bool {
        false
    }

    fn close(&mut self, _client: ClientKey, _goodbye: Goodbye) {}
}

struct Stage {
    engine: Engine,
    calls: VecDeque<Call>,
    /// What every role may see, whenever the engine asks; `None`: the test answers.
    rights: Option<Arc<Rights>>,
    sent: Sent,
    now: Now,
    relation: Arc<Relation>,
}

impl Stage {
    /// A source that stands after batch 1 of a table `t` with these columns.
    fn new(columns: &str) -> Self {
        let config = Config {
            bindings_per_channel_max: 2,
            ..crate::testing::config()
        };
        let now = Now {
            instant: Instant::now(),
            unix: 1_000,
        };
        let mut stage = Self {
            engine: Engine::new(config, Arc::new(Tokens)),
            calls: VecDeque::new(),
            rights: Some(Arc::new(Rights::all())),
            sent: Sent::default(),
            now,
            relation: table(1, "t", columns).into(),
        };
        stage.feed(FeedEvent::Head(position(1, i64::MAX)));
        stage
    }

    fn turn(&mut self) -> (&mut Engine, Turn<'_>) {
        let outlets = &mut self.sent;
        let now = self.now;
        (&mut self.engine, Turn { now, outlets })
    }

    fn feed(&mut self, event: FeedEvent) {
        let (engine, mut turn) = self.turn();
        engine.feed(event, &mut turn);
        while engine.step(&mut turn) {}
        self.collect();
    }

    /// Takes the engine's calls; looks are answered where the test leaves that to the stage.
    fn collect(&mut self) {
        while let Some(call) = self.engine.next_call() {
            match (call, &self.rights) {
                (Call::Look { key, viewers, .. }, Some(rights)) => {
                    let sight = Sight {
                        rights: vec![(1, Arc::clone(rights))],
                        rows: Vec::new(),
                    };
                    let outcome = Ok(vec![Ok(sight); viewers.len()]);
                    self.answer(Answer::Looked { key, outcome });
                }
                (call, _) => self.calls.push_back(call),
            }
        }
    }

    fn next_call(&mut self) -> Option<Call> {
        self.collect();
        self.calls.pop_front()
    }

    /// A batch of these changes, written as in [`change`].
    fn commit(&mut self, batch: u64, changes: &[&str]) {
        let change = |(seq, text): (i64, &&str)| -> Change { change(seq, &self.relation, text) };
        let page = page(batch, (1..).zip(changes).map(change).collect());
        self.feed(FeedEvent::Page(page));
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        let (engine, mut turn) = self.turn();
        engine.tick(&mut turn);
    }

    fn connect(&mut self) -> ClientKey {
        self.engine.connect(Vsn::V2, "token", claims("anon"))
    }

    fn send(&mut self, client: ClientKey, frame: &Value) {
        let frame = client_frame::decode_text(Vsn::V2, &frame.to_string()).unwrap();
        let (engine, mut turn) = self.turn();
        engine.receive(client, frame, &mut turn);
    }

    fn join(&mut self, client: ClientKey, entries: &Value) {
        let payload = json!({"config": {"postgres_changes": entries}});
        self.send(
            client,
            &json!(["1", "1", "realtime:a", "phx_join", payload]),
        );
    }

    /// Connects, joins, and has every question answered with `resolved`.
    fn joined(&mut self, entries: &Value, resolved: &ResolvedBinding) -> ClientKey {
        let client = self.connect();
        self.join(client, entries);
        self.resolve(|_| Ok(resolved.clone()));
        self.take(client);
        client
    }

    /// Answers all questions about bindings; how many there were.
    fn resolve(
        &mut self,
        answer: impl Fn(&Claims) -> Result<ResolvedBinding, BindingError>,
    ) -> usize {
        let calls: Vec<_> = std::iter::from_fn(|| self.next_call()).collect();
        let count = calls.len();
        for call in calls {
            let Call::Resolve { spec, claims } = call else {
                unreachable!("{call:?}")
            };
            let outcome = answer(&claims);
            self.answer(Answer::Resolved {
                spec,
                claims,
                outcome,
            });
        }
        count
    }

    fn answer(&mut self, answer: Answer) {
        let (engine, mut turn) = self.turn();
        engine.answer(answer, &mut turn);
        while engine.step(&mut turn) {}
        self.collect();
    }

    /// The evaluation that was asked for.
    fn evaluation(&mut self) -> (EvaluationKey, Vec<u32>) {
        match self.next_call() {
            Some(Call::Evaluate { key, changes, .. }) => (key, changes),
            other => unreachable!("{other:?}"),
        }
    }

    /// What was sent to `client` since this was last asked: a change by its `id`, a system message
    /// by its text, everything else by its event.
    fn take(&mut self, client: ClientKey) -> Vec<String> {
        let told = self.sent.0.extract_if(.., |(to, _)| *to == client);
        told.map(|(_, message)| summary(&message)).collect()
    }
}

fn summary(message: &Value) -> String {
    let payload = &message[4];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match message[3].as_str().unwrap() {
        "postgres_changes" => {
            let data = &payload["data"];
            let row = if data["record"].is_object() {
                &data["record"]
            } else {
                &data["old_record"]
            };
            row["id"].to_string()
        }
        "system" => [text(&payload["message"]), text(&payload["reason"])]
            .join(" ")
            .trim()
            .to_owned(),
        event => event.to_owned(),
    }
}

fn everything() -> ResolvedBinding {
    ResolvedBinding {
        relation: Some(1),
        tests: Arc::new([]),
        rights: None,
    }
}

fn filtered(test: Test) -> ResolvedBinding {
    let test = FilterTest {
        column: "v".into(),
        negate: false,
        test,
    };
    ResolvedBinding {
        tests: Arc::new([test]),
        ..everything()
    }
}

fn undecided() -> ResolvedBinding {
    filtered(Test::Database {
        op: FilterOp::Like,
        value: "x".into(),
    })
}

fn entry() -> Value {
    json!([{"schema": "public", "table": "t"}])
}

fn since_now() -> Value {
    json!([{"schema": "public", "table": "t", "since": "now"}])
}

const COLUMNS: &str = "id:int8:pk v:int8";
const SUBSCRIBED: &str = "Subscribed to PostgreSQL";

#[test]
fn a_refused_join_waits_and_nothing_else_does() {
    let mut stage = Stage::new(COLUMNS);
    let client = stage.connect();
    let refused = json!(["1", "1", "realtime:b", "phx_join", {"access_token": "potato"}]);
    stage.send(client, &refused);
    stage.send(client, &json!([null, "2", "phoenix", "heartbeat", {}]));
    assert_eq!(stage.take(client).len(), 1, "the heartbeat only");
    stage.pass(Duration::from_millis(4_999));
    assert_eq!(stage.take(client), [] as [&str; 0]);
    stage.pass(Duration::from_millis(1));
    assert_eq!(stage.take(client), ["phx_reply"]);
}

#[test]
fn equal_questions_are_asked_once() {
    let mut stage = Stage::new(COLUMNS);
    let clients: Vec<_> = (0..100).map(|_| stage.connect()).collect();
    for client in &clients {
        stage.join(*client, &entry());
    }
    assert_eq!(stage.resolve(|_| Ok(everything())), 1);
    for client in clients {
        assert_eq!(stage.take(client), ["phx_reply", SUBSCRIBED]);
    }
}

#[test]
fn a_change_is_written_once_for_all_who_share_its_text() {
    let mut stage = Stage::new(COLUMNS);
    let clients: Vec<_> = (0..100)
        .map(|_| stage.joined(&entry(), &everything()))
        .collect();
    stage.engine.take_tally();
    stage.commit(2, &[r#"I {"id":7,"v":1}"#]);
    for client in clients {
        assert_eq!(stage.take(client), ["7"]);
    }
    let tally = stage.engine.take_tally();
    assert_eq!((tally.deliveries, tally.encoded), (100, 1));
}

#[test]
fn a_question_that_finds_no_answer_is_asked_again_ever_later() {
    let mut stage = Stage::new(COLUMNS);
    let client = stage.connect();
    stage.join(client, &entry());
    let away = |_: &Claims| {
        Err(BindingError {
            message: "away".to_owned(),
            retryable: true,
        })
    };
    stage.resolve(away);
    assert_eq!(stage.take(client), ["phx_reply", "away"]);
    for seconds in [1, 2, 4, 8, 8] {
        stage.pass(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert_eq!(stage.resolve(away), 0, "before {seconds} s");
        stage.pass(Duration::from_millis(1));
        assert_eq!(stage.resolve(away), 1, "after {seconds} s");
    }
    assert_eq!(stage.take(client), [] as [&str; 0], "it was told once");
    stage.pass(Duration::from_secs(8));
    stage.resolve(|_| Ok(everything()));
    assert_eq!(stage.take(client), [SUBSCRIBED]);
    stage.commit(2, &[r#"I {"id":7,"v":1}"#]);
    assert_eq!(stage.take(client), ["7"]);
}

#[test]
fn nothing_flows_between_a_refresh_and_its_answer_and_nothing_is_lost() {
    let mut stage = Stage::new(COLUMNS);
    let client = stage.joined(&entry(), &everything());
    let refresh = json!(["1", "2", "realtime:a", "access_token", {"access_token": "other"}]);
    stage.send(client, &refresh);
    stage.commit(2, &[r#"I {"id":7,"v":1}"#]);
    assert_eq!(stage.take(client), [] as [&str; 0]);
    stage.resolve(|claims| {
        assert_eq!(&*claims.role, "other");
        Ok(everything())
    });
    assert_eq!(stage.take(client), [SUBSCRIBED, "7"]);
}

#[test]
fn a_catalog_change_asks_again_for_what_it_may_have_changed() {
    let mut stage = Stage::new(COLUMNS);
    let refuse = |_: &Claims| {
        Err(BindingError {
            message: "not published".to_owned(),
            retryable: false,
        })
    };
    let refused = stage.connect();
    stage.join(refused, &entry());
    stage.resolve(refuse);
    let wildcard = ResolvedBinding {
        relation: None,
        ..everything()
    };
    let every_table = stage.joined(&json!([{"schema": "public"}]), &wildcard);
    let plain = json!([{"schema": "public", "table": "t", "event": "INSERT"}]);
    let live = stage.joined(&plain, &everything());
    stage.take(refused);
    stage.feed(FeedEvent::CatalogChanged);
    assert_eq!(stage.resolve(refuse), 2, "the refused one and the wildcard");
    assert_eq!(stage.take(refused), [] as [&str; 0], "no news");
    assert_eq!(stage.take(every_table), ["not published"]);
    stage.feed(FeedEvent::CatalogChanged);
    stage.resolve(|_| Ok(everything()));
    assert_eq!(stage.take(refused), [SUBSCRIBED]);
    stage.commit(2, &[r#"I {"id":7,"v":1}"#]);
    for client in [refused, every_table, live] {
        assert_eq!(stage.take(client).last().unwrap(), "7");
    }
}

#[test]
fn only_the_channel_with_an_undecided_change_waits() {
    let mut stage = Stage::new(COLUMNS);
    let waits = stage.joined(
        &json!([{"schema": "public", "table": "t", "filter": "v=like.x"}]),
        &undecided(),
    );
    let goes_on = stage.joined(&entry(), &everything());
    stage.commit(2, &[r#"I {"id":1,"v":1}"#, r#"I {"id":2,"v":1}"#]);
    stage.commit(3, &[r#"I {"id":3,"v":1}"#]);
    assert_eq!(stage.take(goes_on), ["1", "2", "3"]);
    assert_eq!(stage.take(waits), [] as [&str; 0]);
    let (first, changes) = stage.evaluation();
    assert_eq!(changes, [0, 1], "one question for the page");
    let (second, _) = stage.evaluation();
    let outcome = Ok(vec![true]);
    stage.answer(Answer::Evaluated {
        key: second,
        outcome,
    });
    assert_eq!(stage.take(waits), [] as [&str; 0], "not before the first");
    let outcome = Ok(vec![false, true]);
    stage.answer(Answer::Evaluated {
        key: first,
        outcome,
    });
    assert_eq!(stage.take(waits), ["2", "3"]);
}

#[test]
fn what_cannot_be_decided_in_time_is_told_to_those_who_ask_for_cursors() {
    let mut stage = Stage::new(COLUMNS);
    let told = stage.joined(&since_now(), &undecided());
    let silent = stage.joined(&entry(), &undecided());
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, _) = stage.evaluation();
    let outcome = || Err(EvaluateError("away".to_owned()));
    stage.answer(Answer::Evaluated {
        key,
        outcome: outcome(),
    });
    stage.pass(Duration::from_millis(50));
    assert_eq!(stage.evaluation().0, key, "asked again");
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.take(told), ["must_refetch authorization"]);
    assert_eq!(stage.take(silent), [] as [&str; 0]);
    // An answer that comes too late changes nothing any more.
    let outcome = Ok(vec![true]);
    stage.answer(Answer::Evaluated { key, outcome });
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    let (key, _) = stage.evaluation();
    let outcome = Ok(vec![true]);
    stage.answer(Answer::Evaluated { key, outcome });
    assert_eq!(stage.take(told), ["2"]);
    assert_eq!(stage.take(silent), ["2"]);
}

#[test]
fn bindings_with_other_columns_get_a_frame_of_their_own() {
    let mut stage = Stage::new(COLUMNS);
    let entries = json!([
        {"schema": "public", "table": "t"},
        {"schema": "public", "table": "t", "select": ["id"]},
    ]);
    let client = stage.joined(&entries, &everything());
    stage.commit(2, &[r#"I {"id":1,"v":5}"#]);
    let records: Vec<_> = stage
        .sent
        .0
        .iter()
        .map(|(_, message)| message[4]["data"]["record"].clone())
        .collect();
    assert_eq!(records, [json!({"id": 1, "v": 5}), json!({"id": 1})]);
    stage.take(client);
    let shared = json!([
        {"schema": "public", "table": "t"},
        {"schema": "public", "table": "t", "event": "INSERT"},
    ]);
    let client = stage.joined(&shared, &everything());
    stage.commit(3, &[r#"I {"id":2,"v":5}"#]);
    assert_eq!(stage.take(client), ["2"], "one frame with both ids");
}

#[test]
fn more_bindings_than_allowed_are_refused_one_by_one() {
    let mut stage = Stage::new(COLUMNS);
    let entries = json!([
        {"schema": "public", "table": "t"},
        {"schema": "public", "table": "t", "event": "INSERT"},
        {"schema": "public", "table": "t", "event": "DELETE"},
    ]);
    let client = stage.connect();
    stage.join(client, &entries);
    stage.resolve(|_| Ok(everything()));
    let told = stage.take(client);
    assert!(
        told[1].starts_with("Too many postgres_changes entries"),
        "{told:?}"
    );
    assert_eq!(told[2..], [SUBSCRIBED]);
}

#[test]
fn a_change_without_a_primary_key_is_announced_whatever_the_filter() {
    let mut stage = Stage::new("full v:int8");
    let one = filtered(Test::OneOf(Arc::new([Scalar::Int(1)])));
    let client = stage.joined(&entry(), &one);
    stage.commit(2, &[r#"I {"v":5}"#]);
    let (_, message) = &stage.sent.0[0];
    let errors = &message[4]["data"]["errors"];
    assert_eq!(*errors, json!(["Error 400: Bad Request, no primary key"]));
    stage.take(client);
}

#[test]
fn positions_are_told_in_time_and_cover_what_was_not_for_the_channel() {
    let mut stage = Stage::new(COLUMNS);
    let none = filtered(Test::OneOf(Arc::new([])));
    let client = stage.joined(&since_now(), &none);
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    stage.pass(Duration::from_secs(10));
    let (_, message) = stage.sent.0.pop().unwrap();
    let key = CursorKey::new([3; 32]);
    let cursor = message[4]["cursor"].as_str().unwrap();
    assert_eq!(key.open(cursor), Ok(position(2, i64::MAX)));
    stage.pass(Duration::from_secs(10));
    assert_eq!(stage.take(client), ["checkpoint"]);
}

#[test]
fn a_break_and_a_hole_are_told_to_those_who_ask_for_cursors() {
    let mut stage = Stage::new(COLUMNS);
    let (told, silent) = (
        stage.joined(&since_now(), &everything()),
        stage.joined(&entry(), &everything()),
    );
    stage.commit(2, &[r#"I {"id":1,"v":1}"#, "H", r#"I {"id":2,"v":1}"#]);
    assert_eq!(stage.take(told), ["1", "must_refetch hole", "2"]);
    assert_eq!(stage.take(silent), ["1", "2"]);
    stage.feed(FeedEvent::Break {
        reason: RefetchReason::Epoch,
        head: position(9, i64::MAX),
    });
    stage.commit(10, &[r#"I {"id":3,"v":1}"#]);
    assert_eq!(stage.take(told), ["must_refetch epoch", "3"]);
    assert_eq!(stage.take(silent), ["3"]);
}

#[test]
fn a_client_that_is_gone_leaves_nothing_behind() {
    let mut stage = Stage::new(COLUMNS);
    let clients: Vec<_> = (0..10)
        .map(|_| stage.joined(&since_now(), &undecided()))
        .collect();
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    stage.evaluation();
    for client in clients {
        stage.engine.disconnect(client);
    }
    let engine = &stage.engine;
    assert_eq!(engine.clients.len(), 0);
    assert_eq!((engine.subscriptions.len(), engine.bindings.len()), (0, 0));
    assert_eq!(engine.evaluations.held, 0);
    assert!(engine.live.registry.is_empty());
}

#[test]
fn a_new_token_counts_while_the_session_is_read() {
    let mut stage = Stage::new(COLUMNS);
    let client = stage.connect();
    let (engine, mut turn) = stage.turn();
    engine.keep(client, uuid::Uuid::from_u128(7), &mut turn);
    stage.next_call();
    stage.join(client, &entry());
    let refresh = json!(["1", "2", "realtime:a", "access_token", {"access_token": "other"}]);
    stage.send(client, &refresh);
    stage.answer(Answer::SessionLoaded {
        client,
        outcome: Ok(Vec::new()),
    });
    let asked = stage.resolve(|claims| {
        assert_eq!(&*claims.role, "other");
        Ok(everything())
    });
    assert_eq!(asked, 1);
}

#[test]
fn a_new_token_counts_while_a_private_join_waits() {
    let mut stage = Stage::new(COLUMNS);
    let client = stage.connect();
    let config = json!({"private": true, "postgres_changes": entry()});
    stage.send(
        client,
        &json!(["1", "1", "realtime:a", "phx_join", {"config": config}]),
    );
    let refresh = json!(["1", "2", "realtime:a", "access_token", {"access_token": "other"}]);
    stage.send(client, &refresh);
    let Some(Call::Channel { topic, claims }) = stage.next_call() else {
        unreachable!()
    };
    stage.answer(Answer::Channel {
        topic,
        claims,
        outcome: Ok(ChannelRights {
            read: true,
            ..ChannelRights::default()
        }),
    });
    let roles = std::iter::from_fn(|| stage.next_call()).filter_map(|call| match call {
        Call::Resolve { claims, .. } => Some(claims.role.to_string()),
        _ => None,
    });
    assert_eq!(roles.last().as_deref(), Some("other"));
}

#[test]
fn a_session_goes_on_from_what_a_pong_has_proven() {
    let mut stage = Stage::new(COLUMNS);
    let (client, session) = (stage.connect(), uuid::Uuid::from_u128(7));
    let (engine, mut turn) = stage.turn();
    engine.keep(client, session, &mut turn);
    let call = stage.next_call();
    assert!(matches!(call, Some(Call::LoadSession { .. })), "{call:?}");
    stage.join(client, &entry());
    assert!(stage.next_call().is_none(), "where it stood is not known");
    stage.answer(Answer::SessionLoaded {
        client,
        outcome: Ok(Vec::new()),
    });
    stage.resolve(|_| Ok(everything()));
    let saved = |stage: &mut Stage| match stage.next_call() {
        Some(Call::SaveSession { session: of, place }) if of == session => {
            Some((place.topic, place.cursor))
        }
        None => None,
        other => unreachable!("{other:?}"),
    };
    let key = CursorKey::new([3; 32]);
    let place = |batch| {
        Some((
            "realtime:a".into(),
            key.seal(position(batch, i64::MAX)).into(),
        ))
    };
    assert_eq!(
        saved(&mut stage),
        place(1),
        "where it begins needs no proof"
    );

    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    stage.sent.0.clear();
    stage.pass(Duration::from_secs(10));
    let ping = |stage: &mut Stage| {
        let sent = std::mem::take(&mut stage.sent.0);
        let ping = sent.into_iter().find(|(_, message)| message[3] == "ping");
        ping.map(|(_, message)| message[4].as_str().unwrap().to_owned())
    };
    let payload = ping(&mut stage).unwrap();
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    stage.pass(Duration::from_secs(10));
    assert_eq!(ping(&mut stage), None, "it owes an answer");
    stage.engine.pong(client, b"something else");
    assert_eq!(saved(&mut stage), None);
    stage.engine.pong(client, payload.as_bytes());
    assert_eq!(
        saved(&mut stage),
        place(2),
        "what came after the ping is not proven"
    );
    stage.engine.pong(client, payload.as_bytes());
    assert_eq!(saved(&mut stage), None, "once");

    stage.send(client, &json!(["1", "9", "realtime:a", "phx_leave", {}]));
    let call = stage.next_call();
    assert!(matches!(call, Some(Call::ForgetSession { .. })), "{call:?}");
}

impl Stage {
    /// A stage whose looks the test answers.
    fn looking(columns: &str) -> Self {
        let mut stage = Self::new(columns);
        stage.rights = None;
        stage
    }

    /// Somebody with these claims, who asked for everything with cursors.
    fn viewer(&mut self, role: &str) -> ClientKey {
        let client = self.engine.connect(Vsn::V2, role, claims(role));
        self.join(
            client,
            &json!([{"schema": "public", "table": "t", "since": "now"}]),
        );
        self.resolve(|_| Ok(everything()));
        self.take(client);
        client
    }

    /// The look that was asked for, if one was.
    fn look(&mut self) -> Option<(RoundKey, Arc<[Glance]>, Vec<Viewer>)> {
        match self.next_call()? {
            Call::Look {
                key,
                changes,
                viewers,
            } => Some((key, changes, viewers)),
            other => unreachable!("{other:?}"),
        }
    }

    fn looked(&mut self, key: RoundKey, sights: Vec<Result<Sight, EvaluateError>>) {
        self.answer(Answer::Looked {
            key,
            outcome: Ok(sights),
        });
    }
}

/// These places, by the policies of table 1.
fn sees(places: &[u32]) -> Result<Sight, EvaluateError> {
    let rights = Rights {
        policies: true,
        row_security: true,
        ..Rights::all()
    };
    Ok(Sight {
        rights: vec![(1, Arc::new(rights))],
        rows: places.iter().map(|place| (*place, None)).collect(),
    })
}

fn failed() -> Result<Sight, EvaluateError> {
    Err(EvaluateError("raised".to_owned()))
}

#[test]
fn policies_decide_for_each_role_and_claims() {
    let mut stage = Stage::looking(COLUMNS);
    let (ann, bob) = (stage.viewer("ann"), stage.viewer("bob"));
    stage.commit(2, &[r#"I {"id":1,"v":1}"#, r#"I {"id":2,"v":2}"#]);
    let (key, changes, viewers) = stage.look().unwrap();
    assert_eq!((changes.len(), viewers.len()), (2, 2));
    let answer = |viewer: &Viewer| {
        sees(if &*viewer.claims.role == "ann" {
            &[0]
        } else {
            &[1]
        })
    };
    stage.looked(key, viewers.iter().map(answer).collect());
    assert_eq!(
        (stage.take(ann), stage.take(bob)),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
}

#[test]
fn deletions_wait_for_what_came_before_them() {
    let mut stage = Stage::looking(COLUMNS);
    let client = stage.viewer("ann");
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.looked(key, vec![sees(&[0])]);
    stage.take(client);
    stage.commit(3, &[r#"I {"id":2,"v":1}"#, r#"D {"id":2,"v":1}"#]);
    assert_eq!(stage.take(client), [""; 0]);
    let (key, changes, _) = stage.look().unwrap();
    assert_eq!(changes.len(), 1, "a deletion has no row to look at");
    stage.looked(key, vec![sees(&[])]);
    assert_eq!(
        stage.take(client),
        ["2"],
        "the deletion, of a row it never saw"
    );
}

#[test]
fn what_comes_while_the_database_answers_is_one_question() {
    let mut stage = Stage::looking(COLUMNS);
    let client = stage.viewer("ann");
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    stage.commit(4, &[r#"I {"id":3,"v":1}"#]);
    assert!(stage.look().is_none());
    stage.looked(key, vec![sees(&[0])]);
    assert_eq!(stage.take(client), ["1"]);
    let (key, changes, viewers) = stage.look().unwrap();
    assert_eq!((changes.len(), &*viewers[0].places), (2, &[0, 1][..]));
    stage.looked(key, vec![sees(&[1])]);
    assert_eq!(stage.take(client), ["3"]);
}

#[test]
fn a_viewer_that_fails_does_not_stop_the_others() {
    let mut stage = Stage::looking(COLUMNS);
    let (ann, bob) = (stage.viewer("ann"), stage.viewer("bob"));
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, _, viewers) = stage.look().unwrap();
    let answer = |viewer: &Viewer| {
        if &*viewer.claims.role == "ann" {
            failed()
        } else {
            sees(&[0])
        }
    };
    stage.looked(key, viewers.iter().map(answer).collect());
    assert_eq!(stage.take(bob), ["1"]);
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    // Each asks by itself now.
    let mut asked = Vec::new();
    while let Some((key, _, viewers)) = stage.look() {
        assert_eq!(viewers.len(), 1);
        let is_ann = &*viewers[0].claims.role == "ann";
        asked.push(is_ann);
        stage.looked(key, vec![if is_ann { failed() } else { sees(&[0]) }]);
    }
    asked.sort_unstable();
    assert_eq!(asked, [false, true]);
    assert_eq!(stage.take(bob), ["2"]);
    assert_eq!(stage.take(ann), [""; 0]);
    // It never succeeds.
    for _ in 0..40 {
        stage.pass(Duration::from_millis(100));
        while let Some((key, ..)) = stage.look() {
            stage.looked(key, vec![failed()]);
        }
    }
    let told = stage.take(ann);
    assert!(
        told.iter().all(|line| line == "must_refetch authorization"),
        "{told:?}"
    );
    assert!(!told.is_empty());
    assert_eq!(stage.engine.evaluations.held, 0);
}

#[test]
fn who_succeeds_again_is_asked_with_the_others() {
    let mut stage = Stage::looking(COLUMNS);
    let (ann, bob) = (stage.viewer("ann"), stage.viewer("bob"));
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.looked(key, vec![failed(), sees(&[0])]);
    let (key, _, viewers) = stage.look().unwrap();
    assert_eq!(viewers.len(), 1);
    stage.looked(key, vec![sees(&[0])]);
    assert_eq!(
        (stage.take(ann), stage.take(bob)),
        (vec!["1".to_owned()], vec!["1".to_owned()])
    );
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    let (_, _, viewers) = stage.look().unwrap();
    assert_eq!(viewers.len(), 2);
}

#[test]
fn rights_are_asked_again_when_the_table_is_seen_with_another_definition() {
    let mut stage = Stage::looking(COLUMNS);
    let client = stage.viewer("ann");
    let open = || {
        Ok(Sight {
            rights: vec![(1, Arc::new(Rights::all()))],
            rows: Vec::new(),
        })
    };
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.looked(key, vec![open()]);
    stage.commit(3, &[r#"I {"id":2,"v":1}"#]);
    assert_eq!(
        stage.take(client),
        ["1", "2"],
        "nothing is asked while rights are known"
    );
    stage.relation = table(1, "t", COLUMNS).into();
    stage.commit(4, &[r#"I {"id":3,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.looked(key, vec![sees(&[])]);
    assert_eq!(stage.take(client), [""; 0]);
    stage.feed(FeedEvent::CatalogChanged);
    stage.commit(5, &[r#"D {"id":3,"v":1}"#]);
    assert!(stage.look().is_some());
}

#[test]
fn a_table_that_is_gone_tells_nothing() {
    let mut stage = Stage::looking(COLUMNS);
    let client = stage.viewer("ann");
    stage.commit(2, &[r#"I {"id":1,"v":1}"#]);
    let (key, ..) = stage.look().unwrap();
    stage.looked(key, vec![Ok(Sight::default())]);
    assert_eq!(stage.take(client), [""; 0]);
}
