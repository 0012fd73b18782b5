//! Rows as the log holds them, and their way into changes: the pure half of `reader.rs`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pgrelay_relay::{
    FailPoint,
    change::{Change, Operation, Relation, Row as Image},
};
use tokio_postgres::Row;

use crate::{
    catalog::{Relations, every_table},
    chain::{self, Link},
    values::{Tid, Timestamp, Xid},
};

/// One row of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) seq: i64,
    pub(crate) xid: Xid,
    /// The captured table; 0 for every table.
    pub(crate) relid: u32,
    pub(crate) matter: Matter,
    oversize: bool,
    new: Option<Box<str>>,
    old: Option<Box<str>>,
    new_ctid: Option<Tid>,
    old_ctid: Option<Tid>,
    pub(crate) at: Timestamp,
}

/// What a row of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Something happened to a row of a table.
    Change(Operation),
    /// A message was stored: what it is about is logged as the new row, JSON that it says as the old.
    JsonMessage,
    /// The same for bytes, in hex.
    BinaryMessage,
}

/// What must be known of a whole batch before any page of it can go out.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Place -> seq of the change that belongs there.
    pub(crate) moved: HashMap<i64, i64>,
    /// The last clock time of each transaction with several rows.
    pub(crate) last_at: HashMap<Xid, Timestamp>,
}

impl Logged {
    /// From a row of `reader.rs`'s column list, starting at column `first`.
    pub(crate) fn from_row(row: &Row, first: usize) -> Self {
        let text = |column| row.get::<_, Option<&str>>(first + column).map(Into::into);
        Self {
            seq: row.get(first),
            xid: row.get(first + 1),
            relid: row.get(first + 2),
            matter: matter(row.get(first + 3)),
            oversize: row.get(first + 4),
            new: text(5),
            old: text(6),
            new_ctid: row.get(first + 7),
            old_ctid: row.get(first + 8),
            at: row.get(first + 9),
        }
    }

    /// What a message is about; `None` for a change.
    pub(crate) fn about(&self) -> Option<&str> {
        self.new.as_deref().filter(|_| self.is_message())
    }

    /// What a message says; `None` for a change.
    pub(crate) fn said(&self) -> Option<&str> {
        self.old.as_deref().filter(|_| self.is_message())
    }

    fn is_message(&self) -> bool {
        match self.matter {
            Matter::JsonMessage | Matter::BinaryMessage => true,
            Matter::Change(_) => false,
        }
    }

    /// Size of the images, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.new
            .iter()
            .chain(&self.old)
            .map(|text| text.len())
            .sum()
    }
}

/// A letter that is not known means that something was logged which we cannot tell: a hole.
#[expect(clippy::cast_sign_loss, reason = "PostgreSQL's \"char\" is a byte")]
fn matter(letter: i8) -> Matter {
    Matter::Change(match letter as u8 {
        b'I' => Operation::Insert,
        b'U' => Operation::Update,
        b'D' => Operation::Delete,
        b'M' => return Matter::JsonMessage,
        b'B' => return Matter::BinaryMessage,
        _ => Operation::Hole,
    })
}

impl Plan {
    /// The plan of a batch all of whose rows are at hand.
    pub(crate) fn of_whole_batch(rows: &[Logged]) -> Self {
        let mut last_at = HashMap::new();
        for row in rows {
            let last = last_at.entry(row.xid).or_insert(row.at);
            *last = row.at.max(*last);
        }
        // Alone in its transaction, a change follows no other.
        let moved = if last_at.len() == rows.len() {
            HashMap::new()
        } else {
            chain::reorder(&links(rows))
        };
        Self { moved, last_at }
    }
}

/// Which change was built on which, inside one transaction: what `pgrelay.inversions` finds for
/// batches that are larger than a page.
fn links(rows: &[Logged]) -> Vec<Link> {
    let mut makers: HashMap<(Xid, u32, Tid), Vec<i64>> = HashMap::new();
    let mut holes: HashMap<(Xid, u32), Vec<i64>> = HashMap::new();
    for row in rows {
        if let Some(ctid) = row.new_ctid {
            makers
                .entry((row.xid, row.relid, ctid))
                .or_default()
                .push(row.seq);
        }
        if row.matter == Matter::Change(Operation::Hole) {
            holes.entry((row.xid, row.relid)).or_default().push(row.seq);
        }
    }
    let followers = rows.iter().filter_map(|row| {
        let made_by = makers.get(&(row.xid, row.relid, row.old_ctid?))?;
        let holes = holes
            .get(&(row.xid, row.relid))
            .map_or(&[][..], Vec::as_slice);
        // After a TRUNCATE the same places on disk are handed out again.
        let is_same_row = move |after: &&i64| {
            let between = row.seq.min(**after)..row.seq.max(**after);
            !holes.iter().any(|hole| between.contains(hole))
        };
        let links = made_by.iter().filter(is_same_row);
        Some(links.map(|after| Link {
            seq: row.seq,
            after: *after,
        }))
    });
    followers.flatten().collect()
}

/// Captured tables of some rows.
pub(crate) fn tables(rows: &[Logged]) -> HashSet<u32> {
    rows.iter()
        .filter(|row| !row.is_message())
        .map(|row| row.relid)
        .filter(|relid| *relid != 0)
        .collect()
}

/// The changes of a run of rows, each at its place. `foreign` holds rows from elsewhere in the batch
/// that belong here. Messages, and rows of tables that are not published, are left out.
pub(crate) fn changes(
    rows: Vec<Logged>,
    foreign: Vec<Logged>,
    plan: &Plan,
    relations: &Relations,
) -> Vec<Change> {
    if plan.moved.is_empty() {
        return rows
            .into_iter()
            .filter_map(|row| change(row.seq, row, plan, relations))
            .collect();
    }
    let places: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let mut by_seq: HashMap<i64, Logged> = foreign
        .into_iter()
        .chain(rows)
        .map(|row| (row.seq, row))
        .collect();
    let at_place = |place: i64| {
        let logged = plan.moved.get(&place).copied().unwrap_or(place);
        change(place, by_seq.remove(&logged)?, plan, relations)
    };
    places.into_iter().filter_map(at_place).collect()
}

/// Seqs of rows that belong to places of `rows` and are not among them.
pub(crate) fn missing(rows: &[Logged], plan: &Plan) -> Vec<i64> {
    if plan.moved.is_empty() {
        return Vec::new();
    }
    let here: HashSet<i64> = rows.iter().map(|row| row.seq).collect();
    rows.iter()
        .filter_map(|row| plan.moved.get(&row.seq))
        .filter(|seq| !here.contains(seq))
        .copied()
        .collect()
}

fn change(place: i64, row: Logged, plan: &Plan, relations: &Relations) -> Option<Change> {
    let Matter::Change(operation) = row.matter else {
        return None;
    };
    if operation == Operation::Hole && FailPoint::ForgetsHoles.is_on() {
        return None;
    }
    let relation = match row.relid {
        0 => every_table(),
        relid => Arc::clone(relations.get(&relid)?.as_ref()?),
    };
    let at = plan.last_at.get(&row.xid).copied().unwrap_or(row.at);
    let mut change = Change {
        seq: place,
        operation,
        new: None,
        old: None,
        commit_timestamp: at.to_wire(),
        too_large: row.oversize,
        relation,
    };
    match (
        image(row.new, &change.relation),
        image(row.old, &change.relation),
    ) {
        (Ok(new), Ok(old)) => {
            change.new = new;
            change.old = old;
        }
        _ => change.operation = Operation::Hole,
    }
    Some(change)
}

/// An image that is no JSON object was not written by our trigger; its change is a hole.
fn image(text: Option<Box<str>>, relation: &Relation) -> Result<Option<Image>, Unreadable> {
    let Some(text) = text else { return Ok(None) };
    Image::parse(text, relation).map(Some).map_err(|error| {
        tracing::warn!(%error, table = &*relation.table, "a logged row cannot be read");
        Unreadable
    })
}

struct Unreadable;

#[cfg(test)]
mod tests;
