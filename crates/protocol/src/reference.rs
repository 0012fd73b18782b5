//! `ref` and `join_ref`: chosen by the client, echoed as they came.

use std::fmt;

/// Any JSON value, kept as the text the client sent. Two are equal when their texts are.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Ref(
    /// `None` is `null`, so that the most frequent value costs no allocation.
    Option<Box<str>>,
);

impl Ref {
    /// The JSON value `null`, also what stands for a missing `join_ref`.
    #[must_use]
    pub const fn null() -> Self {
        Self(None)
    }

    /// A reference out of the text of one JSON value, which the caller has parsed.
    pub(crate) fn from_json(json: &str) -> Self {
        match json {
            "null" => Self(None),
            text => Self(Some(text.into())),
        }
    }

    /// A reference that is the JSON string of `text`: binary frames carry them bare.
    pub(crate) fn from_bare(text: &str) -> Self {
        Self(Some(crate::json::string(text).into()))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.as_deref().unwrap_or("null")
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_in_give_the_same_reference() {
        assert_eq!(Ref::from_json("null"), Ref::null());
        assert!(Ref::from_json("null").is_null());
        assert!(!Ref::from_json("\"null\"").is_null());
        assert_eq!(Ref::from_json("\"10\""), Ref::from_bare("10"));
        assert_ne!(Ref::from_json("10"), Ref::from_bare("10"));
    }
}
