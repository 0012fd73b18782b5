//! Changes as the relay sees them: decoded once by the capture side, shared by every shard.
//!
//! Refuses to know where changes come from and who may see them.

use std::sync::Arc;

use bytes::Bytes;
use pgrelay_protocol::Position;

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
    /// Row-level security is enabled on the table.
    pub row_security: bool,
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
#[derive(Debug, Clone)]
pub struct Row {
    text: Bytes,
    /// `(start, end)` of the value of column i of the relation; `start == end` when absent.
    spans: Box<[(u32, u32)]>,
}

/// One captured row change. Belongs to a [`Page`], which knows its batch.
#[derive(Debug)]
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
