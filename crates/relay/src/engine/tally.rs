//! What an engine counts between two looks at it.

/// Plain numbers: metrics are shared between threads and too slow to touch per delivery.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Parcels of changes.
    pub(crate) deliveries: u64,
    /// Their bytes.
    pub(crate) delivered_bytes: u64,
    /// Parcels of broadcasts and of presence.
    pub(crate) broadcasts: u64,
    /// Their bytes.
    pub(crate) broadcast_bytes: u64,
    /// Distinct parcels among all of them.
    pub(crate) encoded: u64,
    /// `must_refetch` messages, in the order of [`RefetchReason`](pgrelay_protocol::RefetchReason).
    pub(crate) refetches: [u64; 6],
    /// Scans that were opened.
    pub(crate) replays: u64,
    /// Channels more than before.
    pub(crate) channels: i64,
    /// Bindings more than before.
    pub(crate) bindings: i64,
}
