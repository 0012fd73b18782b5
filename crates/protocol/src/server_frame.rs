//! What the server sends: functions that append one message to a buffer.
//!
//! Every `*_json` argument is the text of one JSON value, spliced as it is.

use std::fmt;

use crate::{
    client_frame::Encoding, join_binding::JoinBinding, json, limits::BINARY_FIELD_BYTES_MAX,
    reference::Ref, system::SystemMessage, topic::Topic, version::Vsn,
};

/// What a reply answers.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo<'a> {
    /// The join reference of the channel.
    pub join_ref: &'a Ref,
    /// The reference of the request.
    pub reference: &'a Ref,
    /// The topic of the request.
    pub topic: &'a str,
}

/// How a request ended, with the JSON text of the `response`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// `ok`
    Ok(&'a str),
    /// `error`
    Error(&'a str),
}

impl Outcome<'_> {
    /// `ok` with nothing to say.
    pub const DONE: Self = Outcome::Ok("{}");
}

/// A reply.
pub fn reply(out: &mut Vec<u8>, vsn: Vsn, to: ReplyTo<'_>, outcome: Outcome<'_>) {
    let (status, response) = match outcome {
        Outcome::Ok(response) => ("ok", response),
        Outcome::Error(response) => ("error", response),
    };
    reply_head(out, vsn, to, status);
    out.extend_from_slice(response.as_bytes());
    reply_tail(out, vsn, to.reference);
}

/// The ok reply of a join: its entries, in order, each with its id.
pub fn join_reply(out: &mut Vec<u8>, vsn: Vsn, to: ReplyTo<'_>, bindings: &[JoinBinding]) {
    reply_head(out, vsn, to, "ok");
    out.extend_from_slice(b"{\"postgres_changes\":[");
    for (index, binding) in bindings.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        binding.write_echo(out);
    }
    out.extend_from_slice(b"]}");
    reply_tail(out, vsn, to.reference);
}

/// An error reply with a `reason`.
pub fn refusal(out: &mut Vec<u8>, vsn: Vsn, to: ReplyTo<'_>, reason: &str) {
    reply_head(out, vsn, to, "error");
    out.extend_from_slice(b"{\"reason\":");
    json::write_string(out, reason);
    out.push(b'}');
    reply_tail(out, vsn, to.reference);
}

/// The answer to whatever is sent to a topic that is not joined.
pub fn unmatched_topic(out: &mut Vec<u8>, vsn: Vsn, reference: &Ref, topic: &str) {
    refusal(
        out,
        vsn,
        ReplyTo {
            join_ref: &Ref::null(),
            reference,
            topic,
        },
        "unmatched topic",
    );
}

/// The answer to a heartbeat.
pub fn heartbeat_reply(out: &mut Vec<u8>, vsn: Vsn, reference: &Ref) {
    reply(
        out,
        vsn,
        ReplyTo {
            join_ref: &Ref::null(),
            reference,
            topic: "phoenix",
        },
        Outcome::DONE,
    );
}

/// A message of a channel, or with a null `join_ref` one that all members share.
pub fn push(
    out: &mut Vec<u8>,
    vsn: Vsn,
    join_ref: &Ref,
    topic: &str,
    event: &str,
    payload_json: &str,
) {
    head(out, vsn, join_ref, &Ref::null(), topic, event);
    out.extend_from_slice(payload_json.as_bytes());
    tail(out, vsn, &Ref::null());
}

/// The orderly end of a channel; clients do not join again by themselves.
pub fn close(out: &mut Vec<u8>, vsn: Vsn, join_ref: &Ref, topic: &str) {
    end(out, vsn, join_ref, topic, "phx_close");
}

/// The failure of a channel; clients join again.
pub fn error(out: &mut Vec<u8>, vsn: Vsn, join_ref: &Ref, topic: &str) {
    end(out, vsn, join_ref, topic, "phx_error");
}

/// A `system` message.
pub fn system(
    out: &mut Vec<u8>,
    vsn: Vsn,
    join_ref: &Ref,
    topic: &Topic,
    message: SystemMessage<'_>,
) {
    head(out, vsn, join_ref, &Ref::null(), topic.as_str(), "system");
    message.write_payload(out, topic);
    tail(out, vsn, &Ref::null());
}

/// The part of a `postgres_changes` message before its data. The message is this, the JSON text of
/// the data, and [`changes_tail`].
pub fn changes_head(out: &mut Vec<u8>, vsn: Vsn, topic: &str, ids: &[u32]) {
    head(
        out,
        vsn,
        &Ref::null(),
        &Ref::null(),
        topic,
        "postgres_changes",
    );
    changes_payload_head(out, ids);
}

/// The part of a `postgres_changes` message after its data.
pub fn changes_tail(out: &mut Vec<u8>, vsn: Vsn, cursor: Option<&str>) {
    changes_payload_tail(out, cursor);
    tail(out, vsn, &Ref::null());
}

/// The part of a `postgres_changes` payload before its data, for transports without frames.
pub fn changes_payload_head(out: &mut Vec<u8>, ids: &[u32]) {
    out.extend_from_slice(b"{\"ids\":[");
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_number(out, *id);
    }
    out.extend_from_slice(b"],\"data\":");
}

/// The part of a `postgres_changes` payload after its data.
pub fn changes_payload_tail(out: &mut Vec<u8>, cursor: Option<&str>) {
    if let Some(cursor) = cursor {
        out.extend_from_slice(b",\"cursor\":");
        json::write_string(out, cursor);
    }
    out.push(b'}');
}

/// A broadcast of an application, in the form it is kept before it is written for a receiver. Its
/// `Debug` shows no payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserBroadcast<'a> {
    /// Event name of the application.
    pub event: &'a str,
    /// JSON object text, such as `{"id":"..."}`.
    pub metadata: Option<&'a str>,
    /// What `payload` is.
    pub encoding: Encoding,
    /// Valid JSON text where the encoding says so, else any bytes.
    pub payload: &'a [u8],
}

impl fmt::Debug for UserBroadcast<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UserBroadcast({:?}, {:?}, {} bytes)",
            self.event,
            self.encoding,
            self.payload.len()
        )
    }
}

/// How a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// As a text message.
    Text,
    /// As a binary message.
    Binary,
}

/// Writes a broadcast for receivers of `topic`: binary for 2.0.0, text for 1.0.0.
///
/// `None`, and nothing written, when these receivers cannot be given it: bytes on a 1.0.0 socket,
/// or bytes under a name that a binary frame cannot carry. JSON under such a name goes as text.
pub fn user_broadcast(
    out: &mut Vec<u8>,
    vsn: Vsn,
    topic: &str,
    message: &UserBroadcast<'_>,
) -> Option<FrameKind> {
    if vsn == Vsn::V2 && write_binary(out, topic, message) {
        return Some(FrameKind::Binary);
    }
    if message.encoding == Encoding::Binary {
        return None;
    }
    broadcast_text(out, vsn, &Ref::null(), topic, message);
    Some(FrameKind::Text)
}

fn broadcast_text(
    out: &mut Vec<u8>,
    vsn: Vsn,
    join_ref: &Ref,
    topic: &str,
    message: &UserBroadcast<'_>,
) {
    head(out, vsn, join_ref, &Ref::null(), topic, "broadcast");
    out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
    json::write_string(out, message.event);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(message.payload);
    if let Some(metadata) = message.metadata {
        out.extend_from_slice(b",\"meta\":");
        out.extend_from_slice(metadata.as_bytes());
    }
    out.push(b'}');
    tail(out, vsn, &Ref::null());
}

/// Writes a stored broadcast for the one channel that asked for its replay: as text where it is
/// JSON, since text frames can name the join. `None` as in [`user_broadcast`].
pub fn replayed_broadcast(
    out: &mut Vec<u8>,
    vsn: Vsn,
    join_ref: &Ref,
    topic: &str,
    message: &UserBroadcast<'_>,
) -> Option<FrameKind> {
    match message.encoding {
        Encoding::Binary => user_broadcast(out, vsn, topic, message),
        Encoding::Json => {
            broadcast_text(out, vsn, join_ref, topic, message);
            Some(FrameKind::Text)
        }
    }
}

/// Writes binary kind 4; `false`, and nothing written, when a field is too long for it.
fn write_binary(out: &mut Vec<u8>, topic: &str, message: &UserBroadcast<'_>) -> bool {
    const USER_BROADCAST: u8 = 4;
    let fields = [topic, message.event, message.metadata.unwrap_or_default()];
    let [Ok(topic_length), Ok(event_length), Ok(metadata_length)] =
        fields.map(|field| u8::try_from(field.len()))
    else {
        return false;
    };
    let encoding = match message.encoding {
        Encoding::Binary => 0,
        Encoding::Json => 1,
    };
    out.extend_from_slice(&[
        USER_BROADCAST,
        topic_length,
        event_length,
        metadata_length,
        encoding,
    ]);
    for field in fields {
        out.extend_from_slice(field.as_bytes());
    }
    out.extend_from_slice(message.payload);
    true
}

const _: () = assert!(
    BINARY_FIELD_BYTES_MAX == u8::MAX as usize,
    "lengths of binary fields are one byte"
);

fn reply_head(out: &mut Vec<u8>, vsn: Vsn, to: ReplyTo<'_>, status: &str) {
    head(out, vsn, to.join_ref, to.reference, to.topic, "phx_reply");
    out.extend_from_slice(b"{\"status\":");
    json::write_string(out, status);
    out.extend_from_slice(b",\"response\":");
}

fn reply_tail(out: &mut Vec<u8>, vsn: Vsn, reference: &Ref) {
    out.push(b'}');
    tail(out, vsn, reference);
}

fn end(out: &mut Vec<u8>, vsn: Vsn, join_ref: &Ref, topic: &str, event: &str) {
    // Both references are the join's: clients ignore an end that names another one.
    head(out, vsn, join_ref, join_ref, topic, event);
    out.extend_from_slice(b"{}");
    tail(out, vsn, join_ref);
}

/// Everything before the payload.
fn head(out: &mut Vec<u8>, vsn: Vsn, join_ref: &Ref, reference: &Ref, topic: &str, event: &str) {
    match vsn {
        Vsn::V1 => {
            out.extend_from_slice(b"{\"topic\":");
            json::write_string(out, topic);
            out.extend_from_slice(b",\"event\":");
            json::write_string(out, event);
            out.extend_from_slice(b",\"payload\":");
        }
        Vsn::V2 => {
            out.push(b'[');
            out.extend_from_slice(join_ref.as_json().as_bytes());
            out.push(b',');
            out.extend_from_slice(reference.as_json().as_bytes());
            out.push(b',');
            json::write_string(out, topic);
            out.push(b',');
            json::write_string(out, event);
            out.push(b',');
        }
    }
}

/// Everything after the payload. Version 1.0.0 never names the join reference.
fn tail(out: &mut Vec<u8>, vsn: Vsn, reference: &Ref) {
    match vsn {
        Vsn::V1 => {
            out.extend_from_slice(b",\"ref\":");
            out.extend_from_slice(reference.as_json().as_bytes());
            out.push(b'}');
        }
        Vsn::V2 => out.push(b']'),
    }
}
