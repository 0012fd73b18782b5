//! Distinct lists of filters, each judged at most once per change.

use std::{hash::Hash, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::{
    change::Change,
    filter::FilterTest,
    matcher::{Verdict, judge},
};

/// Names a list of filters while a binding of the registry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListId(u32);

#[derive(Debug, Default)]
pub(super) struct Lists {
    by_content: HashMap<Arc<[FilterTest]>, ListId, RandomState>,
    entries: Vec<Entry>,
    free: Vec<ListId>,
    /// Number of the change being matched; verdicts of other numbers are stale.
    change: u64,
}

#[derive(Debug)]
struct Entry {
    tests: Arc<[FilterTest]>,
    users: u32,
    judged: u64,
    verdict: Verdict,
}

impl Lists {
    /// The list's id; one more binding uses it.
    pub(super) fn acquire(&mut self, tests: &Arc<[FilterTest]>) -> ListId {
        if let Some(&id) = self.by_content.get(tests) {
            self.entries[id.0 as usize].users += 1;
            return id;
        }
        let entry = Entry {
            tests: Arc::clone(tests),
            users: 1,
            judged: 0,
            verdict: Verdict::Miss,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id.0 as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            ListId(u32::try_from(self.entries.len() - 1).expect("there are less than 2^32 lists"))
        };
        self.by_content.insert(Arc::clone(tests), id);
        id
    }

    pub(super) fn find(&self, tests: &Arc<[FilterTest]>) -> Option<ListId> {
        self.by_content.get(tests).copied()
    }

    /// One binding less uses the list.
    pub(super) fn release(&mut self, id: ListId) {
        let entry = &mut self.entries[id.0 as usize];
        entry.users -= 1;
        if entry.users == 0 {
            let tests = std::mem::replace(&mut entry.tests, Arc::new([]));
            self.by_content.remove(&tests);
            self.free.push(id);
        }
    }

    pub(super) fn begin_change(&mut self) {
        self.change += 1;
    }

    pub(super) fn judge(&mut self, id: ListId, change: &Change) -> Verdict {
        let entry = &mut self.entries[id.0 as usize];
        if entry.judged != self.change {
            entry.judged = self.change;
            entry.verdict = judge(&entry.tests, change);
        }
        entry.verdict
    }

    pub(super) fn tests(&self, id: ListId) -> &Arc<[FilterTest]> {
        &self.entries[id.0 as usize].tests
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_content.is_empty() && self.free.len() == self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_content.len()
    }
}
