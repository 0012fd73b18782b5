//! The product: ordered changes in, frames to exactly the right sockets out.
//!
//! Knows neither SQL nor HTTP. `capture` feeds it, `server` gives it sockets.

pub mod change;
pub mod filter;
mod json;
pub mod ports;
pub mod project;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use json::NotAnObject;
