//! What has to happen later.

use std::{cmp::Ordering, collections::BinaryHeap};

use tokio::time::Instant;

/// Things due at an instant. Nothing is ever cancelled: whoever handles a due thing looks whether
/// it still means anything, which for keys of an arena is one comparison.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Due<T>>,
    scheduled: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: Instant,
    /// Equal instants keep the order they were scheduled in.
    order: u64,
    what: T,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    pub(crate) fn schedule(&mut self, at: Instant, what: T) {
        self.scheduled += 1;
        self.heap.push(Due {
            at,
            order: self.scheduled,
            what,
        });
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    /// The first thing that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|due| due.what)
    }
}

impl<T> Ord for Due<T> {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn due_things_come_in_order() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::new();
        for (seconds, what) in [(3, "c"), (1, "a"), (3, "d"), (2, "b")] {
            timers.schedule(at(seconds), what);
        }
        assert_eq!((timers.next(), timers.pop(at(0))), (Some(at(1)), None));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(at(3))).collect();
        assert_eq!(due, ["a", "b", "c", "d"]);
        assert_eq!(timers.next(), None);
    }
}
