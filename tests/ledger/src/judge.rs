//! The oracle: holds what was delivered against what the writers were told and what the tables say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::attempt::{Attempt, Outcome};
use crate::history::{Batch, Change, Row};
use crate::table::{Life, Table};
use crate::violation::{Kind, Violation};

/// The version of each row that exists.
pub(crate) type Contents = BTreeMap<Life, i64>;

/// All that is known of a run.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    /// What the tables held when the history began.
    pub(crate) before: &'a Contents,
    pub(crate) delivered: &'a [Batch],
    pub(crate) attempts: &'a [Attempt],
    /// What the tables hold at the end.
    pub(crate) after: &'a Contents,
}

/// A transaction as it was delivered.
#[derive(Debug)]
struct Told<'a> {
    batches: BTreeSet<i64>,
    tag: Option<&'a str>,
    changes: usize,
    /// Its first and last place, counted over all batches.
    first: usize,
    last: usize,
}

/// Every promise that the evidence shows broken.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    check_numbering(evidence, &mut found);
    let told = transactions(evidence, &mut found);
    check_outcomes(evidence, &told, &mut found);
    check_versions(evidence, &mut found);
    found
}

fn report(found: &mut Vec<Violation>, kind: Kind, what: String) {
    found.push(Violation { kind, what });
}

fn rows<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = (usize, &'a Batch, &'a Row)> {
    let rows = |batch: &'a Batch| batch.rows.iter().map(move |row| (batch, row));
    evidence
        .delivered
        .iter()
        .flat_map(rows)
        .enumerate()
        .map(|(index, (batch, row))| (index, batch, row))
}

/// Batches one by one, places upwards, each row of the log once, no hole where nothing is missing.
fn check_numbering(evidence: &Evidence<'_>, found: &mut Vec<Violation>) {
    for pair in evidence.delivered.windows(2) {
        if pair[0].id + 1 != pair[1].id {
            let what = format!("batch {} follows {}", pair[1].id, pair[0].id);
            report(found, Kind::Numbering, what);
        }
    }
    for batch in evidence.delivered {
        if !batch.rows.is_sorted_by(|a, b| a.place < b.place) {
            let what = format!("the places of batch {} are not in order", batch.id);
            report(found, Kind::OutOfOrder, what);
        }
    }
    let mut seen = HashMap::new();
    for (_, batch, row) in rows(evidence) {
        if let Some(before) = seen.insert(row.seq, batch.id) {
            let what = format!("row {} in batches {before} and {}", row.seq, batch.id);
            report(found, Kind::Twice, what);
        }
        if row.table.is_none() {
            report(
                found,
                Kind::FalseHole,
                format!("{row:?} in batch {}", batch.id),
            );
        }
    }
}

/// What was delivered, by transaction.
///
/// After a crash an id may be handed out again; the two then stand apart by their batches or show as one that is split.
fn transactions<'a>(
    evidence: &Evidence<'a>,
    found: &mut Vec<Violation>,
) -> HashMap<usize, Told<'a>> {
    let mut by_id: HashMap<(u64, Option<i64>), Told<'a>> = HashMap::new();
    let reused = reused_ids(evidence.attempts);
    for (index, batch, row) in rows(evidence) {
        let part = reused.contains(&row.xid).then_some(batch.id);
        let told = by_id.entry((row.xid, part)).or_insert_with(|| Told {
            batches: BTreeSet::new(),
            tag: None,
            changes: 0,
            first: index,
            last: index,
        });
        told.batches.insert(batch.id);
        told.tag = told.tag.or(row.change.tag());
        told.changes += usize::from(row.change != Change::Hole);
        told.last = index;
    }
    let mut by_attempt = HashMap::new();
    for ((xid, _), told) in by_id {
        if told.batches.len() > 1 {
            let what = format!("transaction {xid} in batches {:?}", told.batches);
            report(found, Kind::Split, what);
        }
        match attempt_of(evidence.attempts, xid, told.tag) {
            Some(attempt) => {
                if let Some(other) = by_attempt.insert(attempt, told) {
                    let what = format!("transaction {xid} also in {:?}", other.batches);
                    report(found, Kind::Twice, what);
                }
            }
            None => {
                let (tag, batches) = (told.tag, told.batches);
                let what = format!("transaction {xid} ({tag:?}) in batch {batches:?}");
                report(found, Kind::Phantom, what);
            }
        }
    }
    by_attempt
}

fn reused_ids(attempts: &[Attempt]) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let ids = attempts.iter().filter_map(|attempt| attempt.xid);
    ids.filter(|id| !seen.insert(*id)).collect()
}

/// The attempt that had this id and wrote this tag, preferring one that may have been committed.
fn attempt_of(attempts: &[Attempt], xid: u64, tag: Option<&str>) -> Option<usize> {
    let is_it = |attempt: &Attempt| {
        attempt.xid == Some(xid)
            && attempt.outcome != Outcome::Never
            && tag.is_none_or(|tag| attempt.tag == tag)
    };
    attempts.iter().rposition(is_it)
}

/// Committed transactions whole; those of unknown outcome whole or not at all; none before one that it could have seen.
fn check_outcomes(
    evidence: &Evidence<'_>,
    told: &HashMap<usize, Told<'_>>,
    found: &mut Vec<Violation>,
) {
    // Acknowledgements and beginnings in the order of the run's clock.
    let mut moments = Vec::new();
    for (index, attempt) in evidence.attempts.iter().enumerate() {
        let tag = &attempt.tag;
        let delivered = told.get(&index);
        let changes = delivered.map_or(0, |told| told.changes);
        let committed = match attempt.outcome {
            Outcome::Committed { acknowledged } => Some(acknowledged),
            Outcome::Never | Outcome::Unknown => None,
        };
        if changes < attempt.changes && (committed.is_some() || delivered.is_some()) {
            let what = format!("{tag}: {changes} of {} changes", attempt.changes);
            report(found, Kind::Lost, what);
        }
        if changes > attempt.changes {
            let what = format!("{tag}: {changes} instead of {} changes", attempt.changes);
            report(found, Kind::Twice, what);
        }
        if let Some(told) = delivered {
            moments.push((attempt.began, told, tag, false));
            moments.extend(committed.map(|moment| (moment, told, tag, true)));
        }
    }
    moments.sort_unstable_by_key(|(moment, ..)| *moment);
    let mut last: Option<(usize, &str)> = None;
    for (_, told, tag, is_end) in moments {
        if is_end {
            last = last.max(Some((told.last, tag)));
        } else if let Some((_, earlier)) = last.filter(|(place, _)| told.first < *place) {
            let what = format!("{tag} came before {earlier}, which was committed when it began");
            report(found, Kind::Overtaken, what);
        }
    }
}

/// What was delivered about one row.
#[derive(Debug, Default)]
struct Story {
    /// Versions and where each was delivered, in the order of delivery.
    versions: Vec<(i64, usize)>,
    /// Where its end was delivered.
    ended: Option<usize>,
}

/// The versions of each row one by one up to what the table says, nothing after its end.
fn check_versions(evidence: &Evidence<'_>, found: &mut Vec<Violation>) {
    let mut stories: BTreeMap<Life, Story> = evidence
        .before
        .keys()
        .chain(evidence.after.keys())
        .map(|life| (*life, Story::default()))
        .collect();
    let mut truncations: HashMap<Table, Vec<usize>> = HashMap::new();
    for (index, _, row) in rows(evidence) {
        match (row.version(), row.table) {
            (Some(version), _) => {
                let story = stories.entry(version.life).or_default();
                story.versions.push((version.number, index));
                if version.last {
                    story.ended = Some(index);
                }
            }
            (None, Some(table)) => truncations.entry(table).or_default().push(index),
            (None, None) => {}
        }
    }
    for (life, mut story) in stories {
        let before = evidence.before.get(&life).copied();
        let begin = match before {
            Some(_) => Some(0),
            None => story.versions.iter().map(|(_, index)| *index).min(),
        };
        let cuts = truncations.get(&life.table).map_or(&[][..], Vec::as_slice);
        let cut = cuts
            .iter()
            .find(|cut| begin.is_some_and(|begin| **cut >= begin));
        story.ended = story.ended.into_iter().chain(cut.copied()).min();
        check_order(life, before, &story, found);
        check_end(
            life,
            before,
            &story,
            evidence.after.get(&life).copied(),
            found,
        );
    }
}

fn check_order(life: Life, before: Option<i64>, story: &Story, found: &mut Vec<Violation>) {
    let delivered: Vec<i64> = story.versions.iter().map(|(number, _)| *number).collect();
    let mut sorted = delivered.clone();
    sorted.sort_unstable();
    let first = before.unwrap_or(0) + 1;
    for (expected, number) in (first..).zip(&sorted) {
        if *number != expected {
            let kind = match *number < expected {
                true => Kind::Twice,
                false => Kind::Lost,
            };
            report(
                found,
                kind,
                format!("{life:?}: from {first}: {delivered:?}"),
            );
            return;
        }
    }
    let after_end = |(_, index): &(i64, usize)| story.ended.is_some_and(|ended| *index > ended);
    if delivered != sorted || story.versions.iter().any(after_end) {
        let places = &story.versions;
        let ended = story.ended;
        let what = format!("{life:?}: from {first}: {places:?}, ended at {ended:?}");
        report(found, Kind::OutOfOrder, what);
    }
}

fn check_end(
    life: Life,
    before: Option<i64>,
    story: &Story,
    held: Option<i64>,
    found: &mut Vec<Violation>,
) {
    let delivered = story.versions.iter().map(|(number, _)| *number).max();
    let known = delivered.or(before);
    let kind = match (known, held, story.ended) {
        (Some(known), Some(held), None) if known == held => return,
        (Some(_), None, Some(_)) => return,
        (Some(known), Some(held), None) if known < held => Kind::Lost,
        (Some(_), Some(_), _) => Kind::Gone,
        // Either its insert is gone or its end was lost; another check tells of the latter by its transaction.
        (Some(_), None, None) if before.is_none() => Kind::Gone,
        (Some(_), None, None) | (None, ..) => Kind::Lost,
    };
    let ended = story.ended;
    let what = format!("{life:?}: told {known:?}, ended at {ended:?}, the table has {held:?}");
    report(found, kind, what);
}

#[cfg(test)]
mod tests;
