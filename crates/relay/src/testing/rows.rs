//! Relations, changes and pages written as one line of text.

use std::sync::Arc;

use pgrelay_protocol::Position;

use crate::change::{Change, Column, Operation, Page, Relation, Rendering, Row};

/// A table of schema `public`. `columns` are `name:type[:flag...]` separated by blanks, with flags
/// `pk`, `identity`, `finite` and `hex`; the word `full` (replica identity) in front.
#[must_use]
pub fn table(oid: u32, name: &str, columns: &str) -> Relation {
    let identity_full = columns.split(' ').any(|word| word == "full");
    let columns = columns
        .split(' ')
        .filter(|word| word.contains(':'))
        .map(|word| {
            let mut parts = word.split(':');
            let mut part = || parts.next().unwrap_or_default().into();
            let (name, type_name) = (part(), part());
            let flags: Vec<_> = parts.collect();
            let rendering = match &*flags {
                [.., "finite"] => Rendering::FiniteOrNull,
                [.., "hex"] => Rendering::BareHex,
                _ => Rendering::Verbatim,
            };
            let primary_key = flags.contains(&"pk");
            let identity = primary_key || identity_full || flags.contains(&"identity");
            Column {
                name,
                type_name,
                rendering,
                primary_key,
                identity,
            }
        });
    let (schema, table) = ("public".into(), name.into());
    Relation {
        oid,
        schema,
        table,
        columns: columns.collect(),
        identity_full,
    }
}

/// One change: `I {new}`, `U {new} {old}`, `D {old}` or `H`, images as JSON objects; `!` behind the
/// letter marks a row over the capture limit.
///
/// # Panics
/// On any other text.
#[must_use]
pub fn change(seq: i64, relation: &Arc<Relation>, text: &str) -> Change {
    let (letter, images) = text.split_once(' ').unwrap_or((text, ""));
    let mut images = serde_json::Deserializer::from_str(images)
        .into_iter::<Box<serde_json::value::RawValue>>()
        .map(|image| {
            Row::parse(image.expect("an image is JSON").get(), relation)
                .expect("an image is an object")
        });
    let operation = match letter.trim_end_matches('!') {
        "I" => Operation::Insert,
        "U" => Operation::Update,
        "D" => Operation::Delete,
        "H" => Operation::Hole,
        other => unreachable!("unknown operation {other}"),
    };
    let new = matches!(operation, Operation::Insert | Operation::Update)
        .then(|| images.next())
        .flatten();
    Change {
        seq,
        relation: Arc::clone(relation),
        operation,
        new,
        old: images.next(),
        commit_timestamp: "2026-01-02T03:04:05.678Z".into(),
        too_large: letter.ends_with('!'),
    }
}

/// The position of change `seq` of batch `batch` in epoch 1, with a tag derived from the batch.
#[must_use]
pub fn position(batch: u64, seq: i64) -> Position {
    Position {
        epoch: 1,
        batch,
        seq,
        tag: batch.wrapping_mul(0x9E37_79B9_7F4A_7C15),
    }
}

/// A whole batch of epoch 1 in one page.
#[must_use]
pub fn page(batch: u64, changes: Vec<Change>) -> Arc<Page> {
    Arc::new(Page::new(changes, position(batch, i64::MAX)))
}
