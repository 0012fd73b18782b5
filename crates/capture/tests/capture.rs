//! The capture side against a real PostgreSQL.

#[path = "capture/connections.rs"]
mod connections;
#[path = "capture/doorbell.rs"]
mod doorbell;
#[path = "capture/migrations.rs"]
mod migrations;
#[path = "capture/order.rs"]
mod order;
#[path = "capture/outages.rs"]
mod outages;
#[path = "capture/replays.rs"]
mod replays;
#[path = "capture/rig.rs"]
mod rig;
