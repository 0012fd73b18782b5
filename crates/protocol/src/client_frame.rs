//! What clients send: text frames of both versions and the one binary frame.
//!
//! Payloads stay unparsed; `join`, `token` and `presence` read them when the session asks.

use std::{borrow::Cow, fmt};

use bytes::{Buf as _, Bytes};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::{
    json::{self, Text},
    limits::{EVENT_BYTES_MAX, REF_BYTES_MAX, TOPIC_BYTES_MAX},
    reference::Ref,
    version::Vsn,
};

/// One message of a client.
#[derive(Debug)]
pub struct ClientFrame {
    /// The join this message belongs to; may be stale or `null` on everything but a leave.
    pub join_ref: Ref,
    /// Correlates the reply.
    pub reference: Ref,
    /// Full topic, not yet known to be one.
    pub topic: Box<str>,
    /// What the client wants.
    pub event: ClientEvent,
}

/// The event of a [`ClientFrame`]. Its `Debug` shows no payload: payloads hold tokens.
pub enum ClientEvent {
    /// `phx_join`, with its payload.
    Join(Box<RawValue>),
    /// `phx_leave`
    Leave,
    /// `heartbeat` on topic `phoenix`.
    Heartbeat,
    /// `access_token`, with its payload.
    AccessToken(Box<RawValue>),
    /// `broadcast`
    Broadcast(BroadcastPush),
    /// `presence`, with its payload.
    Presence(Box<RawValue>),
    /// Any other event, by name. Ignored on a joined topic.
    Unknown(Box<str>),
}

/// A broadcast of a client. Its `Debug` shows no payload.
pub enum BroadcastPush {
    /// From a text frame: an object, relayed untouched.
    Plain(Box<RawValue>),
    /// From a binary frame.
    User {
        /// Event name of the application; may be empty.
        event: Box<str>,
        /// What `payload` is.
        encoding: Encoding,
        /// Valid JSON text where the encoding says so, else any bytes.
        payload: Bytes,
    },
}

/// What the payload of a user broadcast is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Bytes.
    Binary,
    /// JSON text.
    Json,
}

/// A frame that is dropped: no answer, the connection stays. Never holds what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON at all.
    #[error("the frame is not JSON")]
    NotJson,
    /// JSON, but no message: wrong top-level type, missing or mistyped fields.
    #[error("the frame is not a message")]
    NotAMessage,
    /// Nested deeper than [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX).
    #[error("the frame is nested too deeply")]
    TooDeep,
    /// A field is longer than its limit.
    #[error("the {0} is too long")]
    TooLong(&'static str),
    /// A `broadcast` whose payload is no object: no client could read it.
    #[error("the broadcast payload is not an object")]
    BroadcastPayload,
    /// A binary frame on a 1.0.0 socket.
    #[error("serializer 1.0.0 has no binary frames")]
    BinaryUnsupported,
    /// A binary frame of a kind that clients do not send.
    #[error("unknown binary frame kind {0}")]
    UnknownKind(u8),
    /// A binary frame that ends before its fields do.
    #[error("the binary frame is truncated")]
    Truncated,
    /// A field of a binary frame is not UTF-8.
    #[error("a binary frame field is not UTF-8")]
    NotUtf8,
    /// The metadata of a binary frame is not JSON.
    #[error("the binary frame metadata is not JSON")]
    Metadata,
    /// The payload of a binary frame claims to be JSON and is not.
    #[error("the binary frame payload is not JSON")]
    Payload,
}

/// Reads a text frame.
pub fn decode_text(vsn: Vsn, text: &str) -> Result<ClientFrame, Malformed> {
    if json::is_too_deep(text.as_bytes()) {
        return Err(Malformed::TooDeep);
    }
    let parts = match vsn {
        // What is derived for a struct would read a list too.
        Vsn::V1 if text.trim_start().starts_with('[') => return Err(Malformed::NotAMessage),
        Vsn::V1 => serde_json::from_str::<Parts<'_>>(text),
        Vsn::V2 => serde_json::from_str::<ArrayParts<'_>>(text).map(|ArrayParts(parts)| parts),
    };
    match parts {
        Ok(parts) => parts.into_frame(),
        Err(error) if error.classify() == Category::Data => Err(Malformed::NotAMessage),
        Err(_) => Err(Malformed::NotJson),
    }
}

/// Reads a binary frame: a user broadcast push, the only kind clients send.
pub fn decode_binary(vsn: Vsn, mut frame: Bytes) -> Result<ClientFrame, Malformed> {
    const USER_BROADCAST_PUSH: u8 = 3;
    const BINARY: u8 = 0;

    if vsn == Vsn::V1 {
        return Err(Malformed::BinaryUnsupported);
    }
    match frame.first() {
        Some(&USER_BROADCAST_PUSH) => {}
        Some(&kind) => return Err(Malformed::UnknownKind(kind)),
        None => return Err(Malformed::Truncated),
    }
    let header: [u8; 7] = *frame.first_chunk().ok_or(Malformed::Truncated)?;
    let [_, join_ref, reference, topic, event, metadata, encoding] = header;
    frame.advance(header.len());
    let mut field = |length: u8| {
        let length = usize::from(length);
        if frame.len() < length {
            Err(Malformed::Truncated)
        } else {
            Ok(frame.split_to(length))
        }
    };
    let (join_ref, reference) = (field(join_ref)?, field(reference)?);
    let (topic, event, metadata) = (field(topic)?, field(event)?, field(metadata)?);
    if !metadata.is_empty() && !is_json(&metadata) {
        return Err(Malformed::Metadata);
    }
    let encoding = if encoding == BINARY {
        Encoding::Binary
    } else {
        Encoding::Json
    };
    if encoding == Encoding::Json {
        check_json(&frame)?;
    }
    Ok(ClientFrame {
        join_ref: Ref::from_bare(utf8(&join_ref)?),
        reference: Ref::from_bare(utf8(&reference)?),
        topic: utf8(&topic)?.into(),
        event: ClientEvent::Broadcast(BroadcastPush::User {
            event: utf8(&event)?.into(),
            encoding,
            payload: frame,
        }),
    })
}

/// Checks that `payload` is JSON that every client can read.
///
/// # Errors
/// [`Malformed::TooDeep`] and [`Malformed::Payload`].
pub fn check_json(payload: &[u8]) -> Result<(), Malformed> {
    if json::is_too_deep(payload) {
        Err(Malformed::TooDeep)
    } else if is_json(payload) {
        Ok(())
    } else {
        Err(Malformed::Payload)
    }
}

fn utf8(field: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(field).ok().ok_or(Malformed::NotUtf8)
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

/// The fields of a text frame; deserialized from the object form.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    join_ref: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: &'a RawValue,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The same fields, from the array form; further elements are ignored.
struct ArrayParts<'a>(Parts<'a>);

impl<'de> Deserialize<'de> for ArrayParts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = ArrayParts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[join_ref, ref, topic, event, payload]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let missing = || A::Error::custom("too few elements");
                let join_ref = seq.next_element()?.ok_or_else(missing)?;
                let reference = seq.next_element()?.ok_or_else(missing)?;
                let Text(topic) = seq.next_element()?.ok_or_else(missing)?;
                let Text(event) = seq.next_element()?.ok_or_else(missing)?;
                let payload = seq.next_element()?.ok_or_else(missing)?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(ArrayParts(Parts {
                    join_ref: Some(join_ref),
                    reference,
                    topic,
                    event,
                    payload,
                }))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

impl Parts<'_> {
    fn into_frame(self) -> Result<ClientFrame, Malformed> {
        let join_ref = self.join_ref.map_or("null", RawValue::get);
        let reference = self.reference.get();
        if join_ref.len() > REF_BYTES_MAX || reference.len() > REF_BYTES_MAX {
            return Err(Malformed::TooLong("ref"));
        }
        if self.topic.len() > TOPIC_BYTES_MAX {
            return Err(Malformed::TooLong("topic"));
        }
        if self.event.len() > EVENT_BYTES_MAX {
            return Err(Malformed::TooLong("event"));
        }
        Ok(ClientFrame {
            join_ref: Ref::from_json(join_ref),
            reference: Ref::from_json(reference),
            event: ClientEvent::read(&self.topic, &self.event, self.payload)?,
            topic: self.topic.into(),
        })
    }
}

impl ClientEvent {
    fn read(topic: &str, event: &str, payload: &RawValue) -> Result<Self, Malformed> {
        Ok(match event {
            "phx_join" => Self::Join(payload.to_owned()),
            "phx_leave" => Self::Leave,
            "heartbeat" if topic == "phoenix" => Self::Heartbeat,
            "access_token" => Self::AccessToken(payload.to_owned()),
            "broadcast" if !json::is_object(payload) => return Err(Malformed::BroadcastPayload),
            "broadcast" => Self::Broadcast(BroadcastPush::Plain(payload.to_owned())),
            "presence" => Self::Presence(payload.to_owned()),
            other => Self::Unknown(other.into()),
        })
    }
}

impl fmt::Debug for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(payload) => write!(f, "Join({} bytes)", payload.get().len()),
            Self::Leave => f.write_str("Leave"),
            Self::Heartbeat => f.write_str("Heartbeat"),
            Self::AccessToken(payload) => write!(f, "AccessToken({} bytes)", payload.get().len()),
            Self::Broadcast(push) => write!(f, "Broadcast({push:?})"),
            Self::Presence(payload) => write!(f, "Presence({} bytes)", payload.get().len()),
            Self::Unknown(event) => write!(f, "Unknown({event:?})"),
        }
    }
}

impl fmt::Debug for BroadcastPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(payload) => write!(f, "Plain({} bytes)", payload.get().len()),
            Self::User {
                event,
                encoding,
                payload,
            } => {
                write!(f, "User({event:?}, {encoding:?}, {} bytes)", payload.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bounded() {
        let check = |reference: usize, topic: usize, event: usize, expected: Option<Malformed>| {
            let text = |length| "x".repeat(length);
            let frame = format!(
                "[\"{}\",null,\"{}\",\"{}\",{{}}]",
                text(reference - 2),
                text(topic),
                text(event)
            );
            assert_eq!(decode_text(Vsn::V2, &frame).err(), expected);
        };
        check(REF_BYTES_MAX, TOPIC_BYTES_MAX, EVENT_BYTES_MAX, None);
        check(REF_BYTES_MAX + 1, 1, 1, Some(Malformed::TooLong("ref")));
        check(2, TOPIC_BYTES_MAX + 1, 1, Some(Malformed::TooLong("topic")));
        check(2, 1, EVENT_BYTES_MAX + 1, Some(Malformed::TooLong("event")));
    }

    #[test]
    fn depth_is_bounded_in_text_and_in_binary() {
        let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let frame = format!("[null,null,\"t\",\"presence\",{nested}]");
        assert_eq!(decode_text(Vsn::V2, &frame).err(), Some(Malformed::TooDeep));
        let frame = [&[3, 0, 0, 1, 0, 0, 1][..], b"t", nested.as_bytes()].concat();
        assert_eq!(
            decode_binary(Vsn::V2, frame.into()).err(),
            Some(Malformed::TooDeep)
        );
    }

    #[test]
    fn bytes_are_not_looked_into() {
        let frame = [&[3, 0, 0, 1, 0, 0, 0][..], b"t", &[b'['; 1_000]].concat();
        assert!(decode_binary(Vsn::V2, frame.into()).is_ok());
    }

    #[test]
    fn what_is_logged_shows_no_payload() {
        let secret = r#"{"access_token":"secret","event":"secret"}"#;
        for event in ["phx_join", "access_token", "broadcast", "presence"] {
            let frame =
                decode_text(Vsn::V2, &format!("[null,null,\"t\",\"{event}\",{secret}]")).unwrap();
            assert!(!format!("{frame:?}").contains("secret"), "{frame:?}");
        }
        let error = decode_text(Vsn::V2, "[null,null,\"t\",[\"secret\"],{}]").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("secret"));
    }
}
