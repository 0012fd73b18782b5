//! A message as somebody wants to send it.

use axum::http::HeaderMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    booking_ref::BookingRef,
    code::Code,
    fields::{Fields, wrong},
    refusal::Refusal,
};

/// Longest content; as in sql/chat/0001_tables.sql.
const CONTENT_CHARS_MAX: usize = 4_000;
/// Largest metadata, as JSON text.
const METADATA_BYTES_MAX: usize = 8_192;
/// Longest name that a sender may give a message; as in sql/chat/0001_tables.sql.
const KEY_CHARS_MAX: usize = 200;
/// Names that the database gives to status messages.
const KEY_RESERVED: &str = "system:";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageType {
    Text,
    System,
    /// For operators only.
    Note,
}

impl MessageType {
    fn of(fields: &Fields) -> Result<Self, Refusal> {
        match fields.text(&["message_type"])? {
            None | Some("text") => Ok(Self::Text),
            Some("system") => Ok(Self::System),
            Some("note") => Ok(Self::Note),
            Some(_) => Err(invalid(
                "message_type",
                "message_type must be text, note or system.",
            )),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::System => "system",
            Self::Note => "note",
        }
    }
}

/// A message on its way in.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) booking: BookingRef,
    pub(crate) content: String,
    pub(crate) message_type: MessageType,
    /// The sender's own name for it.
    pub(crate) key: Option<String>,
    pub(crate) metadata: Value,
    pub(crate) reply_to: Option<Uuid>,
}

impl Draft {
    /// `sender_role` and `sender_type` may be given and are not believed: the token says who sends.
    pub(crate) fn of(fields: &Fields, headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            booking: BookingRef::of(fields)?,
            content: content(fields)?.ok_or_else(|| Refusal::new(Code::Empty).field("content"))?,
            message_type: MessageType::of(fields)?,
            key: key(fields, headers)?,
            metadata: metadata(fields)?,
            reply_to: id(fields, "reply_to")?,
        })
    }
}

/// The text of a message, where one is given.
pub(crate) fn content(fields: &Fields) -> Result<Option<String>, Refusal> {
    let Some(content) = fields.text(&["content", "message"])? else {
        return Ok(None);
    };
    if content.trim().is_empty() {
        return Err(Refusal::new(Code::Empty).field("content"));
    }
    let chars = content.chars().count();
    if chars > CONTENT_CHARS_MAX {
        let message = format!("Too long ({chars} of {CONTENT_CHARS_MAX} characters).");
        let refusal = Refusal::say(Code::TooLong, message).field("content");
        return Err(refusal.with("limit", CONTENT_CHARS_MAX));
    }
    Ok(Some(content.into()))
}

pub(crate) fn metadata(fields: &Fields) -> Result<Value, Refusal> {
    let metadata = fields.object("metadata")?.cloned().unwrap_or_default();
    let text = Value::Object(metadata);
    let written = text.to_string();
    if written.len() > METADATA_BYTES_MAX {
        let refusal = Refusal::say(Code::TooLong, "The metadata is too long.").field("metadata");
        return Err(refusal.with("limit_bytes", METADATA_BYTES_MAX));
    }
    if has_nul(&text) {
        return Err(wrong("metadata", "free of NUL characters"));
    }
    Ok(text)
}

/// The sender's own name for a message: `client_id`, or the header `Idempotency-Key`.
pub(crate) fn key(fields: &Fields, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = Map::new();
    if let Some(key) = headers.get("idempotency-key") {
        let key = key
            .to_str()
            .map_err(|_not_text| wrong("Idempotency-Key", "printable text"))?;
        given.insert("client_id".into(), key.into());
    }
    let header = Fields::new(given);
    let Some(key) = fields
        .text(&["client_id", "clientId"])?
        .or(header.text(&["client_id"])?)
    else {
        return Ok(None);
    };
    let chars = key.chars().count();
    if !(1..=KEY_CHARS_MAX).contains(&chars) || key.starts_with(KEY_RESERVED) {
        let message = format!(
            "client_id must have 1 to {KEY_CHARS_MAX} characters and not begin with {KEY_RESERVED}"
        );
        return Err(invalid("client_id", message));
    }
    Ok(Some(key.into()))
}

/// A UUID.
pub(crate) fn id(fields: &Fields, name: &'static str) -> Result<Option<Uuid>, Refusal> {
    fields
        .text(&[name])?
        .map(Uuid::parse_str)
        .transpose()
        .map_err(|_not_a_uuid| invalid(name, format!("{name} must be a UUID.")))
}

pub(crate) fn invalid(field: &str, message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::say(Code::InvalidValue, message).field(field)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(values) => values
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft(extra: &Value) -> Result<Draft, Code> {
        let mut fields = json!({"bookingId": "REQ1", "content": "Hello"});
        for (name, value) in extra.as_object().unwrap() {
            fields[name] = value.clone();
        }
        let Value::Object(fields) = fields else {
            panic!("an object")
        };
        Draft::of(&Fields::new(fields), &HeaderMap::new()).map_err(|refusal| refusal.code())
    }

    #[test]
    fn refuses_what_cannot_be_a_message() {
        for (extra, code) in [
            (json!({"content": null}), Code::Empty),
            (json!({"content": " \n\u{a0}"}), Code::Empty),
            (json!({"content": "x".repeat(4_001)}), Code::TooLong),
            (json!({"metadata": {"x": "y".repeat(9_000)}}), Code::TooLong),
            (
                json!({"metadata": {"x": [{"y\u{0}": 1}]}}),
                Code::InvalidRequest,
            ),
            (json!({"metadata": []}), Code::InvalidRequest),
            (json!({"message_type": "file"}), Code::InvalidValue),
            (json!({"client_id": ""}), Code::InvalidValue),
            (
                json!({"client_id": "system:accepted:2"}),
                Code::InvalidValue,
            ),
            (json!({"reply_to": "msg_1"}), Code::InvalidValue),
            (json!({"bookingId": ""}), Code::InvalidBookingRef),
        ] {
            assert_eq!(draft(&extra).unwrap_err(), code, "{extra}");
        }
        assert_eq!(
            draft(&json!({"content": "ü".repeat(4_000)}))
                .unwrap()
                .content
                .chars()
                .count(),
            4_000
        );
    }

    #[test]
    fn a_header_names_a_message_as_well() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "abc".parse().unwrap());
        let key = |fields: Value| {
            let Value::Object(fields) = fields else {
                panic!("an object")
            };
            key(&Fields::new(fields), &headers).unwrap()
        };
        assert_eq!(key(json!({})), Some("abc".into()));
        assert_eq!(key(json!({"client_id": "def"})), Some("def".into()));
    }
}
