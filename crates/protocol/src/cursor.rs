//! Positions in the change stream and the opaque text clients hold.

/// A place in the change stream: everything up to and including `seq` of `batch`.
///
/// Ordered by (epoch, batch, seq); `tag` proves that the batch is the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u32,
    /// Ledger batch.
    pub batch: u64,
    /// Change in the batch; `i64::MAX` after the whole batch.
    pub seq: i64,
    /// First eight bytes of the batch's random tag, big endian.
    pub tag: u64,
}
