//! The realtime wire as types: frames of both serializer versions, topics, bindings, filters,
//! cursors, codes and limits. No I/O and no clock.
//!
//! Text from clients is parsed once, here, into types; malformed text is an error value, never a
//! panic. Text to clients is written here and nowhere else, so that `fixtures/` shows every frame.

pub mod binding;
pub mod client_frame;
pub mod code;
pub mod cursor;
pub mod filter;
mod inspect;
pub mod join;
pub mod join_binding;
mod json;
pub mod limits;
pub mod presence;
pub mod presence_state;
pub mod reference;
pub mod refusal;
mod rights_failure;
pub mod server_frame;
mod sqlstate;
pub mod system;
pub mod token;
pub mod topic;
pub mod version;

pub use binding::{BindingSpec, EventKind, NamePattern};
pub use client_frame::{BroadcastPush, ClientEvent, ClientFrame, Encoding, Malformed};
pub use code::{ChannelEnd, JoinRefusal, RefetchReason, TokenError};
pub use cursor::{CursorKey, Forged, Position};
pub use filter::{Filter, FilterOp};
pub use join::{JoinConfig, JoinError, RawReplay};
pub use join_binding::{JoinBinding, Since};
pub use presence::PresencePush;
pub use presence_state::PresenceEntry;
pub use reference::Ref;
pub use refusal::Refusal;
pub use rights_failure::RightsFailure;
pub use server_frame::{FrameKind, Outcome, ReplyTo, UserBroadcast};
pub use system::SystemMessage;
pub use token::TokenField;
pub use topic::{Topic, TopicError};
pub use version::{UnsupportedVsn, Vsn};
