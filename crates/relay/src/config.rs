//! What an operator may choose. Values come from the server's settings; there are no defaults here.

use std::time::Duration;

use pgrelay_protocol::CursorKey;

/// Settings of a relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that own sockets.
    pub shards: usize,
    /// What may wait for one client, in bytes of frames; a client that cannot keep up is closed.
    pub queue_bytes_max: usize,
    /// A socket that sends nothing for so long is closed (1000).
    pub idle_timeout: Duration,
    /// Error replies to joins wait for so long: clients try again for ever.
    pub join_error_delay: Duration,
    /// Channels that asked for cursors are told their position at least this often.
    pub checkpoint_interval: Duration,
    /// Largest frame and largest message a client may send, in bytes; more closes it (1009).
    pub frame_bytes_max: usize,
    /// Channels of one socket.
    pub channels_per_client_max: usize,
    /// `postgres_changes` entries of one channel that may go live; further ones are refused.
    pub bindings_per_channel_max: usize,
    /// Recent pages kept for clients that were away, in bytes. Shards share the pages.
    pub ring_bytes_max: usize,
    /// What one read of the log may return, in bytes.
    pub replay_bytes_max: usize,
    /// How long a channel waits for the database to decide a filter before it is told to fetch
    /// its data again.
    pub evaluate_deadline: Duration,
    /// Seals positions into cursors.
    pub cursor_key: CursorKey,
}
