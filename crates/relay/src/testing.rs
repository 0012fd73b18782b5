//! For tests of this crate and of those who implement its ports: changes out of short texts, and
//! the suites every implementation of a port must pass.

mod rows;
mod source;

use std::time::Duration;

use pgrelay_protocol::CursorKey;

use crate::Config;

/// Settings of a relay with one shard and no rates.
#[must_use]
pub fn config() -> Config {
    Config {
        shards: 1,
        queue_bytes_max: 1 << 20,
        idle_timeout: Duration::from_secs(60),
        join_error_delay: Duration::from_secs(5),
        checkpoint_interval: Duration::from_secs(10),
        frame_bytes_max: 1 << 20,
        channels_per_client_max: 100,
        payload_bytes_max: 1 << 16,
        clients_max: None,
        joins_per_second_max: None,
        events_per_second_max: None,
        presence_events_per_second_max: None,
        presence_calls_max: None,
        presence_window: Duration::from_secs(30),
        presence_enabled: false,
        private_only: false,
        bindings_per_channel_max: 100,
        ring_bytes_max: 1 << 20,
        replay_bytes_max: 1 << 20,
        evaluate_deadline: Duration::from_secs(1),
        cursor_key: CursorKey::new([3; 32]),
    }
}

pub use rows::{change, page, position, table};
pub use source::{Rig, source_conformance};
