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
    /// Payload of one broadcast, and what one channel may track, in bytes.
    pub payload_bytes_max: usize,
    /// Sockets that have joined a channel, over all shards.
    pub clients_max: Option<usize>,
    /// Joins a second, over all shards.
    pub joins_per_second_max: Option<u32>,
    /// Broadcasts of clients and unknown events a second, over all shards.
    pub events_per_second_max: Option<u32>,
    /// Presence messages of clients a second, over all shards.
    pub presence_events_per_second_max: Option<u32>,
    /// Presence messages of one channel in one window.
    pub presence_calls_max: Option<u32>,
    /// How long that window is.
    pub presence_window: Duration,
    /// Channels that do not ask for it see who is present, too.
    pub presence_enabled: bool,
    /// Public channels are refused.
    pub private_only: bool,
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
