//! Listeners to one operation of one table, by the values they filter for.

use std::{hash::Hash, sync::Arc};

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;

use super::{BindingIndex, Hits, ListId, lists::Lists, members::Members};
use crate::{
    change::Change,
    filter::{FilterTest, Scalar, Test},
    matcher::{self, Verdict},
};

/// By what clients chose.
type Map<K, V> = HashMap<K, V, RandomState>;

/// By our own numbers, so that equal histories are walked in equal order.
type Listed = HashMap<ListId, Members, FixedState>;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Without filters.
    all: Members,
    /// With `column = value` among their filters.
    columns: Vec<ValueIndex>,
    /// With other filters only.
    lists: Listed,
}

/// Bindings by the value of one column. Keys are as small as their type allows.
#[derive(Debug)]
struct ValueIndex {
    column: Box<str>,
    uuids: Map<[u8; 16], Slot>,
    integers: Map<i64, Slot>,
    texts: Map<Box<str>, Slot>,
}

/// The bindings behind one value.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The value is all they ask for.
    exact: Members,
    /// More filters have to hold.
    more: Option<Box<Listed>>,
}

/// How a list of filters is found.
enum Access<'a> {
    All,
    Values {
        column: &'a str,
        values: &'a [Scalar],
        exact: bool,
    },
    List,
}

impl<'a> Access<'a> {
    fn to(tests: &'a [FilterTest]) -> Self {
        if tests.is_empty() {
            return Self::All;
        }
        let indexable = tests.iter().filter_map(|test| match &test.test {
            Test::OneOf(values)
                if !test.negate && !values.is_empty() && values.iter().all(has_index) =>
            {
                Some((&*test.column, &**values))
            }
            _ => None,
        });
        match indexable.min_by_key(|(_, values)| values.len()) {
            Some((column, values)) => Self::Values {
                column,
                values,
                exact: tests.len() == 1,
            },
            None => Self::List,
        }
    }
}

fn has_index(value: &Scalar) -> bool {
    match value {
        Scalar::Int(_) | Scalar::Uuid(_) | Scalar::Text(_) => true,
        // Two values divide nothing.
        Scalar::Bool(_) => false,
    }
}

impl Listeners {
    pub(super) fn insert(
        &mut self,
        binding: BindingIndex,
        tests: &Arc<[FilterTest]>,
        lists: &mut Lists,
    ) {
        match Access::to(tests) {
            Access::All => self.all.insert(binding),
            Access::List => insert_listed(&mut self.lists, binding, tests, lists),
            Access::Values {
                column,
                values,
                exact,
            } => {
                let index = self.column(column);
                for value in values {
                    let slot = index.slot(value);
                    if exact {
                        slot.exact.insert(binding);
                    } else {
                        insert_listed(slot.more.get_or_insert_default(), binding, tests, lists);
                    }
                }
            }
        }
    }

    pub(super) fn remove(
        &mut self,
        binding: BindingIndex,
        tests: &Arc<[FilterTest]>,
        lists: &mut Lists,
    ) {
        match Access::to(tests) {
            Access::All => {
                self.all.remove(binding);
            }
            Access::List => remove_listed(&mut self.lists, binding, tests, lists),
            Access::Values {
                column,
                values,
                exact,
            } => {
                let Some(place) = self
                    .columns
                    .iter()
                    .position(|index| &*index.column == column)
                else {
                    return;
                };
                let index = &mut self.columns[place];
                for value in values {
                    index.update(value, |slot| {
                        if exact {
                            slot.exact.remove(binding);
                        } else if let Some(more) = &mut slot.more {
                            remove_listed(more, binding, tests, lists);
                            if more.is_empty() {
                                slot.more = None;
                            }
                        }
                    });
                }
                if index.is_empty() {
                    self.columns.swap_remove(place);
                }
            }
        }
    }

    fn column(&mut self, column: &str) -> &mut ValueIndex {
        let place = self
            .columns
            .iter()
            .position(|index| &*index.column == column)
            .unwrap_or_else(|| {
                self.columns.push(ValueIndex::new(column));
                self.columns.len() - 1
            });
        &mut self.columns[place]
    }

    pub(super) fn find(&self, change: &Change, lists: &mut Lists, hits: &mut Hits) {
        hits.sure.extend(self.all.iter());
        judge_listed(&self.lists, change, lists, hits);
        for index in &self.columns {
            let Some(value) = change.filter_value(&index.column) else {
                continue;
            };
            for slot in index.slots(value) {
                hits.sure.extend(slot.exact.iter());
                if let Some(more) = &slot.more {
                    judge_listed(more, change, lists, hits);
                }
            }
        }
    }

    /// Every listener once, whatever its filters.
    pub(super) fn collect_all(&self, out: &mut Vec<BindingIndex>) {
        out.extend(self.all.iter());
        out.extend(self.lists.values().flat_map(Members::iter));
        let start = out.len();
        for slot in self.columns.iter().flat_map(ValueIndex::all_slots) {
            out.extend(slot.exact.iter());
            out.extend(
                slot.more
                    .iter()
                    .flat_map(|more| more.values())
                    .flat_map(Members::iter),
            );
        }
        // A binding with several values is in several slots.
        let mut indexed = out.split_off(start);
        indexed.sort_unstable();
        indexed.dedup();
        out.append(&mut indexed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.columns.is_empty() && self.lists.is_empty()
    }
}

fn insert_listed(
    listed: &mut Listed,
    binding: BindingIndex,
    tests: &Arc<[FilterTest]>,
    lists: &mut Lists,
) {
    let id = lists.acquire(tests);
    let members = listed.entry(id).or_default();
    if members.contains(binding) {
        lists.release(id);
    } else {
        members.insert(binding);
    }
}

fn remove_listed(
    listed: &mut Listed,
    binding: BindingIndex,
    tests: &Arc<[FilterTest]>,
    lists: &mut Lists,
) {
    let Some(id) = lists.find(tests) else { return };
    let Some(members) = listed.get_mut(&id) else {
        return;
    };
    if members.remove(binding) {
        if members.is_empty() {
            listed.remove(&id);
        }
        lists.release(id);
    }
}

fn judge_listed(listed: &Listed, change: &Change, lists: &mut Lists, hits: &mut Hits) {
    for (&id, members) in listed {
        match lists.judge(id, change) {
            Verdict::Miss => {}
            Verdict::Hit => hits.sure.extend(members.iter()),
            Verdict::Undecided => hits
                .undecided
                .extend(members.iter().map(|binding| (binding, id))),
        }
    }
}

impl ValueIndex {
    fn new(column: &str) -> Self {
        Self {
            column: column.into(),
            uuids: Map::default(),
            integers: Map::default(),
            texts: Map::default(),
        }
    }

    fn slot(&mut self, value: &Scalar) -> &mut Slot {
        match value {
            Scalar::Uuid(bytes) => self.uuids.entry(*bytes).or_default(),
            Scalar::Int(number) => self.integers.entry(*number).or_default(),
            Scalar::Text(text) => self.texts.entry(text.clone()).or_default(),
            Scalar::Bool(_) => unreachable!("booleans have no index"),
        }
    }

    /// Changes the slot of `value` and drops it when nothing is left in it.
    fn update(&mut self, value: &Scalar, change: impl FnOnce(&mut Slot)) {
        fn update<K: Eq + Hash>(map: &mut Map<K, Slot>, key: &K, change: impl FnOnce(&mut Slot)) {
            let Some(slot) = map.get_mut(key) else { return };
            change(slot);
            if slot.exact.is_empty() && slot.more.is_none() {
                map.remove(key);
            }
        }
        match value {
            Scalar::Uuid(bytes) => update(&mut self.uuids, bytes, change),
            Scalar::Int(number) => update(&mut self.integers, number, change),
            Scalar::Text(text) => update(&mut self.texts, text, change),
            Scalar::Bool(_) => {}
        }
    }

    /// What listens to the value with this JSON text: at most one slot of each kind.
    fn slots(&self, json: &str) -> impl Iterator<Item = &Slot> {
        // Parsed only for kinds that somebody filters by.
        let uuid = (!self.uuids.is_empty())
            .then(|| matcher::uuid(json))
            .flatten();
        let integer = (!self.integers.is_empty())
            .then(|| matcher::integer(json))
            .flatten();
        let text = (!self.texts.is_empty())
            .then(|| matcher::string(json))
            .flatten();
        let uuid = uuid.and_then(|bytes| self.uuids.get(&bytes));
        let integer = integer.and_then(|number| self.integers.get(&number));
        let text = text.and_then(|text| self.texts.get(&*text));
        uuid.into_iter().chain(integer).chain(text)
    }

    fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.uuids
            .values()
            .chain(self.integers.values())
            .chain(self.texts.values())
    }

    fn is_empty(&self) -> bool {
        self.uuids.is_empty() && self.integers.is_empty() && self.texts.is_empty()
    }
}
