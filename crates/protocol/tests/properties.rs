//! What must hold for every input, not only for the golden ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a file of tests")]

use pgrelay_protocol::{
    BroadcastPush, ClientEvent, CursorKey, Encoding, Filter, FilterOp, Forged, JoinConfig, Outcome,
    Position, PresencePush, Ref, ReplyTo, SystemMessage, TokenField, Topic, Vsn, binding,
    client_frame::{decode_binary, decode_text},
    filter,
    server_frame::{self, FrameKind, UserBroadcast},
    system::Start,
};
use proptest::prelude::*;
use serde_json::{Value, value::RawValue};

const VERSIONS: [Vsn; 2] = [Vsn::V1, Vsn::V2];

/// JSON values as clients could send them, entries and joins among them.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // The test's own reader rounds other fractions.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "*", "INSERT", "public", "id=eq.1", "track", "now", "TRUE"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            json_object(inner)
        ]
    })
}

fn json_object(member: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    const KEYS: [&str; 21] = [
        "config",
        "broadcast",
        "presence",
        "postgres_changes",
        "access_token",
        "user_token",
        "private",
        "ack",
        "self",
        "replay",
        "since",
        "limit",
        "enabled",
        "key",
        "event",
        "schema",
        "table",
        "filter",
        "select",
        "payload",
        "id",
    ];
    let key = prop_oneof![4 => prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec((key, member), 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Text that is nearly a value or a filter: the grammar's own characters, in any order.
fn value_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "(", ")", ",", "\"", "\\", ".", "=", " ", "null", "id=eq.", "é"
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A filter as a client would write it without knowing how to quote.
fn filter_like() -> impl Strategy<Value = String> {
    let op = prop::sample::select(FilterOp::ALL.to_vec());
    let segment = (any::<bool>(), op, value_like()).prop_map(|(negate, op, value)| {
        let not = if negate { "not." } else { "" };
        let (open, close) = if op == FilterOp::In {
            ("(", ")")
        } else {
            ("", "")
        };
        format!("id={not}{}.{open}{value}{close}", op.as_str())
    });
    prop::collection::vec(segment, 1..3).prop_map(|segments| segments.join(","))
}

fn any_filter() -> impl Strategy<Value = Filter> {
    // The grammar cannot quote column names.
    let column = any::<String>().prop_map(|text| {
        text.replace(['=', ',', '(', ')', '"'], "")
            .trim_start()
            .to_owned()
    });
    let value = prop_oneof![any::<String>(), value_like()];
    (
        column,
        prop::sample::select(FilterOp::ALL.to_vec()),
        any::<bool>(),
        value,
    )
        .prop_map(|(column, op, negate, value)| {
            let value = match op {
                FilterOp::In => format!("{{{}}}", value.replace(['(', ')', '"'], "")),
                _ => value,
            };
            Filter {
                column: column.into(),
                op,
                negate,
                value: value.into(),
            }
        })
}

fn printed(filters: &[Filter]) -> String {
    filters
        .iter()
        .map(Filter::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn any_ref() -> impl Strategy<Value = Ref> {
    json_value().prop_filter_map("too long a reference", |json| {
        let frame = serde_json::json!([json, null, "t", "phx_leave", {}]).to_string();
        decode_text(Vsn::V2, &frame)
            .ok()
            .map(|frame| frame.join_ref)
    })
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u64>(), any::<i64>(), any::<u64>()).prop_map(|(epoch, batch, seq, tag)| {
        Position {
            epoch,
            batch,
            seq,
            tag,
        }
    })
}

/// Reads one text message of the server as `(join_ref, ref, topic, event, payload)`.
fn read(vsn: Vsn, frame: &[u8]) -> (Value, Value, String, String, Value) {
    let frame: Value = serde_json::from_slice(frame).expect("a frame is JSON");
    match vsn {
        Vsn::V1 => {
            let mut members = frame.as_object().expect("an object").clone();
            let mut take = |key: &str| members.remove(key).expect(key);
            let (reference, topic, event, payload) =
                (take("ref"), take("topic"), take("event"), take("payload"));
            assert!(
                members.is_empty(),
                "no other members, join_ref least of all: {members:?}"
            );
            (
                Value::Null,
                reference,
                string(&topic),
                string(&event),
                payload,
            )
        }
        Vsn::V2 => {
            let Ok::<[Value; 5], _>([join_ref, reference, topic, event, payload]) =
                frame.as_array().expect("a list").clone().try_into()
            else {
                panic!("five elements: {frame}")
            };
            (join_ref, reference, string(&topic), string(&event), payload)
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn value(reference: &Ref) -> Value {
    serde_json::from_str(reference.as_json()).unwrap()
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..5) {
        let text = String::from_utf8_lossy(&bytes);
        for vsn in VERSIONS {
            let _ = decode_text(vsn, &text).is_ok();
            let _ = decode_binary(vsn, bytes.clone().into()).is_ok();
            let _ = decode_binary(vsn, [&[kind][..], &bytes].concat().into()).is_ok();
        }
        let _ = filter::parse(&text).is_ok();
        let _ = CursorKey::new([1; 32]).open(&text).is_ok();
    }

    #[test]
    fn every_json_payload_is_read_or_refused(payload in json_value()) {
        for vsn in VERSIONS {
            let _ = decode_text(vsn, &payload.to_string()).is_ok();
        }
        let payload = serde_json::value::to_raw_value(&payload).unwrap();
        drop((PresencePush::parse(&payload), TokenField::parse_push(&payload)));
        if let Ok(join) = JoinConfig::parse(&payload) {
            for binding in &join.postgres_changes {
                prop_assert!(binding.id > 0 && binding.id < 1 << 31);
                if let Ok(spec) = &binding.spec {
                    prop_assert!(binding::describe(spec).starts_with("[event: "));
                }
            }
        }
    }

    #[test]
    fn an_echo_is_the_entry_with_an_id(entry in json_object(json_value())) {
        let payload = serde_json::json!({"config": {"postgres_changes": [entry]}});
        let join = JoinConfig::parse(&serde_json::value::to_raw_value(&payload).unwrap()).unwrap();
        let binding = &join.postgres_changes[0];
        let mut echo = Vec::new();
        binding.write_echo(&mut echo);
        let mut expected = entry;
        expected["id"] = binding.id.into();
        prop_assert_eq!(serde_json::from_slice::<Value>(&echo).unwrap(), expected);
    }

    #[test]
    fn an_id_ignores_the_order_of_keys_and_since(
        members in prop::collection::btree_map(".{0,6}", json_value(), 0..6)
            .prop_map(|members| members.into_iter().collect::<Vec<_>>())
            .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        since in prop::option::of(any::<String>()),
    ) {
        let id = |members: &[(String, Value)], since: Option<&String>| {
            let mut members: Vec<String> = members
                .iter()
                .filter(|(key, _)| key != "since" && key != "id")
                .map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())))
                .collect();
            members.extend(since.map(|since| format!("\"since\":{}", Value::from(since.as_str()))));
            let payload = format!("{{\"config\":{{\"postgres_changes\":[{{{}}}]}}}}", members.join(","));
            let payload: Box<RawValue> = serde_json::from_str(&payload).unwrap();
            JoinConfig::parse(&payload).unwrap().postgres_changes[0].id
        };
        prop_assert_eq!(id(&members.0, None), id(&members.1, since.as_ref()));
    }

    #[test]
    fn a_printed_filter_is_read_back(filters in prop::collection::vec(any_filter(), 0..5)) {
        prop_assert_eq!(filter::parse(&printed(&filters)), Ok(filters));
    }

    #[test]
    fn what_was_read_is_printed_and_read_again(text in filter_like()) {
        let Ok(filters) = filter::parse(&text) else { return Ok(()) };
        // A stray comma makes columns out of quotes and parentheses, which the grammar cannot quote.
        prop_assume!(filters.iter().all(|filter| *filter.column == *"id"));
        prop_assert_eq!(filter::parse(&printed(&filters)), Ok(filters));
    }

    #[test]
    fn a_cursor_opens_to_its_position(key in any::<[u8; 32]>(), position in position()) {
        let key = CursorKey::new(key);
        let cursor = key.seal(position);
        prop_assert_eq!(&key.seal(position), &cursor);
        prop_assert_eq!(key.open(&cursor), Ok(position));
    }

    #[test]
    fn a_changed_cursor_is_forged(
        key in any::<[u8; 32]>(), position in position(), at in any::<prop::sample::Index>(), char in any::<char>(),
    ) {
        let key = CursorKey::new(key);
        let cursor = key.seal(position);
        let at = at.index(cursor.len());
        for other in ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_', '=', '+', char]) {
            let forged = format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]);
            if forged != cursor {
                prop_assert_eq!(key.open(&forged), Err(Forged), "{}", forged);
            }
        }
        let swapped = CursorKey::new([0xA5; 32]);
        for other in [&cursor[..at], &format!("{cursor}{char}"), &format!("{char}{cursor}"), &swapped.seal(position)] {
            prop_assert_eq!(key.open(other), Err(Forged), "{}", other);
        }
    }

    #[test]
    fn a_written_message_is_json_and_reads_back(
        join_ref in any_ref(), reference in any_ref(), topic in any::<String>(), event in any::<String>(),
        payload in json_value(), vsn in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let json = payload.to_string();
        let expected_join_ref = if vsn == Vsn::V1 { Value::Null } else { value(&join_ref) };

        let mut out = Vec::new();
        server_frame::push(&mut out, vsn, &join_ref, &topic, &event, &json);
        let expected = (expected_join_ref.clone(), Value::Null, topic.clone(), event.clone(), payload.clone());
        prop_assert_eq!(read(vsn, &out), expected);

        out.clear();
        let to = ReplyTo { join_ref: &join_ref, reference: &reference, topic: &topic };
        server_frame::reply(&mut out, vsn, to, Outcome::Error(&json));
        let (found_join_ref, found, found_topic, found_event, body) = read(vsn, &out);
        prop_assert_eq!((found_join_ref, found, found_topic), (expected_join_ref, value(&reference), topic.clone()));
        prop_assert_eq!(found_event, "phx_reply");
        prop_assert_eq!(body, serde_json::json!({"status": "error", "response": payload}));

        out.clear();
        server_frame::refusal(&mut out, vsn, to, &event);
        let body = read(vsn, &out).4;
        prop_assert_eq!(body, serde_json::json!({"status": "error", "response": {"reason": event}}));
    }

    #[test]
    fn a_spliced_change_is_json_and_reads_back(
        topic in any::<String>(), ids in prop::collection::vec(any::<u32>(), 0..4), data in json_value(),
        cursor in prop::option::of(any::<String>()), vsn in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let mut out = Vec::new();
        server_frame::changes_head(&mut out, vsn, &topic, &ids);
        out.extend_from_slice(data.to_string().as_bytes());
        server_frame::changes_tail(&mut out, vsn, cursor.as_deref());
        let mut payload = serde_json::json!({"ids": ids, "data": data});
        if let Some(cursor) = cursor {
            payload["cursor"] = cursor.into();
        }
        prop_assert_eq!(read(vsn, &out), (Value::Null, Value::Null, topic, "postgres_changes".to_owned(), payload));
    }

    #[test]
    fn a_system_message_is_json(
        name in ".+", text in any::<String>(), recovered in any::<bool>(), join_ref in any_ref(),
        vsn in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let topic = Topic::parse(&format!("realtime:{name}"));
        prop_assume!(topic.is_ok());
        let topic = topic.unwrap();
        for message in [
            SystemMessage::Subscribed(Some(Start { cursor: &text, recovered })),
            SystemMessage::BindingRefused { binding: 1, message: &text },
            SystemMessage::Closing(&text),
        ] {
            let mut out = Vec::new();
            server_frame::system(&mut out, vsn, &join_ref, &topic, message);
            let (_, _, found_topic, event, payload) = read(vsn, &out);
            prop_assert_eq!((found_topic.as_str(), event.as_str()), (topic.as_str(), "system"));
            prop_assert_eq!(&payload["channel"], topic.sub_topic());
            prop_assert!(payload.as_object().unwrap().values().any(|value| *value == text));
        }
    }

    #[test]
    fn a_broadcast_reaches_both_versions_unchanged(
        topic in any::<String>(), event in any::<String>(), payload in json_value(),
    ) {
        let payload_json = payload.to_string();
        let fields = [topic.as_str(), event.as_str()].map(|field| u8::try_from(field.len()));
        let [Ok(topic_length), Ok(event_length)] = fields else { return Ok(()) };
        let header = [3, 0, 0, topic_length, event_length, 0, 1];
        let sent = [&header[..], topic.as_bytes(), event.as_bytes(), payload_json.as_bytes()].concat();
        let frame = decode_binary(Vsn::V2, sent.into()).unwrap();
        let ClientEvent::Broadcast(BroadcastPush::User { event: name, encoding, payload: bytes }) = frame.event else {
            panic!("a user broadcast")
        };
        prop_assert_eq!(encoding, Encoding::Json);
        let message = UserBroadcast { event: &name, metadata: None, encoding, payload: &bytes };

        let mut out = Vec::new();
        prop_assert_eq!(server_frame::user_broadcast(&mut out, Vsn::V2, &topic, &message), Some(FrameKind::Binary));
        let expected = [&[4, topic_length, event_length, 0, 1][..], topic.as_bytes(), event.as_bytes(), payload_json.as_bytes()];
        prop_assert_eq!(&out, &expected.concat());

        out.clear();
        prop_assert_eq!(server_frame::user_broadcast(&mut out, Vsn::V1, &topic, &message), Some(FrameKind::Text));
        let body = serde_json::json!({"type": "broadcast", "event": event, "payload": payload});
        prop_assert_eq!(read(Vsn::V1, &out), (Value::Null, Value::Null, topic, "broadcast".to_owned(), body));
    }
}
