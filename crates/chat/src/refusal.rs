//! A refusal as the caller reads it: `{"error":{"code","message","retryable",...}}`.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{answer::json_response, code::Code};

/// What is said, and what else is in `error`: `field`, `retry_after`, `allowed`, `booking` ...
#[derive(Debug)]
pub(crate) struct Refusal {
    code: Code,
    message: Cow<'static, str>,
    extra: Map<String, Value>,
}

impl Refusal {
    pub(crate) fn new(code: Code) -> Self {
        Self {
            code,
            message: code.sentence().into(),
            extra: Map::new(),
        }
    }

    /// With words of its own.
    pub(crate) fn say(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            ..Self::new(code)
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.into(), value.into());
        self
    }

    /// About one field of the request.
    pub(crate) fn field(self, name: &str) -> Self {
        self.with("field", name)
    }

    /// What the database refused; `detail` is a JSON object or not there.
    pub(crate) fn from_database(code: Code, detail: Option<&str>) -> Self {
        let mut refusal = Self::new(code);
        if let Some(Value::Object(extra)) = detail.and_then(|text| serde_json::from_str(text).ok())
        {
            refusal.extra = extra;
        }
        if let Some(sentence) = refusal.told_by_extra() {
            refusal.message = sentence.into();
        }
        refusal
    }

    /// A sentence that names what stands in the way, where the database has said it.
    fn told_by_extra(&self) -> Option<String> {
        let text = |pointer: &str| {
            let key = pointer
                .trim_start_matches('/')
                .split('/')
                .collect::<Vec<_>>();
            let (first, rest) = key.split_first()?;
            rest.iter()
                .try_fold(self.extra.get(*first)?, |value, key| value.get(key))
                .filter(|value| !value.is_null())
                .map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), String::from)
                })
        };
        Some(match self.code {
            Code::StatusConflict => format!(
                "Already {} by {}.",
                text("/booking/status")?,
                text("/changed_by").unwrap_or_else(|| "somebody else".into())
            ),
            Code::IllegalTransition => format!(
                "A booking that is {} cannot become {}.",
                text("/from")?,
                text("/to")?
            ),
            Code::AlreadyAssigned => format!(
                "{} takes care of this booking.",
                text("/assignment/operator_name")?
            ),
            Code::RateLimited => {
                format!("You're sending too fast, wait {} s.", text("/retry_after")?)
            }
            _ => return None,
        })
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after = match (self.code, self.extra.get("retry_after")) {
            (_, Some(seconds)) => seconds.as_u64(),
            (Code::Unavailable, None) => Some(1),
            _ => None,
        };
        let mut error = self.extra;
        error.insert("code".into(), self.code.as_str().into());
        error.insert("message".into(), self.message.into());
        error.insert("retryable".into(), self.code.is_retryable().into());
        if let Some(seconds) = retry_after {
            error.insert("retry_after".into(), seconds.into());
        }
        let body = json!({ "error": error }).to_string();
        let mut response = json_response(self.code.status(), body);
        let headers = response.headers_mut();
        if self.code == Code::AuthRequired {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_stands_in_the_way() {
        for (code, detail, sentence) in [
            (
                Code::StatusConflict,
                r#"{"booking":{"status":"accepted"},"changed_by":"Dana"}"#,
                "Already accepted by Dana.",
            ),
            (
                Code::StatusConflict,
                r#"{"booking":{"status":"accepted"},"changed_by":null}"#,
                "Already accepted by somebody else.",
            ),
            (
                Code::RateLimited,
                r#"{"retry_after":8}"#,
                "You're sending too fast, wait 8 s.",
            ),
            (
                Code::AlreadyAssigned,
                r#"{"assignment":{"operator_name":null}}"#,
                Code::AlreadyAssigned.sentence(),
            ),
            (
                Code::BookingClosed,
                "not json",
                Code::BookingClosed.sentence(),
            ),
        ] {
            assert_eq!(Refusal::from_database(code, Some(detail)).message, sentence);
        }
    }
}
