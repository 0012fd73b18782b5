//! The `access_token` of a join or of a refresh, before anybody verifies it.

use std::fmt;

use serde_json::value::RawValue;

use crate::json;

/// What stands in a token field. Its `Debug` never shows the token.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum TokenField {
    /// The key is missing.
    #[default]
    Absent,
    /// `null`: the client does not know its token yet.
    Null,
    /// A string: a JWT, or an API key.
    Text(Box<str>),
    /// Anything else; ignored wherever it is read.
    Other,
}

impl TokenField {
    /// Reads the `access_token` of an `access_token` push; a payload that is no object has none.
    #[must_use]
    pub fn parse_push(payload: &RawValue) -> Self {
        json::Object::parse(payload).map_or(Self::Absent, |object| {
            Self::read(object.get("access_token"))
        })
    }

    pub(crate) fn read(value: Option<&RawValue>) -> Self {
        match value {
            None => Self::Absent,
            Some(value) if value.get() == "null" => Self::Null,
            Some(value) => json::text(value).map_or(Self::Other, |text| Self::Text(text.into())),
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Null | Self::Other => None,
        }
    }

    /// Whether it is an opaque API key (`sb_...`). A refresh ignores those, a join falls back to
    /// the token of the connection.
    #[must_use]
    pub fn is_api_key(&self) -> bool {
        self.as_str().is_some_and(|text| text.starts_with("sb_"))
    }
}

impl fmt::Debug for TokenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Null => "Null",
            Self::Text(_) => "Text(***)",
            Self::Other => "Other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strings_are_tokens_and_none_is_shown() {
        let check = |payload: &str, expected: Option<&str>, shown: &str| {
            let payload: Box<RawValue> = serde_json::from_str(payload).unwrap();
            let field = TokenField::parse_push(&payload);
            assert_eq!(
                (field.as_str(), format!("{field:?}").as_str()),
                (expected, shown),
                "{payload}"
            );
        };
        check(r#"{"access_token":"a.b.c"}"#, Some("a.b.c"), "Text(***)");
        check(r#"{"access_token":"\u0061"}"#, Some("a"), "Text(***)");
        check(r#"{"access_token":""}"#, Some(""), "Text(***)");
        check(r#"{"access_token":null}"#, None, "Null");
        check(r#"{"access_token":5}"#, None, "Other");
        check("{}", None, "Absent");
        check("[]", None, "Absent");
    }

    #[test]
    fn api_keys_are_told_from_tokens() {
        assert!(TokenField::Text("sb_publishable_x".into()).is_api_key());
        assert!(!TokenField::Text("a.sb_.c".into()).is_api_key());
        assert!(!TokenField::Text("sbx".into()).is_api_key());
        assert!(!TokenField::Other.is_api_key());
    }
}
