//! What the engine remembers of the rights of roles, so that a change nobody is kept from needs no
//! question.
//!
//! Remembered until the table is seen with another definition, in the very page that brings it, or
//! the catalog changes. What was asked before such news and answered after it is not remembered.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::{
    change::{Page, Relation},
    intern::Interner,
    view::Rights,
};

/// Rights by table and role.
#[derive(Debug)]
pub(super) struct KnownRights {
    tables: HashMap<u32, Table, RandomState>,
    shared: Interner<Rights>,
    /// Grows with everything that was forgotten.
    generation: u64,
}

#[derive(Debug, Default)]
struct Table {
    definition: Option<Arc<Relation>>,
    /// Few: roles that tokens name.
    roles: Vec<(Box<str>, Arc<Rights>)>,
}

impl KnownRights {
    pub(super) fn new() -> Self {
        Self {
            tables: HashMap::default(),
            shared: Interner::new(),
            generation: 0,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn get(&self, oid: u32, role: &str) -> Option<&Arc<Rights>> {
        let roles = &self.tables.get(&oid)?.roles;
        roles
            .iter()
            .find(|(known, _)| **known == *role)
            .map(|(_, rights)| rights)
    }

    /// The one copy of equal rights.
    pub(super) fn share(&mut self, rights: &Arc<Rights>) -> Arc<Rights> {
        self.shared.share(Arc::clone(rights))
    }

    /// Somebody said what `role` may see of a table, asked when the generation was `generation`.
    /// Who contradicts what is known makes it unknown: the next change asks again.
    pub(super) fn hear(&mut self, oid: u32, role: &str, rights: &Arc<Rights>, generation: u64) {
        let is_fresh = generation == self.generation;
        let rights = self.share(rights);
        let roles = &mut self.tables.entry(oid).or_default().roles;
        match roles.iter().position(|(known, _)| **known == *role) {
            Some(place) if !Arc::ptr_eq(&roles[place].1, &rights) => {
                roles.swap_remove(place);
            }
            None if is_fresh => roles.push((role.into(), rights)),
            Some(_) | None => {}
        }
    }

    /// Forgets what is known of tables that `page` shows with another definition.
    pub(super) fn notice(&mut self, page: &Page) {
        let mut last: Option<&Arc<Relation>> = None;
        for change in &page.changes {
            let relation = &change.relation;
            if last.is_some_and(|last| Arc::ptr_eq(last, relation)) {
                continue;
            }
            last = Some(relation);
            let table = self.tables.entry(relation.oid).or_default();
            let is_known = table
                .definition
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, relation));
            if !is_known {
                table.definition = Some(Arc::clone(relation));
                table.roles.clear();
                self.generation += 1;
            }
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.tables.clear();
        self.generation += 1;
    }
}
