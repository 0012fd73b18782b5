//! What the server decides for the chat.

use std::time::Duration;

/// Bounds of one request, and of one sender.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Longest time that one statement may take.
    pub statement_timeout: Duration,
    /// Longest time that one statement may wait for a lock.
    pub lock_timeout: Duration,
    /// Longest time that the database may take for a whole request; then its connection is given up.
    pub answer_timeout: Duration,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Longest time that a request body may take to arrive.
    pub body_timeout: Duration,
    /// How fast one client may write to one booking; operators are not limited.
    pub send_rate: SendRate,
}

/// At most so many messages in any period of this length.
#[derive(Debug, Clone, Copy)]
pub struct SendRate {
    /// Messages of one client to one booking.
    pub messages_max: u16,
    /// Length of the period.
    pub period: Duration,
}
