//! Changes as the relay sees them: decoded once by the capture side, shared by every shard.
//!
//! Refuses to know where changes come from and who may see them.

use std::{fmt, sync::Arc};

use pgrelay_protocol::Position;

use crate::json::{Members, NotAnObject};

/// A published table, as the catalog described it when the change was decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`; 0 stands for "every table" on a [`Operation::Hole`] without a table.
    pub oid: u32,
    /// Schema name, catalog case, never quoted.
    pub schema: Box<str>,
    /// Table name, catalog case, never quoted. The root's name where the publication says so.
    pub table: Box<str>,
    /// Live columns in `attnum` order.
    pub columns: Box<[Column]>,
    /// `REPLICA IDENTITY FULL`.
    pub identity_full: bool,
}

/// One live column of a [`Relation`].
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attname`.
    pub name: Box<str>,
    /// `pg_type.typname`, as supabase-js wants it (`int4`, `_text`, a domain's own name).
    pub type_name: Box<str>,
    /// How the logged JSON text must be corrected for the wire.
    pub rendering: Rendering,
    /// Part of the primary key.
    pub primary_key: bool,
    /// Part of the replica identity (all columns where the identity is full).
    pub identity: bool,
}

/// How a column's `row_to_json` text differs from what Supabase Realtime sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendering {
    /// Sent as logged.
    Verbatim,
    /// `"NaN"` and the infinities become `null` (scalar float4, float8 and numeric).
    FiniteOrNull,
    /// The `\x` prefix is cut off (scalar bytea).
    BareHex,
}

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
    /// Changes of the table may be missing before this point (TRUNCATE, a missing trigger, a row
    /// that could not be logged). Subscribers of the table are told `must_refetch` {hole}.
    Hole,
}

/// One row image: the JSON object text of `row_to_json`, with the place of each column's value.
#[derive(Clone)]
pub struct Row {
    text: Box<str>,
    /// `(start, end)` of the value of column i of the relation; `start == end` when absent.
    spans: Box<[(u32, u32)]>,
    /// The text has no member beside the relation's columns.
    exact: bool,
}

/// One captured row change. Belongs to a [`Page`], which knows its batch.
#[derive(Debug, Clone)]
pub struct Change {
    /// Orders the changes of one batch; unique in it.
    pub seq: i64,
    /// The table.
    pub relation: Arc<Relation>,
    /// What happened.
    pub operation: Operation,
    /// New image; present on INSERT and UPDATE.
    pub new: Option<Row>,
    /// Full old image; present on UPDATE and DELETE. Projected to the replica identity on sending.
    pub old: Option<Row>,
    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`, one value per transaction.
    pub commit_timestamp: Box<str>,
    /// The row was over the capture limit: images hold the key only and 413 is told.
    pub too_large: bool,
}

/// A run of changes of one batch, in position order; never empty. Large batches span many pages.
#[derive(Debug)]
pub struct Page {
    /// Epoch of the log.
    pub epoch: u32,
    /// Ledger batch.
    pub batch: u64,
    /// First eight bytes of the batch's random tag.
    pub tag: u64,
    /// The changes, ordered by `seq`.
    pub changes: Box<[Change]>,
    /// Memory the page holds, for byte-bounded rings.
    pub bytes: usize,
    /// The highest position this page settles: `seq` of its last change, or `i64::MAX` where it is
    /// the last page of its batch.
    pub end: Position,
}

impl Relation {
    /// The place of the column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }

    /// Whether rows can be told apart by a primary key.
    #[must_use]
    pub fn has_primary_key(&self) -> bool {
        self.columns.iter().any(|column| column.primary_key)
    }
}

impl Row {
    /// Finds the columns of `relation` in the JSON object `text`. Members that are no column of it
    /// are kept out of every projection; columns without a member are absent.
    ///
    /// # Errors
    /// When `text` is no JSON object, or longer than 4 GiB.
    pub fn parse(text: impl Into<Box<str>>, relation: &Relation) -> Result<Self, NotAnObject> {
        let text = text.into();
        let mut spans = vec![(0, 0); relation.columns.len()].into_boxed_slice();
        let mut exact = true;
        let mut expected = 0;
        for member in Members::new(&text) {
            let member = member?;
            let Some(column) = find_column(relation, expected, &text[member.key]) else {
                exact = false;
                continue;
            };
            let place = |at| u32::try_from(at).map_err(|_too_long| NotAnObject);
            spans[column] = (place(member.value.start)?, place(member.value.end)?);
            expected = column + 1;
        }
        Ok(Self { text, spans, exact })
    }

    /// JSON text of the value of column `column`; `None` when the image does not have it.
    #[must_use]
    pub fn value(&self, column: usize) -> Option<&str> {
        let (start, end) = *self.spans.get(column)?;
        (start != end).then(|| &self.text[start as usize..end as usize])
    }

    /// The whole JSON object as it was logged.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether [`Self::text`] holds nothing but columns of the relation.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Memory the image holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.spans)
    }
}

/// Shows the size only: row values do not belong into logs.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.text.len())
    }
}

/// The column whose JSON key is `key`, quotes included. Images list columns in `attnum` order, so
/// the one after the last found is tried first.
fn find_column(relation: &Relation, expected: usize, key: &str) -> Option<usize> {
    let bare = &key[1..key.len() - 1];
    let decoded;
    let name = if bare.contains('\\') {
        decoded = serde_json::from_str::<String>(key).ok()?;
        &decoded
    } else {
        bare
    };
    match relation.columns.get(expected) {
        Some(column) if &*column.name == name => Some(expected),
        _ => relation.column(name),
    }
}

impl Change {
    /// The images and names of this change, in bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let images = self
            .new
            .iter()
            .chain(&self.old)
            .map(Row::bytes)
            .sum::<usize>();
        size_of::<Self>() + self.commit_timestamp.len() + images
    }
}

impl Page {
    /// A page of the batch `end` belongs to, which settles everything up to `end`.
    #[must_use]
    pub fn new(changes: Vec<Change>, end: Position) -> Self {
        let Position {
            epoch, batch, tag, ..
        } = end;
        let bytes = size_of::<Self>() + changes.iter().map(Change::bytes).sum::<usize>();
        Self {
            epoch,
            batch,
            tag,
            changes: changes.into(),
            bytes,
            end,
        }
    }

    /// The position of one of this page's changes: everything up to and including it.
    #[must_use]
    pub fn position(&self, change: &Change) -> Position {
        Position {
            seq: change.seq,
            ..self.end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn finds_each_column_by_name() {
        let relation = table(1, "t", "id:int8:pk a\"b:text note:text gone:text");
        let row = Row::parse(r#"{"note":"x","id":7,"a\"b":null}"#, &relation).unwrap();
        let values: Vec<_> = (0..5).map(|column| row.value(column)).collect();
        assert_eq!(values, [Some("7"), Some("null"), Some("\"x\""), None, None]);
        assert!(row.is_exact());
    }

    #[test]
    fn knows_when_the_image_has_more_than_the_relation() {
        let relation = table(1, "t", "id:int8:pk");
        let row = Row::parse(r#"{"id":7,"dropped":1}"#, &relation).unwrap();
        assert_eq!((row.value(0), row.is_exact()), (Some("7"), false));
    }

    #[test]
    fn shows_no_values_when_logged() {
        let relation = table(1, "t", "id:int8:pk");
        let row = Row::parse(r#"{"id":"secret"}"#, &relation).unwrap();
        assert!(!format!("{row:?}").contains("secret"));
    }
}
