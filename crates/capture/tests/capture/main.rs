//! The capture side against a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that cannot do its work fails the test that called it"
)]

mod administration;
mod conformance;
mod connections;
mod doorbell;
mod filters;
mod messages;
mod migrations;
mod order;
mod outages;
mod policies;
mod replays;
mod resolution;
mod rig;
mod visibility;
