//! What the promises of the schema are tested on: a database with schema `pgrelay`, its triggers attached, and no relay.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod capture_database;
mod listener;

pub use capture_database::{CaptureDatabase, LogRow, files_of_the_schema};
pub use listener::Listener;
