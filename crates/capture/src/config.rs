//! Settings of the capture side. Defaults are the server's business.

use std::time::Duration;

use crate::connect::Endpoint;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// For the pool. May lead through a pooler.
    pub database: Endpoint,
    /// For LISTEN and session locks: PostgreSQL itself. Often the same.
    pub direct: Endpoint,
    /// The publication that says which tables are captured.
    pub publication: String,
    /// Whether triggers are attached where they are missing; else only reported.
    pub ddl: bool,
    /// How long changes are kept for clients that are away.
    pub log_retention: Duration,
    /// How large log and ledger may grow, in bytes. History gives way to it.
    pub log_bytes_max: u64,
    /// How long the places of a session are kept after it was last heard of.
    pub session_retention: Duration,
    /// Stored messages that say more, in bytes, are not broadcast.
    pub message_bytes_max: usize,
    /// Pooled connections.
    pub pool_size: usize,
    /// Between two looks into the log that nobody rang for, while asleep.
    pub safety_poll: Duration,
    /// Between two looks while there is work.
    pub poll_busy: Duration,
    /// Whether to sleep until the bell rings.
    pub arm: Arm,
    /// Bound of one evaluation of filters in PostgreSQL.
    pub evaluate_timeout: Duration,
}

/// When the doorbell is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// Unless the server prepares transactions (`max_prepared_transactions` > 0): one that rang
    /// cannot be prepared.
    Auto,
    /// Never: look into the log every 20 ms.
    Never,
}
