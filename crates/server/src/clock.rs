//! The wall clock, read where tokens are judged and made.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970. A clock set before that year reads 0: then every token counts as valid from
/// the start, and none as expired too early.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
