//! What end-to-end tests begin with: the schema alone, its triggers attached, and no relay ([`CaptureDatabase`]); or a relay on
//! a database of its own, a writer, and clients that subscribe ([`Stage`]).
//!
//! Used by the tests beside this folder only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "this is test code: it fails the test that uses it"
)]

mod capture_database;
mod listener;
mod stage;
mod subscriber;

pub use capture_database::{CaptureDatabase, LogRow, files_of_the_schema};
pub use listener::Listener;
pub use stage::Stage;
pub use subscriber::{Subscriber, brief};
