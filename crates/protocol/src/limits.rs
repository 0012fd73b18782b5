//! How much of anything a client may send, with the unit in the name.
//!
//! These are what the parsers of this crate enforce. Limits that an operator may set (frame size,
//! channels per client) live in the configuration of the part that enforces them.

/// Nesting of a text frame, the frame itself counted. Low enough that every parser downstream,
/// ours and the clients', can recurse over it.
pub const JSON_DEPTH_MAX: usize = 100;

/// Keys of an object that is read key by key (a join payload, a `postgres_changes` entry).
pub const OBJECT_KEYS_MAX: usize = 1_000;

/// Full topic, `realtime:` included. Binary frames cannot carry more than
/// [`BINARY_FIELD_BYTES_MAX`].
pub const TOPIC_BYTES_MAX: usize = 1_024;

/// `ref` and `join_ref`, as JSON text. They are kept as long as their channel.
pub const REF_BYTES_MAX: usize = 256;

/// Event name of a text frame.
pub const EVENT_BYTES_MAX: usize = 256;

/// Any field of a binary frame but its payload: lengths are one byte.
pub const BINARY_FIELD_BYTES_MAX: usize = 255;

/// `postgres_changes` entries of one join; more fail the join.
pub const BINDINGS_PER_JOIN_MAX: usize = 1_000;

/// `schema`, `table` and column names of an entry. PostgreSQL's own names end at 63 bytes unless
/// it was built otherwise.
pub const NAME_BYTES_MAX: usize = 255;

/// Conditions of one `filter`.
pub const FILTERS_PER_BINDING_MAX: usize = 10;

/// Text of one `filter`: room for an `in` list of a hundred long values.
pub const FILTER_BYTES_MAX: usize = 16_384;

/// Values of one `in` list. Counted where the list is cast, by the database side.
pub const IN_VALUES_MAX: usize = 100;

/// Columns of one `select`: no PostgreSQL table has more.
pub const SELECT_COLUMNS_MAX: usize = 1_600;

/// Key under which a client tracks its presence.
pub const PRESENCE_KEY_BYTES_MAX: usize = 1_024;

/// Broadcasts replayed after one join; larger wishes are clamped.
pub const REPLAY_MESSAGES_MAX: i64 = 25;
