//! What is counted over all shards because it is limited as a whole.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The counters. Shards share them; limits are told by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Sockets that have joined a channel.
    clients: AtomicUsize,
    /// Joins.
    pub(crate) joins: Rate,
    /// What clients said: broadcasts, by socket or by HTTP, and events nobody knows.
    pub(crate) events: Rate,
    /// Presence messages of clients.
    pub(crate) presence: Rate,
}

impl Meters {
    /// Counts one more client, unless there are `max`.
    pub(crate) fn admit_client(&self, max: Option<usize>) -> bool {
        let below = |count: usize| max.is_none_or(|max| count < max).then_some(count + 1);
        self.clients
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, below)
            .is_ok()
    }

    /// A counted client is gone.
    pub(crate) fn release_client(&self) {
        self.clients.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether no further client would be admitted.
    pub(crate) fn is_full(&self, max: Option<usize>) -> bool {
        max.is_some_and(|max| self.clients.load(Ordering::Acquire) >= max)
    }
}

/// How much happened in the running second: the second in the upper half, the count in the lower.
#[derive(Debug, Default)]
pub(crate) struct Rate(AtomicU64);

impl Rate {
    /// Counts `amount` more in second `now`, unless that would be more than `max`.
    pub(crate) fn take(&self, now: u64, amount: u32, max: Option<u32>) -> bool {
        let Some(max) = max else { return true };
        let second = now << 32;
        let more = |word: u64| {
            let count = if word & !u64::from(u32::MAX) == second {
                word & u64::from(u32::MAX)
            } else {
                0
            };
            let count = count + u64::from(amount);
            (count <= u64::from(max)).then_some(second | count)
        };
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// What was counted in second `now`.
    pub(crate) fn count(&self, now: u64) -> u32 {
        let word = self.0.load(Ordering::Acquire);
        if word >> 32 == now & u64::from(u32::MAX) {
            u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_admits_its_limit_each_second_and_no_more() {
        let rate = Rate::default();
        for second in [1_000, 1_001] {
            assert!((0..3).all(|_| rate.take(second, 1, Some(3))));
            assert!(!rate.take(second, 1, Some(3)));
            assert_eq!((rate.count(second), rate.count(second + 1)), (3, 0));
        }
        assert!(!rate.take(1_002, 4, Some(3)));
        assert!(rate.take(1_002, 3, Some(3)));
        assert!(rate.take(1_002, 1_000, None), "no limit, nothing refused");
    }

    #[test]
    fn a_place_is_free_again_when_its_client_is_gone() {
        let meters = Meters::default();
        assert!(meters.admit_client(Some(1)) && meters.is_full(Some(1)));
        assert!(!meters.admit_client(Some(1)));
        meters.release_client();
        assert!(!meters.is_full(Some(1)) && meters.admit_client(Some(1)));
        assert!(meters.admit_client(None) && !meters.is_full(None));
    }
}
