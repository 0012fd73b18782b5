//! `PROTOCOL.md` says what the code does.

#![expect(clippy::unwrap_used, reason = "a file of tests")]

use pgrelay_protocol::{
    ClientEvent, FilterOp, JoinConfig, JoinRefusal, RefetchReason, TokenError, TopicError, Vsn,
    client_frame::decode_text, limits, server_frame,
};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../PROTOCOL.md");

fn transcript() -> impl Iterator<Item = (&'static str, &'static str)> {
    let blocks = DOCUMENT
        .split("```transcript\n")
        .skip(1)
        .map(|block| block.split_once("\n```").unwrap().0);
    blocks
        .flat_map(str::lines)
        .map(|line| line.split_once(' ').unwrap())
}

#[test]
fn the_transcript_is_what_both_sides_would_say() {
    let mut reply = None;
    let mut joins = 0;
    for (side, frame) in transcript() {
        match side {
            ">" => {
                let frame = decode_text(Vsn::V2, frame).unwrap();
                let ClientEvent::Join(payload) = &frame.event else {
                    continue;
                };
                let join = JoinConfig::parse(payload).unwrap();
                let to = server_frame::ReplyTo {
                    join_ref: &frame.join_ref,
                    reference: &frame.reference,
                    topic: &frame.topic,
                };
                let mut out = Vec::new();
                server_frame::join_reply(&mut out, Vsn::V2, to, &join.postgres_changes);
                reply = Some(String::from_utf8(out).unwrap());
                joins += 1;
                for error in join
                    .postgres_changes
                    .into_iter()
                    .filter_map(|binding| binding.spec.err())
                {
                    assert!(transcript().any(|(_, frame)| {
                        frame.contains(&Value::from(error.as_str()).to_string())
                    }));
                }
            }
            "<" => {
                let fields: Vec<Value> = serde_json::from_str(frame).unwrap();
                assert_eq!(fields.len(), 5, "{frame}");
                if let Some(reply) = reply.take() {
                    assert_eq!(frame, reply);
                }
            }
            _ => panic!("neither side says {side} {frame}"),
        }
    }
    assert_eq!(joins, 2);
}

#[test]
fn every_word_a_client_may_read_is_documented() {
    let documented = |text: &str| assert!(DOCUMENT.contains(text), "{text} is not in PROTOCOL.md");
    for op in FilterOp::ALL {
        documented(&format!("`{}`", op.as_str()));
    }
    for reason in RefetchReason::ALL {
        documented(&format!("| `{}` |", reason.as_str()));
    }
    let tokens = [
        TokenError::Malformed,
        TokenError::MissingClaims,
        TokenError::Signature,
        TokenError::Signer(None),
        TokenError::Invalid,
    ];
    for error in tokens {
        documented(&error.connect_text());
        documented(&error.refresh_text());
        documented(error.join_text().split(", check").next().unwrap());
    }
    for topic in [
        TopicError::NameRequired,
        TopicError::TooLong,
        TopicError::Unmatched,
    ] {
        documented(topic.reason());
    }
    let refusals = [
        JoinRefusal::Restarting,
        JoinRefusal::TooManyClients,
        JoinRefusal::TooManyJoins,
        JoinRefusal::TooManyChannels,
        JoinRefusal::DatabaseUnavailable,
        JoinRefusal::Unknown,
    ];
    for refusal in refusals {
        documented(&refusal.reason());
    }
}

#[test]
fn every_limit_is_documented() {
    let section = DOCUMENT.split("## Limits").nth(1).unwrap();
    let documented = |what: &str, limit: usize| {
        let row = section
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")))
            .unwrap_or_else(|| panic!("{what}"));
        let digits = row.replace(',', "");
        let numbers = digits
            .split(|char: char| !char.is_ascii_digit())
            .filter_map(|number| number.parse().ok());
        assert!(
            numbers.into_iter().any(|number: usize| number == limit),
            "{row} does not say {limit}"
        );
    };
    documented("nesting of a message", limits::JSON_DEPTH_MAX);
    documented("topic", limits::TOPIC_BYTES_MAX);
    documented("`ref`, `join_ref`", limits::REF_BYTES_MAX);
    documented("event name", limits::EVENT_BYTES_MAX);
    documented("field of a binary frame", limits::BINARY_FIELD_BYTES_MAX);
    documented(
        "keys of a payload, of `config` or of an entry",
        limits::OBJECT_KEYS_MAX,
    );
    documented("entries of a join", limits::BINDINGS_PER_JOIN_MAX);
    documented("schema, table or column name", limits::NAME_BYTES_MAX);
    documented("`filter`", limits::FILTER_BYTES_MAX);
    documented("`filter`", limits::FILTERS_PER_BINDING_MAX);
    documented("values of an `in`", limits::IN_VALUES_MAX);
    documented("columns of a `select`", limits::SELECT_COLUMNS_MAX);
    documented("presence key", limits::PRESENCE_KEY_BYTES_MAX);
}
