//! The capture side against a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that cannot do its work fails the test that called it"
)]

#[path = "capture/administration.rs"]
mod administration;
#[path = "capture/connections.rs"]
mod connections;
#[path = "capture/doorbell.rs"]
mod doorbell;
#[path = "capture/filters.rs"]
mod filters;
#[path = "capture/migrations.rs"]
mod migrations;
#[path = "capture/order.rs"]
mod order;
#[path = "capture/outages.rs"]
mod outages;
#[path = "capture/replays.rs"]
mod replays;
#[path = "capture/resolution.rs"]
mod resolution;
#[path = "capture/rig.rs"]
mod rig;
