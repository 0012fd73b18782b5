//! Topics: the names of channels.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::limits::TOPIC_BYTES_MAX;

/// A full topic that can be joined, such as `realtime:room1`. Clones share their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a text is no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It does not start with `realtime:`; answered like every topic that nobody joined.
    #[error("the topic does not start with {PREFIX}")]
    Unmatched,
    /// Nothing follows `realtime:`.
    #[error("the topic has no name")]
    NameRequired,
    /// Longer than [`TOPIC_BYTES_MAX`].
    #[error("the topic is longer than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
}

const PREFIX: &str = "realtime:";

impl Topic {
    /// Reads a full topic, as it stands in frames.
    pub fn parse(full: &str) -> Result<Self, TopicError> {
        match full.strip_prefix(PREFIX) {
            None => Err(TopicError::Unmatched),
            Some("") => Err(TopicError::NameRequired),
            Some(_) if full.len() > TOPIC_BYTES_MAX => Err(TopicError::TooLong),
            Some(_) => Ok(Self(full.into())),
        }
    }

    /// The full topic.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic without `realtime:`, as REST bodies, policies and `system` messages name it.
    #[must_use]
    pub fn sub_topic(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl TopicError {
    /// The `reason` a client reads.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unmatched => "unmatched topic",
            Self::NameRequired => "TopicNameRequired: You must provide a topic name",
            Self::TooLong => "TopicNameTooLong: The topic name is too long",
        }
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_after_the_prefix_is_a_topic() {
        let longest = "x".repeat(TOPIC_BYTES_MAX - PREFIX.len());
        for name in [
            &*longest,
            "room1",
            "*",
            ":",
            "a b",
            "messages:7f3c",
            "été",
            "realtime:x",
        ] {
            let full = format!("realtime:{name}");
            let topic = Topic::parse(&full).unwrap();
            assert_eq!((topic.as_str(), topic.sub_topic()), (full.as_str(), name));
        }
    }

    #[test]
    fn other_texts_say_what_they_lack() {
        let check = |text: &str, expected| assert_eq!(Topic::parse(text), Err(expected), "{text}");
        check("", TopicError::Unmatched);
        check("phoenix", TopicError::Unmatched);
        check("Realtime:room", TopicError::Unmatched);
        check("realtime:", TopicError::NameRequired);
        check(
            &format!(
                "realtime:{}",
                "x".repeat(TOPIC_BYTES_MAX - PREFIX.len() + 1)
            ),
            TopicError::TooLong,
        );
    }
}
