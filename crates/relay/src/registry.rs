//! Which bindings a change concerns.
//!
//! Pure. Bindings are found by table, operation and, where a filter is `column = value`, by the
//! value itself, so that a change costs what its receivers cost. Any other list of filters is
//! judged once per change, however many bindings share it. Refuses to know who the bindings belong
//! to and what they may see. Called by the fan-out, one registry per stream position.

mod index;
mod lists;
mod members;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pgrelay_protocol::{EventKind, NamePattern};

pub use lists::ListId;

use crate::{
    change::{Change, Operation, Relation},
    filter::FilterTest,
};
use index::Listeners;
use lists::Lists;

/// A binding, as the registry knows it: whatever number its owner gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingIndex(pub u32);

/// What a binding listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest<'a> {
    /// The tables.
    pub scope: Scope<'a>,
    /// The operations.
    pub event: EventKind,
    /// The rows: all tests must hold.
    pub tests: &'a Arc<[FilterTest]>,
}

/// The tables of an [`Interest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One table, by oid: a table that is dropped and made again is another one.
    Table(u32),
    /// Every table whose names match when the change happens.
    Names {
        /// Schema name.
        schema: &'a NamePattern,
        /// Table name.
        table: &'a NamePattern,
    },
}

impl Scope<'_> {
    /// Whether changes of `relation` concern it. A hole without a table (oid 0) concerns all.
    #[must_use]
    pub fn covers(self, relation: &Relation) -> bool {
        relation.oid == 0
            || match self {
                Self::Table(oid) => oid == relation.oid,
                Self::Names { schema, table } => {
                    schema.matches(&relation.schema) && table.matches(&relation.table)
                }
            }
    }
}

trait Matches {
    fn matches(&self, name: &str) -> bool;
}

impl Matches for NamePattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *name,
        }
    }
}

/// The bindings that [`Registry::find`] found; each at most once in all.
#[derive(Debug, Default)]
pub struct Hits {
    /// Their filters hold.
    pub sure: Vec<BindingIndex>,
    /// Only the database can tell.
    pub undecided: Vec<(BindingIndex, ListId)>,
}

impl Hits {
    /// How many bindings were found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sure.len() + self.undecided.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The index.
#[derive(Debug, Default)]
pub struct Registry {
    tables: HashMap<u32, Operations, RandomState>,
    /// Few: names that exist in the database.
    wildcards: Vec<(NamePattern, NamePattern, Operations)>,
    lists: Lists,
}

/// Listeners to one table or pattern, by operation.
#[derive(Debug, Default)]
struct Operations {
    all: Listeners,
    insert: Listeners,
    update: Listeners,
    delete: Listeners,
}

impl Operations {
    fn of(&mut self, event: EventKind) -> &mut Listeners {
        match event {
            EventKind::All => &mut self.all,
            EventKind::Insert => &mut self.insert,
            EventKind::Update => &mut self.update,
            EventKind::Delete => &mut self.delete,
        }
    }

    /// Those who listen to `operation`: by its name, or to all.
    fn concerned(&self, operation: Operation) -> impl Iterator<Item = &Listeners> {
        let named = match operation {
            Operation::Insert => Some(&self.insert),
            Operation::Update => Some(&self.update),
            Operation::Delete => Some(&self.delete),
            Operation::Hole => None,
        };
        named.map(|named| [&self.all, named]).into_iter().flatten()
    }

    fn is_empty(&self) -> bool {
        [&self.all, &self.insert, &self.update, &self.delete]
            .iter()
            .all(|listeners| listeners.is_empty())
    }
}

impl Registry {
    /// Adds a binding. Adding one that is there already changes nothing.
    pub fn insert(&mut self, binding: BindingIndex, interest: Interest<'_>) {
        let operations = match interest.scope {
            Scope::Table(oid) => self.tables.entry(oid).or_default(),
            Scope::Names { schema, table } => {
                let place = self
                    .wildcards
                    .iter()
                    .position(|(s, t, _)| (s, t) == (schema, table));
                let place = place.unwrap_or_else(|| {
                    self.wildcards
                        .push((schema.clone(), table.clone(), Operations::default()));
                    self.wildcards.len() - 1
                });
                &mut self.wildcards[place].2
            }
        };
        operations
            .of(interest.event)
            .insert(binding, interest.tests, &mut self.lists);
    }

    /// Removes a binding that was added with an equal `interest`. Nothing of it stays.
    pub fn remove(&mut self, binding: BindingIndex, interest: Interest<'_>) {
        match interest.scope {
            Scope::Table(oid) => {
                let Some(operations) = self.tables.get_mut(&oid) else {
                    return;
                };
                operations
                    .of(interest.event)
                    .remove(binding, interest.tests, &mut self.lists);
                if operations.is_empty() {
                    self.tables.remove(&oid);
                }
            }
            Scope::Names { schema, table } => {
                let Some(place) = self
                    .wildcards
                    .iter()
                    .position(|(s, t, _)| (s, t) == (schema, table))
                else {
                    return;
                };
                let operations = &mut self.wildcards[place].2;
                operations
                    .of(interest.event)
                    .remove(binding, interest.tests, &mut self.lists);
                if operations.is_empty() {
                    self.wildcards.swap_remove(place);
                }
            }
        }
    }

    /// Puts the bindings that `change` concerns into `hits`, which is cleared first. Holes have no
    /// row to match; see [`Scope::covers`].
    pub fn find(&mut self, change: &Change, hits: &mut Hits) {
        hits.sure.clear();
        hits.undecided.clear();
        self.lists.begin_change();
        let relation = &*change.relation;
        let table = self.tables.get(&relation.oid);
        let wildcards = self
            .wildcards
            .iter()
            .filter(|(schema, table, _)| {
                schema.matches(&relation.schema) && table.matches(&relation.table)
            })
            .map(|(.., operations)| operations);
        for listeners in table
            .into_iter()
            .chain(wildcards)
            .flat_map(|operations| operations.concerned(change.operation))
        {
            if change.is_unidentified() {
                listeners.collect_all(&mut hits.sure);
            } else {
                listeners.find(change, &mut self.lists, hits);
            }
        }
    }

    /// The filters behind an undecided hit.
    #[must_use]
    pub fn tests(&self, list: ListId) -> &Arc<[FilterTest]> {
        self.lists.tests(list)
    }

    /// Whether no binding is left, and no trace of one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.wildcards.is_empty() && self.lists.is_empty()
    }
}

#[cfg(test)]
mod tests;
