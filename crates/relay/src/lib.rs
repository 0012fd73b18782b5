//! The product: ordered changes in, frames to exactly the right sockets out.
//!
//! Knows neither SQL nor HTTP. `capture` feeds it, `server` gives it sockets.

mod arena;
pub mod change;
mod config;
pub mod engine;
mod fail_point;
pub mod filter;
mod inbound;
mod intern;
mod json;
mod mail;
pub mod matcher;
mod meters;
mod metrics;
mod outbox;
pub mod outlet;
pub mod ports;
pub mod project;
pub mod registry;
mod relay;
mod ring;
pub mod session;
mod shard;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timers;
pub mod view;

pub use arena::Key;
pub use config::Config;
pub use engine::StreamRequest;
pub use fail_point::FailPoint;
pub use json::NotAnObject;
pub use mail::{Body, Cast};
pub use metrics::Metrics;
pub use outlet::{StreamEvent, StreamEventKind};
pub use relay::{AcceptError, Crowded, NewSocket, Ports, Relay, build};
pub use shard::Shard;
pub use stream::EventStream;
