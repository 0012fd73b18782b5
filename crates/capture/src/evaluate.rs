//! Filters that only PostgreSQL can decide, over the logged images of a page: one statement per table.

use std::collections::BTreeMap;

use pgrelay_relay::{
    change::{Change, Operation, Page, Rendering},
    filter::FilterTest,
};

use crate::{
    columns::{Columns, Transport},
    error::Error,
    predicate,
    resolver::Shared,
};

/// Changes of one table whose columns are all there: index in the answer, and a text per test.
#[derive(Debug, Default)]
struct Candidates {
    indices: Vec<usize>,
    /// Per test, a list as long as `indices`.
    values: Vec<Vec<Option<String>>>,
}

/// For each of `changes`, whether all of `tests` hold. An absent column fails its change.
pub(crate) async fn evaluate(
    shared: &Shared,
    page: &Page,
    changes: &[u32],
    tests: &[FilterTest],
) -> Result<Vec<bool>, Error> {
    let mut holds = vec![tests.is_empty(); changes.len()];
    if tests.is_empty() {
        return Ok(holds);
    }
    for (relation, indices) in by_relation(page, changes) {
        let columns = shared.columns(relation).await?;
        let candidates = gather(page, changes, &indices, tests, &columns);
        if candidates.indices.is_empty() {
            continue;
        }
        let Some(typed) = predicate::statement(tests, &columns, &candidates.values) else {
            continue;
        };
        for row in typed
            .run(&shared.compiler.pool, shared.compiler.limit)
            .await?
        {
            let ordinal = usize::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            if let Some(index) = ordinal
                .checked_sub(1)
                .and_then(|at| candidates.indices.get(at))
            {
                holds[*index] = row.get(1);
            }
        }
    }
    Ok(holds)
}

/// Places in `changes` by table.
fn by_relation(page: &Page, changes: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let mut tables: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, at) in changes.iter().enumerate() {
        let change = usize::try_from(*at)
            .ok()
            .and_then(|at| page.changes.get(at));
        if let Some(change) = change.filter(|change| change.operation != Operation::Hole) {
            tables.entry(change.relation.oid).or_default().push(index);
        }
    }
    tables
}

fn gather(
    page: &Page,
    changes: &[u32],
    indices: &[usize],
    tests: &[FilterTest],
    columns: &Columns,
) -> Candidates {
    let mut candidates = Candidates {
        indices: Vec::new(),
        values: vec![Vec::new(); tests.len()],
    };
    for index in indices {
        let change = usize::try_from(changes[*index])
            .ok()
            .and_then(|at| page.changes.get(at));
        let texts: Option<Vec<_>> = change.and_then(|change| {
            tests
                .iter()
                .map(|test| text(change, test, columns))
                .collect()
        });
        let Some(texts) = texts else { continue };
        candidates.indices.push(*index);
        for (list, text) in candidates.values.iter_mut().zip(texts) {
            list.push(text);
        }
    }
    candidates
}

/// What PostgreSQL reads for a test's column of a change. Outer `None`: the image does not have it.
fn text(change: &Change, test: &FilterTest, columns: &Columns) -> Option<Option<String>> {
    let place = change.relation.column(&test.column)?;
    let column = &change.relation.columns[place];
    let image = match change.operation {
        Operation::Insert | Operation::Update => change.new.as_ref()?,
        Operation::Delete if column.identity => change.old.as_ref()?,
        Operation::Delete | Operation::Hole => return None,
    };
    let json = image.value(place)?;
    if json == "null" || (column.rendering == Rendering::FiniteOrNull && json.starts_with('"')) {
        return Some(None);
    }
    match columns.get(&test.column)?.transport() {
        Transport::Text if !json.starts_with('"') => Some(Some(json.to_owned())),
        Transport::Text => {
            // A string that is no text of PostgreSQL's was never in a text column.
            let text: String = serde_json::from_str(json).ok()?;
            let bare = column.rendering == Rendering::BareHex;
            Some(Some(
                text.strip_prefix("\\x")
                    .filter(|_| bare)
                    .map_or_else(|| text.clone(), str::to_owned),
            ))
        }
        Transport::Json => Some(Some(json.to_owned())),
        Transport::Populate => {
            let name = serde_json::to_string(&*test.column).ok()?;
            Some(Some(format!("{{{name}:{json}}}")))
        }
    }
}
