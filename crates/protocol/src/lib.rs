//! The realtime wire as types: frames of both serializer versions, topics, bindings, filters,
//! cursors, codes and limits. No I/O and no clock.

pub mod binding;
pub mod code;
pub mod cursor;
pub mod filter;

pub use binding::{BindingSpec, EventKind, NamePattern};
pub use code::{RefetchReason, TokenError};
pub use cursor::Position;
pub use filter::{Filter, FilterOp};
