//! The payload of a `presence` push.

use std::fmt;

use serde_json::value::RawValue;

use crate::json;

/// What a client asks of its presence. Its `Debug` shows no payload.
pub enum PresencePush {
    /// Track this object, `{}` where the payload is missing.
    Track(Box<RawValue>),
    /// Track something that is no object: refused with [`PresencePush::NOT_A_MAP`].
    TrackNotAMap,
    /// Untrack.
    Untrack,
    /// No `event` at all: answered ok, nothing happens.
    NoEvent,
    /// Any other event, or a payload that is no object: answered with an error.
    Unknown,
}

impl PresencePush {
    /// The `reason` that answers [`PresencePush::TrackNotAMap`].
    pub const NOT_A_MAP: &'static str = "Presence track payload must be a map";

    /// Reads the payload of a `presence` push. Event names are matched in any letter case.
    #[must_use]
    pub fn parse(payload: &RawValue) -> Self {
        let Some(push) = json::Object::parse(payload) else {
            return Self::Unknown;
        };
        let Some(event) = push.get("event") else {
            return Self::NoEvent;
        };
        match json::text(event) {
            Some(event) if event.eq_ignore_ascii_case("track") => match push.get("payload") {
                None => Self::Track(RawValue::from_string("{}".to_owned()).expect("{} is JSON")),
                Some(meta) if json::is_object(meta) => Self::Track(meta.to_owned()),
                Some(_) => Self::TrackNotAMap,
            },
            Some(event) if event.eq_ignore_ascii_case("untrack") => Self::Untrack,
            Some(_) | None => Self::Unknown,
        }
    }
}

impl fmt::Debug for PresencePush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Track(_) => "Track",
            Self::TrackNotAMap => "TrackNotAMap",
            Self::Untrack => "Untrack",
            Self::NoEvent => "NoEvent",
            Self::Unknown => "Unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_push_is_understood_or_named() {
        let check = |payload: &str, expected: &str| {
            let payload: Box<RawValue> = serde_json::from_str(payload).unwrap();
            let found = match PresencePush::parse(&payload) {
                PresencePush::Track(meta) => format!("track {meta}"),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{payload}");
        };
        check(
            r#"{"type":"presence","event":"track","payload":{"a":1}}"#,
            r#"track {"a":1}"#,
        );
        check(r#"{"event":"TRACK","payload":{}}"#, "track {}");
        check(r#"{"event":"track"}"#, "track {}");
        check(r#"{"event":"track","payload":null}"#, "TrackNotAMap");
        check(r#"{"event":"track","payload":[]}"#, "TrackNotAMap");
        check(r#"{"event":"Untrack"}"#, "Untrack");
        check("{}", "NoEvent");
        check(r#"{"event":"jump"}"#, "Unknown");
        check(r#"{"event":7}"#, "Unknown");
        check("[]", "Unknown");
    }
}
