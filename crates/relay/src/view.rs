//! What a subscriber may see of a table, and of one change.
//!
//! Pure. The database says what it is ([`Authorizer::look`]); the engine remembers it per role and
//! applies it, and `project.rs` writes no more than it allows.
//!
//! [`Authorizer::look`]: crate::ports::Authorizer::look

use std::sync::Arc;

use crate::{
    change::{Change, Operation, Page, Relation, Row},
    ports::Claims,
};

/// What a role may see of a table, whatever its claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rights {
    /// The columns it may select; `None`: every column.
    pub columns: Option<Arc<[Box<str>]>>,
    /// The table has row security: of its deleted rows nobody is told more than the primary key.
    pub row_security: bool,
    /// Policies decide, by claims and row, what this role sees.
    pub policies: bool,
}

/// What a subscriber sees of one change.
#[derive(Debug, Clone)]
pub struct View {
    /// Of its role.
    pub rights: Arc<Rights>,
    /// The row as the subscriber could select it now, where that is not what was logged.
    pub current: Option<Arc<Row>>,
}

/// A change, as its place in a page.
pub type Glance = (Arc<Page>, u32);

/// Subscribers with one role and byte-identical claims, and the changes that concern them.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Of all of them.
    pub claims: Arc<Claims>,
    /// Places in the list of changes that is looked at, ascending.
    pub places: Vec<u32>,
}

/// What a [`Viewer`] may see.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Of its role, for the table (by oid) of each of its changes. A table that is not there is one
    /// that is gone: nothing of it may be told.
    pub rights: Vec<(u32, Arc<Rights>)>,
    /// Those of its changes that need a row and have one, by place, ascending; with what the row
    /// says now where that is not what was logged.
    pub rows: Vec<(u32, Option<Arc<Row>>)>,
}

impl Rights {
    /// Every column of every row, for roles that nothing is kept from.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            columns: None,
            row_security: false,
            policies: false,
        }
    }

    /// Whether the role may select the column called `name`.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.columns
            .as_ref()
            .is_none_or(|columns| columns.iter().any(|column| **column == *name))
    }

    /// Whether the role may know which row of `relation` is meant.
    #[must_use]
    pub fn identifies(&self, relation: &Relation) -> bool {
        let mut key = relation.columns.iter().filter(|column| column.primary_key);
        key.all(|column| self.covers(&column.name))
    }

    /// Whether only the row itself can say if its `change` may be told, and how. Deletions have no
    /// row any more, and what shows no row needs none.
    #[must_use]
    pub fn needs_row(&self, change: &Change) -> bool {
        self.policies
            && matches!(change.operation, Operation::Insert | Operation::Update)
            && !change.is_unidentified()
            && self.identifies(&change.relation)
    }
}

impl View {
    /// The row as it was logged.
    #[must_use]
    pub fn logged(rights: Arc<Rights>) -> Self {
        Self {
            rights,
            current: None,
        }
    }
}

/// Equal when they are made of the same allocations: rights are shared, and rows that are equal
/// come as one.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rights, &other.rights)
            && match (&self.current, &other.current) {
                (None, None) => true,
                (Some(left), Some(right)) => Arc::ptr_eq(left, right),
                (None, Some(_)) | (Some(_), None) => false,
            }
    }
}

impl Eq for View {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, table};

    fn only(columns: &[&str]) -> Rights {
        Rights {
            columns: Some(columns.iter().map(|name| (*name).into()).collect()),
            row_security: true,
            policies: true,
        }
    }

    #[test]
    fn a_row_is_needed_where_policies_decide_about_one_that_is_there() {
        let relation = Arc::new(table(1, "t", "id:int8:pk v:text"));
        let keyless = Arc::new(table(2, "k", "v:text"));
        let check = |rights: &Rights, relation, text, want| {
            assert_eq!(
                rights.needs_row(&change(1, relation, text)),
                want,
                "{text} {rights:?}"
            );
        };
        let policies = Rights {
            policies: true,
            ..Rights::all()
        };
        let insert = r#"I {"id":1,"v":"x"}"#;
        check(&policies, &relation, insert, true);
        check(
            &policies,
            &relation,
            r#"U {"id":1,"v":"y"} {"id":1,"v":"x"}"#,
            true,
        );
        check(&policies, &relation, r#"D {"id":1}"#, false);
        check(&policies, &keyless, r#"I {"v":"x"}"#, false);
        check(&only(&["id"]), &relation, insert, true);
        check(&only(&["v"]), &relation, insert, false);
        check(&Rights::all(), &relation, insert, false);
    }
}
