//! The envelope of several broadcasts: all of them good, or told what is wrong with which.

use axum::body::Bytes;
use pgrelay_protocol::Topic;
use pgrelay_relay::Body;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::Refused;

const BLANK: &str = "can't be blank";
pub(super) const INVALID: &str = "is invalid";
pub(super) const TOO_LARGE: &str = "Payload size exceeds tenant limit";

/// The envelope.
#[derive(Deserialize)]
pub(super) struct Batch<'a> {
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

/// One message of it.
pub(super) struct Message {
    pub(super) topic: Topic,
    pub(super) private: bool,
    pub(super) body: Body,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    topic: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    private: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

impl Batch<'_> {
    /// The messages of a body that is known to be JSON.
    pub(super) fn parse(body: &[u8], payload_bytes_max: usize) -> Result<Vec<Message>, Refused> {
        let refused = |why: &str| Refused::Errors(json!({ "messages": [why] }));
        let batch: Option<Batch<'_>> = serde_json::from_slice(body).ok();
        let messages = batch
            .and_then(|batch| batch.messages)
            .ok_or_else(|| refused(BLANK))?;
        let messages: Vec<&RawValue> =
            serde_json::from_str(messages.get()).map_err(|_no_list| refused(INVALID))?;
        if messages.is_empty() {
            return Err(refused(BLANK));
        }
        let read = |message: &&RawValue| Message::read(message, payload_bytes_max);
        let messages: Vec<Result<Message, Value>> = messages.iter().map(read).collect();
        if messages.iter().all(Result::is_ok) {
            return Ok(messages.into_iter().flatten().collect());
        }
        let errors = messages
            .into_iter()
            .map(|it| it.err().unwrap_or_else(|| json!({})));
        Err(Refused::Errors(
            json!({ "messages": errors.collect::<Vec<_>>() }),
        ))
    }
}

impl Message {
    /// The message, or what is wrong with its fields.
    fn read(message: &RawValue, payload_bytes_max: usize) -> Result<Self, Value> {
        // What is derived for a struct would read a list too.
        let fields = Some(message.get())
            .filter(|text| text.starts_with('{'))
            .and_then(|text| serde_json::from_str::<Fields<'_>>(text).ok());
        let Some(fields) = fields else {
            return Err(json!({ "topic": [BLANK], "event": [BLANK], "payload": [BLANK] }));
        };
        let mut errors = Map::new();
        let mut note = |field: &str, why: &str| {
            errors.insert(field.to_owned(), json!([why]));
        };
        let topic = required(fields.topic)
            .and_then(|topic| Topic::parse(&format!("realtime:{topic}")).map_err(|_error| INVALID));
        let event = required(fields.event);
        let payload = payload(fields.payload, payload_bytes_max);
        let private = flag(fields.private);
        let id = fields.id.map_or(Ok(None), |id| match id.get() {
            "null" => Ok(None),
            text => serde_json::from_str::<String>(text)
                .map(Some)
                .map_err(|_no_text| INVALID),
        });
        for (field, why) in [
            ("topic", topic.as_ref().err()),
            ("event", event.as_ref().err()),
            ("payload", payload.as_ref().err()),
            ("private", private.as_ref().err()),
            ("id", id.as_ref().err()),
        ] {
            why.into_iter().for_each(|why| note(field, why));
        }
        match (topic, event, payload, private, id) {
            (Ok(topic), Ok(event), Ok(payload), Ok(private), Ok(id)) => Ok(Self {
                topic,
                private,
                body: body(&event, payload, id.as_deref()),
            }),
            _ => Err(Value::Object(errors)),
        }
    }
}

fn required(value: Option<&RawValue>) -> Result<String, &'static str> {
    match value.map(RawValue::get) {
        None | Some("null" | "\"\"") => Err(BLANK),
        Some(text) => serde_json::from_str(text).map_err(|_no_text| INVALID),
    }
}

fn payload(value: Option<&RawValue>, bytes_max: usize) -> Result<&RawValue, &'static str> {
    match value {
        None => Err(BLANK),
        Some(value) if value.get() == "null" => Err(BLANK),
        Some(value) if !value.get().starts_with('{') => Err(INVALID),
        Some(value) if value.get().len() > bytes_max => Err(TOO_LARGE),
        Some(value) => Ok(value),
    }
}

/// Whatever a form would have sent for yes and no.
fn flag(value: Option<&RawValue>) -> Result<bool, &'static str> {
    match value.map(RawValue::get) {
        None | Some("null" | "false" | "\"false\"" | "\"0\"") => Ok(false),
        Some("true" | "\"true\"" | "\"1\"") => Ok(true),
        Some(_) => Err(INVALID),
    }
}

/// The whole payload that channels are given.
fn body(event: &str, payload: &RawValue, id: Option<&str>) -> Body {
    let mut text = format!(
        "{{\"type\":\"broadcast\",\"event\":{},\"payload\":{payload}",
        json!(event)
    );
    if let Some(id) = id {
        text.push_str(&format!(",\"meta\":{{\"id\":{}}}", json!(id)));
    }
    text.push('}');
    Body::Plain(Bytes::from(text))
}
