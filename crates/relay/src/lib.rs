//! The product: ordered changes in, frames to exactly the right sockets out.
//!
//! Knows neither SQL nor HTTP. `capture` feeds it, `server` gives it sockets.

mod arena;
pub mod change;
pub mod config;
pub mod engine;
pub mod filter;
mod intern;
mod json;
pub mod matcher;
pub mod outlet;
pub mod ports;
pub mod project;
pub mod registry;
mod ring;
pub mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod timers;

pub use arena::Key;
pub use json::NotAnObject;
