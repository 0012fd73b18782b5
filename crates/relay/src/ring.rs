//! The newest pages, for clients that were away for a moment.

use std::{collections::VecDeque, sync::Arc};

use pgrelay_protocol::Position;

use crate::{FailPoint, change::Page};

/// A run of pages without a gap, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Everything after this is in `pages`.
    floor: Position,
    pages: VecDeque<Arc<Page>>,
    /// Ends of the run that have no page, oldest first, so that their tags can be proven.
    marks: VecDeque<Position>,
    bytes: usize,
    bytes_max: usize,
}

const MARKS_MAX: usize = 1_024;

impl Ring {
    /// An empty run that starts after `floor`.
    pub(crate) fn new(floor: Position, bytes_max: usize) -> Self {
        Self {
            floor,
            pages: VecDeque::new(),
            marks: VecDeque::from([floor]),
            bytes: 0,
            bytes_max,
        }
    }

    /// Appends a page; the oldest ones leave when there is no room.
    pub(crate) fn push(&mut self, page: Arc<Page>) {
        self.bytes += page.bytes;
        self.pages.push_back(page);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.pages.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.floor = oldest.end;
        }
    }

    /// Notes that nothing more follows up to `end`.
    pub(crate) fn mark(&mut self, end: Position) {
        self.marks.push_back(end);
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// Whether everything after `at` is here.
    pub(crate) fn covers(&self, at: Position) -> bool {
        at >= self.floor
    }

    /// Whether everything after `cursor` is here and its batch is known to be the same one.
    pub(crate) fn vouches_for(&self, cursor: Position) -> bool {
        let knows = |known: Position| {
            (known.epoch, known.batch) == (cursor.epoch, cursor.batch)
                && (known.tag == cursor.tag || FailPoint::TakesAnyTag.is_on())
        };
        self.covers(cursor)
            && (knows(self.floor)
                || self.marks.iter().any(|mark| knows(*mark))
                || self.page_at(cursor).is_some_and(|page| knows(page.end)))
    }

    /// The first page that holds anything after `at`.
    pub(crate) fn page_after(&self, at: Position) -> Option<&Arc<Page>> {
        let index = self.pages.partition_point(|page| page.end <= at);
        self.pages.get(index)
    }

    /// A page of the batch of `cursor`: the one before or the one after it.
    fn page_at(&self, cursor: Position) -> Option<&Arc<Page>> {
        let index = self.pages.partition_point(|page| page.end < cursor);
        let before = index.checked_sub(1).and_then(|index| self.pages.get(index));
        [self.pages.get(index), before]
            .into_iter()
            .flatten()
            .find(|page| page.batch == cursor.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, page, position, table};

    /// Batches 11 to 14, two changes each; room for three.
    fn ring() -> Ring {
        let relation = table(1, "t", "id:int8:pk").into();
        let batch = |batch| {
            page(
                batch,
                vec![change(1, &relation, "D {}"), change(2, &relation, "D {}")],
            )
        };
        let mut ring = Ring::new(position(10, i64::MAX), 3 * batch(11).bytes);
        for number in 11..=14 {
            ring.push(batch(number));
        }
        ring
    }

    #[test]
    fn the_oldest_pages_leave_first() {
        let ring = ring();
        assert!(!ring.covers(position(11, 2)));
        assert!(ring.covers(position(11, i64::MAX)));
        let after = |at| ring.page_after(at).map(|page| page.batch);
        assert_eq!(after(position(11, i64::MAX)), Some(12));
        assert_eq!(after(position(12, 1)), Some(12));
        assert_eq!(after(position(12, i64::MAX)), Some(13));
        assert_eq!(after(position(14, i64::MAX)), None);
    }

    #[test]
    fn vouches_only_for_batches_it_knows_by_tag() {
        let mut ring = ring();
        ring.mark(position(16, i64::MAX));
        for (cursor, expected) in [
            (position(11, i64::MAX), true),
            (position(11, 1), false),
            (position(13, 1), true),
            (position(14, i64::MAX), true),
            (
                Position {
                    tag: 1,
                    ..position(13, 1)
                },
                false,
            ),
            (
                Position {
                    epoch: 2,
                    ..position(13, 1)
                },
                false,
            ),
            (position(15, i64::MAX), false),
            (position(16, i64::MAX), true),
        ] {
            assert_eq!(ring.vouches_for(cursor), expected, "{cursor:?}");
        }
    }
}
