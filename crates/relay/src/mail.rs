//! What shards send each other about topics.
//!
//! Every topic has a home: the shard that brings what its clients say into one order. A shard that
//! has something for a topic sends it there, and the home tells all shards, itself included. What
//! goes to a home may cause deliveries, and deliveries cause nothing further, so that the two
//! queues can be bounded without waiting for each other.

use std::{hash::BuildHasher as _, sync::Arc};

use bytes::Bytes;
use foldhash::fast::FixedState;
use pgrelay_protocol::{Encoding, Topic};
use uuid::Uuid;

use crate::{
    engine::MemberKey,
    ports::{StoredMessage, StoredPayload},
};

/// A channel of some shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) shard: usize,
    pub(crate) member: MemberKey,
}

/// For the home of a topic.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Have this told to everybody.
    Tell(Cast),
    /// Somebody's presence changes, or somebody asks who is there.
    Presence {
        topic: Topic,
        private: bool,
        who: Address,
        wish: PresenceWish,
    },
}

/// What a channel asks of the presence of its topic.
#[derive(Debug)]
pub enum PresenceWish {
    /// Be there, or be there as this.
    Track {
        /// Under which key.
        key: Box<str>,
        /// JSON object text.
        meta: Box<str>,
    },
    /// Be gone.
    Untrack,
    /// Know who is there.
    State,
}

/// From a home to a shard.
#[derive(Debug, Clone)]
pub(crate) enum Delivery {
    /// To the channels of a topic.
    Cast(Arc<Cast>),
    /// To one channel: who is there, as JSON text.
    PresenceState(MemberKey, Bytes),
}

/// Something for every channel of a topic. Its `Debug` shows no payload.
#[derive(Debug)]
pub struct Cast {
    /// Which topic.
    pub topic: Topic,
    /// Its private channels, or its public ones; never both.
    pub private: bool,
    /// What is said.
    pub body: Body,
    /// The stored message it is.
    pub id: Option<Uuid>,
    pub(crate) from: Option<Address>,
}

/// What is said, in the form its origin gave it.
pub enum Body {
    /// A whole payload: JSON object text.
    Plain(Bytes),
    /// An event of the application.
    User {
        /// Its name.
        event: Box<str>,
        /// JSON object text.
        metadata: Option<Box<str>>,
        /// What `payload` is.
        encoding: Encoding,
        /// Valid JSON text where the encoding says so, else any bytes.
        payload: Bytes,
    },
    /// Who came and went: the payload of `presence_diff`.
    PresenceDiff(Bytes),
}

impl Cast {
    /// Something that is said from outside: no channel is its sender.
    #[must_use]
    pub fn new(topic: Topic, private: bool, body: Body) -> Self {
        Self {
            topic,
            private,
            body,
            id: None,
            from: None,
        }
    }
}

impl Body {
    /// What a stored message says.
    pub(crate) fn stored(message: &StoredMessage, metadata: String) -> Self {
        let (encoding, payload) = match &message.payload {
            StoredPayload::Json(text) => (Encoding::Json, Bytes::copy_from_slice(text.as_bytes())),
            StoredPayload::Binary(bytes) => (Encoding::Binary, bytes.clone()),
        };
        Self::User {
            event: message.event.clone(),
            metadata: Some(metadata.into()),
            encoding,
            payload,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(payload) => write!(f, "Plain({} bytes)", payload.len()),
            Self::User { event, payload, .. } => {
                write!(f, "User({event:?}, {} bytes)", payload.len())
            }
            Self::PresenceDiff(json) => write!(f, "PresenceDiff({} bytes)", json.len()),
        }
    }
}

/// The shard, of so many, that is the home of `topic`. The same wherever it is asked.
pub(crate) fn home(topic: &Topic, shards: usize) -> usize {
    let hash = FixedState::with_seed(0x70_67_72_65_6c_61_79).hash_one(topic);
    usize::try_from(hash % shards.max(1) as u64).unwrap_or_default()
}
