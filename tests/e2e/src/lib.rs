//! What most end-to-end tests begin with: a relay on a database of its own, a writer, and clients that subscribe.
//!
//! Used by the tests beside this folder only.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "this is test code: it fails the test that uses it"
)]

mod stage;
mod subscriber;

pub use stage::Stage;
pub use subscriber::{Subscriber, brief};
