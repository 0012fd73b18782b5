//! What the relay says, read for a terminal.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One message, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The answer to a heartbeat.
    Heartbeat,
    /// The channel is joined.
    Joined,
    /// The channel is refused, and why.
    Refused(String),
    /// The channel was closed.
    Closed,
    /// Something about the subscription.
    System {
        message: String,
        failed: bool,
        cursor: Option<String>,
    },
    /// Everything before the cursor has come.
    Checkpoint { cursor: String },
    /// Something to print, as one line.
    Event {
        line: String,
        cursor: Option<String>,
    },
}

/// `[join_ref, ref, topic, event, payload]`
type Frame<'a> = (
    Option<&'a RawValue>,
    Option<&'a RawValue>,
    std::borrow::Cow<'a, str>,
    std::borrow::Cow<'a, str>,
    &'a RawValue,
);

#[derive(Deserialize)]
struct Reply {
    status: String,
    #[serde(default)]
    response: Response,
}

#[derive(Deserialize, Default)]
struct Response {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct System {
    status: String,
    message: String,
    reason: Option<String>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Cursor {
    cursor: Option<String>,
}

impl Incoming {
    /// Reads a text message; `None` for what a terminal need not know.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (_, _, topic, event, payload): Frame<'_> = serde_json::from_str(text).ok()?;
        match &*event {
            "phx_reply" if topic == "phoenix" => Some(Self::Heartbeat),
            "phx_reply" => {
                let reply: Reply = serde_json::from_str(payload.get()).ok()?;
                if reply.status == "ok" {
                    return Some(Self::Joined);
                }
                Some(Self::Refused(reply.response.reason.unwrap_or(reply.status)))
            }
            "phx_close" | "phx_error" => Some(Self::Closed),
            "system" => {
                let system: System = serde_json::from_str(payload.get()).ok()?;
                Some(match (&*system.message, system.cursor) {
                    ("checkpoint", Some(cursor)) => Self::Checkpoint { cursor },
                    (message, cursor) => {
                        let reason = system.reason.map(|reason| format!(" ({reason})"));
                        let message = format!("{message}{}", reason.unwrap_or_default());
                        Self::System {
                            message,
                            failed: system.status == "error",
                            cursor,
                        }
                    }
                })
            }
            "postgres_changes" | "broadcast" => {
                let cursor = serde_json::from_str::<Cursor>(payload.get()).ok()?.cursor;
                Some(Self::Event {
                    line: one_line(payload.get()),
                    cursor,
                })
            }
            _ => None,
        }
    }
}

/// JSON as one line that cannot command a terminal: line breaks occur between tokens only, and
/// control characters above 0x7e, which JSON lets through, are escaped.
fn one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' => line.push(' '),
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                line.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: impl Into<Option<Incoming>>) {
        assert_eq!(Incoming::read(text), expected.into(), "{text}");
    }

    #[test]
    fn frames_are_told_apart() {
        check(
            r#"[null,"0","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
            Some(Incoming::Heartbeat),
        );
        check(
            r#"["1","1","realtime:t","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#,
            Some(Incoming::Joined),
        );
        check(
            r#"["1","1","realtime:t","phx_reply",{"status":"error","response":{"reason":"MalformedJWT: no"}}]"#,
            Some(Incoming::Refused("MalformedJWT: no".to_owned())),
        );
        check(
            r#"["1","1","realtime:t","phx_close",{}]"#,
            Some(Incoming::Closed),
        );
        check(
            r#"["1",null,"realtime:t","system",{"status":"ok","message":"checkpoint","cursor":"c"}]"#,
            Some(Incoming::Checkpoint {
                cursor: "c".to_owned(),
            }),
        );
        check(
            r#"["1",null,"realtime:t","system",{"status":"error","message":"must_refetch","reason":"hole","cursor":"c"}]"#,
            Some(Incoming::System {
                message: "must_refetch (hole)".to_owned(),
                failed: true,
                cursor: Some("c".to_owned()),
            }),
        );
        check(
            r#"[null,null,"realtime:t","postgres_changes",{"ids":[1],"data":{},"cursor":"c"}]"#,
            Some(Incoming::Event {
                line: r#"{"ids":[1],"data":{},"cursor":"c"}"#.to_owned(),
                cursor: Some("c".to_owned()),
            }),
        );
        check(r#"[null,null,"realtime:t","presence_state",{}]"#, None);
        check("nonsense", None);
    }

    #[test]
    fn an_event_is_one_harmless_line() {
        assert_eq!(
            one_line("{\"a\":\n\"\u{9b}31m\"}"),
            "{\"a\": \"\\u009b31m\"}"
        );
    }
}
