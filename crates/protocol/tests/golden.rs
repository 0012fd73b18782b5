//! The wire, byte for byte: `fixtures/` says what is read and written, one file per family.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a file of tests")]

use std::fmt::Debug;

use bytes::Bytes;
use pgrelay_protocol::{
    BindingSpec, BroadcastPush, ClientEvent, ClientFrame, CursorKey, Encoding, JoinBinding,
    JoinConfig, Outcome, Position, RawReplay, Ref, RefetchReason, Refusal, ReplyTo, Since,
    SystemMessage, Topic, Vsn, binding,
    client_frame::{decode_binary, decode_text},
    filter,
    server_frame::{self, FrameKind, UserBroadcast},
    system::Start,
};
use serde_json::{Value, json, value::RawValue};

const VERSIONS: [(Vsn, &str); 2] = [(Vsn::V1, "v1"), (Vsn::V2, "v2")];

fn rows(fixture: &str) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_str(fixture).unwrap();
    assert!(!rows.is_empty());
    rows
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key]
        .as_str()
        .unwrap_or_else(|| panic!("{row} has no text {key}"))
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A frame in the words of the fixtures.
fn frame_as_json(frame: &ClientFrame) -> Value {
    let mut json = json!({
        "join_ref": frame.join_ref.as_json(),
        "ref": frame.reference.as_json(),
        "topic": *frame.topic,
    });
    let mut set = |key: &str, value: &str| json[key] = value.into();
    match &frame.event {
        ClientEvent::Join(payload) => {
            set("event", "join");
            set("payload", payload.get());
        }
        ClientEvent::Leave => set("event", "leave"),
        ClientEvent::Heartbeat => set("event", "heartbeat"),
        ClientEvent::AccessToken(payload) => {
            set("event", "access_token");
            set("payload", payload.get());
        }
        ClientEvent::Broadcast(BroadcastPush::Plain(payload)) => {
            set("event", "broadcast");
            set("payload", payload.get());
        }
        ClientEvent::Broadcast(BroadcastPush::User {
            event,
            encoding,
            payload,
        }) => {
            set("event", event);
            set(
                "encoding",
                if *encoding == Encoding::Json {
                    "json"
                } else {
                    "binary"
                },
            );
            set("payload", &hex(payload));
        }
        ClientEvent::Presence(payload) => {
            set("event", "presence");
            set("payload", payload.get());
        }
        // So that a known event is not taken for an unknown one of its name.
        ClientEvent::Unknown(event) if **event == *"heartbeat" => set("event", "heartbeat?"),
        ClientEvent::Unknown(event) => set("event", event),
    }
    json
}

#[test]
fn text_frames_of_clients_are_read() {
    for row in rows(include_str!("../fixtures/client_text.json")) {
        for (vsn, key) in VERSIONS {
            let frame = decode_text(vsn, text(&row, key)).unwrap();
            assert_eq!(
                frame_as_json(&frame),
                row["message"],
                "{key} {}",
                row["name"]
            );
        }
    }
}

#[test]
fn malformed_text_frames_are_named() {
    for row in rows(include_str!("../fixtures/client_text_malformed.json")) {
        let vsn = Vsn::parse(row["vsn"].as_str()).unwrap();
        let error = decode_text(vsn, text(&row, "frame")).unwrap_err();
        assert_eq!(format!("{error:?}"), text(&row, "error"), "{row}");
    }
}

#[test]
fn binary_frames_of_clients_are_read() {
    for row in rows(include_str!("../fixtures/client_binary.json")) {
        match decode_binary(Vsn::V2, bytes(text(&row, "frame")).into()) {
            Ok(frame) => assert_eq!(frame_as_json(&frame), row["message"], "{}", row["name"]),
            Err(error) => assert_eq!(format!("{error:?}"), text(&row, "error"), "{}", row["name"]),
        }
        decode_binary(Vsn::V1, bytes(text(&row, "frame")).into()).unwrap_err();
    }
}

/// Writes the message that a row of `server_text.json` describes.
fn write(out: &mut Vec<u8>, vsn: Vsn, message: &Value) {
    let reference = |key: &str| match message[key].as_str() {
        None => Ref::null(),
        Some(text) => {
            decode_text(Vsn::V2, &format!("[{text:?},null,\"t\",\"phx_leave\",0]"))
                .unwrap()
                .join_ref
        }
    };
    let (join_ref, reference) = (reference("join_ref"), reference("ref"));
    let topic = message["topic"].as_str().unwrap_or("realtime:room1");
    let to = ReplyTo {
        join_ref: &join_ref,
        reference: &reference,
        topic,
    };
    match text(message, "kind") {
        "reply" => match message["ok"].as_str() {
            Some(response) => server_frame::reply(out, vsn, to, Outcome::Ok(response)),
            None => server_frame::reply(out, vsn, to, Outcome::Error(text(message, "error"))),
        },
        "refusal" => server_frame::refusal(out, vsn, to, text(message, "reason")),
        "heartbeat_reply" => server_frame::heartbeat_reply(out, vsn, &reference),
        "unmatched_topic" => server_frame::unmatched_topic(out, vsn, &reference, topic),
        "close" => server_frame::close(out, vsn, &join_ref, topic),
        "error" => server_frame::error(out, vsn, &join_ref, topic),
        "push" => server_frame::push(
            out,
            vsn,
            &join_ref,
            topic,
            text(message, "event"),
            text(message, "payload"),
        ),
        "changes" => {
            let ids: Vec<u32> = serde_json::from_value(message["ids"].clone()).unwrap();
            server_frame::changes_head(out, vsn, topic, &ids);
            out.extend_from_slice(text(message, "data").as_bytes());
            server_frame::changes_tail(out, vsn, message["cursor"].as_str());
        }
        "system" => {
            server_frame::system(
                out,
                vsn,
                &join_ref,
                &Topic::parse(topic).unwrap(),
                system_message(message),
            );
        }
        kind => panic!("unknown kind {kind}"),
    }
}

fn system_message(message: &Value) -> SystemMessage<'_> {
    let cursor = message["cursor"].as_str();
    let binding = message["binding"].as_u64().map(|id| id.try_into().unwrap());
    match text(message, "system") {
        "subscribed" => SystemMessage::Subscribed(cursor.map(|cursor| Start {
            cursor,
            recovered: message["recovered"].as_bool().unwrap(),
        })),
        "refused" => SystemMessage::BindingRefused {
            binding: binding.unwrap(),
            message: text(message, "text"),
        },
        "checkpoint" => SystemMessage::Checkpoint {
            cursor: cursor.unwrap(),
        },
        "must_refetch" => {
            let reason = [RefetchReason::Hole, RefetchReason::Epoch]
                .into_iter()
                .find(|reason| reason.as_str() == text(message, "reason"))
                .unwrap();
            SystemMessage::MustRefetch {
                binding,
                reason,
                cursor: cursor.unwrap(),
            }
        }
        "closing" => SystemMessage::Closing(text(message, "text")),
        "replication_ready" => SystemMessage::ReplicationReady,
        "disconnect" => SystemMessage::Disconnect,
        system => panic!("unknown system message {system}"),
    }
}

#[test]
fn text_frames_of_the_server_are_written() {
    for row in rows(include_str!("../fixtures/server_text.json")) {
        for (vsn, key) in VERSIONS {
            let mut out = Vec::new();
            write(&mut out, vsn, &row["message"]);
            assert_eq!(
                str::from_utf8(&out).unwrap(),
                text(&row, key),
                "{}",
                row["name"]
            );
        }
    }
}

#[test]
fn broadcasts_are_written_for_each_version() {
    for row in rows(include_str!("../fixtures/server_broadcast.json")) {
        let payload = bytes(text(&row, "payload"));
        let message = UserBroadcast {
            event: text(&row, "event"),
            metadata: row["metadata"].as_str(),
            encoding: if row["encoding"] == "json" {
                Encoding::Json
            } else {
                Encoding::Binary
            },
            payload: &payload,
        };
        for (vsn, key) in VERSIONS {
            let mut out = Vec::new();
            let written =
                match server_frame::user_broadcast(&mut out, vsn, text(&row, "topic"), &message) {
                    Some(FrameKind::Text) => json!({"text": str::from_utf8(&out).unwrap()}),
                    Some(FrameKind::Binary) => json!({"binary": hex(&out)}),
                    None => {
                        assert!(out.is_empty());
                        Value::Null
                    }
                };
            assert_eq!(written, row[key], "{key} {}", row["name"]);
        }
    }
}

#[test]
fn filters_are_read_or_refused_in_exact_words() {
    for row in rows(include_str!("../fixtures/filters.json")) {
        match filter::parse(text(&row, "filter")) {
            Ok(filters) => {
                let parsed: Vec<_> = filters
                    .iter()
                    .map(|f| json!([f.column, f.negate, f.op.as_str(), f.value]))
                    .collect();
                assert_eq!(Value::from(parsed), row["parsed"], "{row}");
            }
            Err(error) => assert_eq!(error, text(&row, "error"), "{row}"),
        }
    }
}

fn bindings(entry: &Value) -> Vec<JoinBinding> {
    JoinConfig::parse(&raw(&json!({"config": {"postgres_changes": [entry]}})))
        .unwrap()
        .postgres_changes
}

fn spec(entry: &Value) -> BindingSpec {
    bindings(entry).remove(0).spec.unwrap()
}

#[test]
fn entries_are_read_or_refused_in_exact_words() {
    for row in rows(include_str!("../fixtures/entries.json")) {
        let binding = bindings(&row["entry"]).remove(0);
        match &binding.spec {
            Ok(spec) => assert_eq!(binding::describe(spec), text(&row, "described"), "{row}"),
            Err(error) => assert_eq!(error, text(&row, "error"), "{row}"),
        }
        let since = binding.since.map(|since| match since {
            Since::Now => "now".to_owned(),
            Since::Cursor(cursor) => cursor.into(),
        });
        assert_eq!(since.as_deref(), row["since"].as_str(), "{row}");
    }
}

#[test]
fn refusals_of_the_database_are_worded_exactly() {
    for row in rows(include_str!("../fixtures/refusals.json")) {
        let refusal: Vec<&str> = row["refusal"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        let refusal = match refusal[..] {
            ["NotEnabled"] => Refusal::NotEnabled,
            ["FilterColumn", column] => Refusal::FilterColumn(column),
            ["SelectColumn", column] => Refusal::SelectColumn(column),
            ["ColumnType", column] => Refusal::ColumnType(column),
            ["InValues"] => Refusal::InValues,
            ["IsValue"] => Refusal::IsValue,
            ["IsNotBoolean", value, type_name] => Refusal::IsNotBoolean { value, type_name },
            ["NotText", op, type_name] => Refusal::NotText { op, type_name },
            ["Regex", message] => Refusal::Regex(message),
            ["Raised", sqlstate, message] => Refusal::Raised { sqlstate, message },
            ref other => panic!("unknown refusal {other:?}"),
        };
        assert_eq!(refusal.message(&spec(&row["entry"])), text(&row, "message"));
    }
}

#[test]
fn join_payloads_are_read_permissively() {
    for row in rows(include_str!("../fixtures/joins.json")) {
        match JoinConfig::parse(&raw(&row["payload"])) {
            Ok(join) => {
                let replay = match join.broadcast.replay {
                    None => Value::Null,
                    Some(RawReplay::Ignored) => "ignored".into(),
                    Some(RawReplay::Invalid) => "invalid".into(),
                    Some(RawReplay::Since { since_ms, limit }) => json!([since_ms, limit]),
                };
                let read = json!({
                    "ack": join.broadcast.ack,
                    "self": join.broadcast.self_,
                    "replay": replay,
                    "replication_ready": join.broadcast.replication_ready,
                    "enabled": join.presence.enabled,
                    "key": join.presence.key,
                    "private": join.private,
                    "bindings": join.postgres_changes.len(),
                    "token": join.token(),
                });
                assert_eq!(read, row["join"], "{}", row["name"]);
            }
            Err(error) => assert_eq!(error.reason(), text(&row, "reason"), "{}", row["name"]),
        }
    }
}

#[test]
fn join_replies_echo_every_entry_with_its_id() {
    let one = decode_text(Vsn::V2, r#"["1","1","realtime:room1","phx_join",{}]"#).unwrap();
    for row in rows(include_str!("../fixtures/join_replies.json")) {
        let payload: Box<RawValue> = serde_json::from_str(text(&row, "payload")).unwrap();
        let join = JoinConfig::parse(&payload).unwrap();
        let to = ReplyTo {
            join_ref: &one.join_ref,
            reference: &one.reference,
            topic: &one.topic,
        };
        for (vsn, key) in VERSIONS {
            let mut out = Vec::new();
            server_frame::join_reply(&mut out, vsn, to, &join.postgres_changes);
            assert_eq!(
                str::from_utf8(&out).unwrap(),
                text(&row, key),
                "{}",
                row["name"]
            );
        }
    }
}

#[test]
fn cursors_are_the_same_text_for_ever() {
    fn number<T: std::str::FromStr<Err: Debug>>(value: &Value) -> T {
        value.as_str().unwrap().parse().unwrap()
    }
    for row in rows(include_str!("../fixtures/cursors.json")) {
        let key = CursorKey::new(bytes(text(&row, "key")).try_into().unwrap());
        let [epoch, batch, seq, tag] = row["position"].as_array().unwrap().as_slice() else {
            panic!("{row}")
        };
        let position = Position {
            epoch: epoch.as_u64().unwrap().try_into().unwrap(),
            batch: number(batch),
            seq: number(seq),
            tag: number(tag),
        };
        assert_eq!(key.seal(position), text(&row, "cursor"));
        assert_eq!(key.open(text(&row, "cursor")), Ok(position));
    }
}

#[test]
fn the_payload_of_a_binary_frame_is_not_copied() {
    let frame = Bytes::from([&[3, 0, 0, 1, 0, 0, 0][..], b"t", b"payload"].concat());
    let payload_at = frame[8..].as_ptr();
    let decoded = decode_binary(Vsn::V2, frame).unwrap();
    let ClientEvent::Broadcast(BroadcastPush::User { payload, .. }) = decoded.event else {
        panic!("{decoded:?}")
    };
    assert_eq!(
        (payload.as_ptr(), &payload[..]),
        (payload_at, &b"payload"[..])
    );
}
