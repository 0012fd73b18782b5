//! One clock for every stamp, in nanoseconds: all measured processes are on one machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since some point in the past, the same for all processes.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Blocks this thread until `at`, or not at all if that is past.
pub(crate) fn sleep_until(at: u64) {
    sleep(Duration::from_nanos(at.saturating_sub(now())));
}

/// Blocks this thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the generator's threads are no runtime workers"
)]
pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// As seconds, for rates.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
