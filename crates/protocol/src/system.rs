//! `system` messages: what a channel is told about itself.

use crate::{code::RefetchReason, json, topic::Topic};

/// A `system` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemMessage<'a> {
    /// The channel's bindings are live.
    Subscribed(
        /// From where; only told to channels that asked for cursors.
        Option<Start<'a>>,
    ),
    /// One binding is not live.
    BindingRefused {
        /// The id of the entry, as the join reply gave it.
        binding: u32,
        /// Why.
        message: &'a str,
    },
    /// Everything up to this cursor was delivered.
    Checkpoint {
        /// Where to go on.
        cursor: &'a str,
    },
    /// Changes may be missing; the binding is live from the cursor.
    MustRefetch {
        /// The id of the entry, as the join reply gave it; `None` for all that carry cursors.
        binding: Option<u32>,
        /// Why.
        reason: RefetchReason,
        /// Where the binding goes on.
        cursor: &'a str,
    },
    /// Why the channel is about to be closed.
    Closing(&'a str),
    /// Broadcasts from the database will be delivered from here on.
    ReplicationReady,
    /// The connection is about to be closed by an operator.
    Disconnect,
}

/// Where a channel that asked for cursors goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'a> {
    /// The position its bindings are live from.
    pub cursor: &'a str,
    /// Every cursor the client gave was honoured: nothing is missing before `cursor`.
    pub recovered: bool,
}

impl SystemMessage<'_> {
    /// Appends the payload of the message, an object, as the channel `topic` reads it.
    pub fn write_payload(&self, out: &mut Vec<u8>, topic: &Topic) {
        out.push(b'{');
        if *self != SystemMessage::Disconnect {
            write_text(out, "channel", topic.sub_topic());
        }
        let (extension, status, message) = self.common();
        write_text(out, "extension", extension);
        write_text(out, "status", status);
        write_text(out, "message", message);
        self.write_extra(out);
        out.push(b'}');
    }

    /// `extension`, `status` and `message`.
    fn common(&self) -> (&'static str, &'static str, &str) {
        const POSTGRES: &str = "postgres_changes";
        const SYSTEM: &str = "system";
        match self {
            Self::Subscribed(_) => (POSTGRES, "ok", "Subscribed to PostgreSQL"),
            Self::BindingRefused { message, .. } => (POSTGRES, "error", message),
            Self::Checkpoint { .. } => (POSTGRES, "ok", "checkpoint"),
            Self::MustRefetch { .. } => (POSTGRES, "error", "must_refetch"),
            Self::Closing(message) => (SYSTEM, "error", message),
            Self::ReplicationReady => (SYSTEM, "ok", "Replication connection established"),
            Self::Disconnect => (SYSTEM, "ok", "Server requested disconnect"),
        }
    }

    fn write_extra(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Subscribed(Some(Start { cursor, recovered })) => {
                write_text(out, "cursor", cursor);
                write_key(out, "recovered");
                out.extend_from_slice(if recovered { b"true" } else { b"false" });
            }
            Self::BindingRefused { binding, .. } => write_binding(out, binding),
            Self::Checkpoint { cursor } => write_text(out, "cursor", cursor),
            Self::MustRefetch {
                binding,
                reason,
                cursor,
            } => {
                write_text(out, "reason", reason.as_str());
                write_text(out, "cursor", cursor);
                if let Some(binding) = binding {
                    write_binding(out, binding);
                }
            }
            Self::Subscribed(None)
            | Self::Closing(_)
            | Self::ReplicationReady
            | Self::Disconnect => {}
        }
    }
}

/// Not named `ids`: clients take any payload with that key for a change.
fn write_binding(out: &mut Vec<u8>, binding: u32) {
    write_key(out, "binding");
    json::write_number(out, binding);
}

fn write_text(out: &mut Vec<u8>, key: &str, value: &str) {
    write_key(out, key);
    json::write_string(out, value);
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    json::write_string(out, key);
    out.push(b':');
}
