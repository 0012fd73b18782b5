//! Holds what clients heard against what writers did.

use std::collections::{HashMap, HashSet};

use crate::book::{Attempt, Change, Op, Version};
use crate::memory::{Event, Heard, Memory};
use crate::schedule::Class;
use crate::table::SECRET;
use crate::violation::{Kind, Violation};

/// Seconds that a token may be honoured after its end.
const LEEWAY: u64 = 2;

/// What came to be.
pub(crate) struct Truth<'a> {
    pub(crate) attempts: &'a [Attempt],
    class: Class,
    committed: Vec<bool>,
    /// Which transactions tried a change. More than one, where some were rolled back or lost.
    tried: HashMap<Change, Vec<usize>>,
}

impl<'a> Truth<'a> {
    /// `outcomes` are the tags that the database holds in the end.
    pub(crate) fn new(attempts: &'a [Attempt], outcomes: &HashSet<String>, class: Class) -> Self {
        let mut tried: HashMap<Change, Vec<usize>> = HashMap::new();
        for (place, attempt) in attempts.iter().enumerate() {
            for change in &attempt.changes {
                tried.entry(*change).or_default().push(place);
            }
        }
        Self {
            committed: attempts
                .iter()
                .map(|attempt| outcomes.contains(&attempt.tag))
                .collect(),
            attempts,
            class,
            tried,
        }
    }

    /// Changes that came to be.
    pub(crate) fn changes(&self) -> usize {
        let committed = self.attempts.iter().zip(&self.committed);
        committed
            .filter(|(_, committed)| **committed)
            .map(|(attempt, _)| attempt.changes.len())
            .sum()
    }

    /// What was acknowledged and is not there any more.
    pub(crate) fn forgotten(&self) -> usize {
        let attempts = self.attempts.iter().zip(&self.committed);
        attempts
            .filter(|(attempt, committed)| attempt.acknowledged.is_some() && !**committed)
            .count()
    }

    /// The transaction of a change, if it was committed.
    fn maker(&self, heard: &Heard) -> Option<usize> {
        let tried = self.tried.get(&heard.change)?;
        let is_it = |place: &&usize| {
            // The old row of a DELETE carries the tag of who wrote it.
            self.committed[**place]
                && (heard.change.op == Op::Delete || self.attempts[**place].tag == heard.tag)
        };
        tried.iter().find(is_it).copied()
    }

    /// Who is told of a break need not hear of what lies before it.
    fn may_break(&self) -> bool {
        !self.class.reasons().is_empty()
    }
}

/// Everything that is wrong with what one client heard.
pub(crate) fn judge(memory: &Memory, truth: &Truth<'_>) -> Vec<Violation> {
    let mut case = Case {
        memory,
        truth,
        found: memory.noticed.clone(),
        heard: HashSet::new(),
        rows: HashMap::new(),
        skipped: Vec::new(),
        last_begun: 0,
        last_of: HashMap::new(),
    };
    // Before a history that ended, clients heard what is not true any more.
    let is_end = |event: &Event| matches!(event, Event::Refetch("epoch"));
    let start = memory.events.iter().rposition(is_end).unwrap_or(0);
    for event in &memory.events[..start] {
        if let Event::Change(heard) = event {
            case.is_for_it(heard);
        }
    }
    for event in &memory.events[start..] {
        case.take(event);
    }
    for what in std::mem::take(&mut case.skipped) {
        case.fail(Kind::Reordered, what);
    }
    case.is_complete();
    case.found
}

struct Case<'a> {
    memory: &'a Memory,
    truth: &'a Truth<'a>,
    found: Vec<Violation>,
    heard: HashSet<Change>,
    /// The version of each row that was heard last; `None` for one that was deleted.
    rows: HashMap<(usize, i64), Option<Version>>,
    /// Versions that were skipped. Whoever is told to fetch again later need not care.
    skipped: Vec<String>,
    /// When the newest transaction began of which something was heard.
    last_begun: u64,
    /// How far into each transaction it has come.
    last_of: HashMap<usize, usize>,
}

impl Case<'_> {
    fn fail(&mut self, kind: Kind, mut what: String) {
        what.insert_str(0, &format!("{}: ", self.memory.name));
        self.found.push(Violation { kind, what });
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Refetch(reason) => {
                if !self.truth.class.reasons().contains(reason) {
                    self.fail(Kind::Refetch, (*reason).into());
                }
                // Rows may have moved on meanwhile.
                self.rows.clear();
                self.skipped.clear();
            }
            Event::Change(heard) => {
                self.is_for_it(heard);
                let Some(place) = self.truth.maker(heard) else {
                    // Nobody tells a client without cursors that a history has ended.
                    if self.memory.resumes || !self.truth.may_break() {
                        self.fail(Kind::Phantom, format!("{heard:?}"));
                    }
                    return;
                };
                if !self.heard.insert(heard.change)
                    && (self.memory.resumes || !self.truth.may_break())
                {
                    self.fail(Kind::Twice, format!("{heard:?}"));
                }
                self.is_next_of_row(heard);
                self.is_in_order(heard, place);
            }
        }
    }

    /// It asked for this, and may see it.
    fn is_for_it(&mut self, heard: &Heard) {
        let version = heard.change.version;
        if version.table == SECRET {
            self.fail(Kind::Unauthorised, format!("{heard:?}"));
        } else if !self.memory.wants(version) {
            self.fail(Kind::Unwanted, format!("{heard:?}"));
        }
    }

    /// Versions of a row come one after the other.
    fn is_next_of_row(&mut self, heard: &Heard) {
        let Change { op, version } = heard.change;
        let key = (version.table, version.id);
        let before = self.rows.get(&key).copied();
        let is_next = match (before, op) {
            // Where it was away, it cannot tell.
            (None, _) => self.memory.owed_from > 0 || op == Op::Insert,
            (Some(None), op) => op == Op::Insert && version.v == 1,
            (Some(Some(last)), Op::Insert) => {
                // A row that was truncated away is made again.
                self.truth.may_break() && last.life != version.life
            }
            (Some(Some(last)), Op::Update) => (last.life, last.v + 1) == (version.life, version.v),
            (Some(Some(last)), Op::Delete) => last == version,
        };
        if !is_next && self.memory.resumes {
            self.skipped.push(format!("{heard:?} after {before:?}"));
        }
        let after = (op != Op::Delete).then_some(version);
        self.rows.insert(key, after);
    }

    /// Transactions come in an order they can have happened in, and each in its own.
    fn is_in_order(&mut self, heard: &Heard, place: usize) {
        let attempt = &self.truth.attempts[place];
        if attempt.acknowledged.is_some_and(|at| at < self.last_begun) {
            let what = format!("{heard:?} of {} after one that began later", attempt.tag);
            self.fail(Kind::Reordered, what);
        }
        let is_late = |at: u64| attempt.began_at > at + LEEWAY;
        if heard.expires_at.is_some_and(is_late) {
            let what = format!("{heard:?} long after its token ran out");
            self.fail(Kind::Unauthorised, what);
        }
        self.last_begun = self.last_begun.max(attempt.began);
        let changes = attempt.changes.iter();
        let index = changes
            .clone()
            .position(|change| *change == heard.change)
            .unwrap_or(0);
        let last = self.last_of.insert(place, index);
        if last.is_some_and(|last| last >= index) {
            let what = format!("{heard:?} within {}", attempt.tag);
            self.fail(Kind::Reordered, what);
        }
    }

    /// What it is owed has come.
    fn is_complete(&mut self) {
        let truth = self.truth;
        if !self.memory.was_live {
            self.fail(Kind::Stalled, "was never live".into());
        }
        // Who cannot be told of a loss may have one where losses happen.
        if !self.memory.resumes && truth.may_break() {
            return;
        }
        for (place, attempt) in truth.attempts.iter().enumerate() {
            if !truth.committed[place] || attempt.began <= self.memory.owed_from {
                continue;
            }
            let wanted = attempt.changes.iter();
            let wanted = wanted.filter(|change| self.memory.wants(change.version));
            let missing: Vec<&Change> = wanted
                .filter(|change| !self.heard.contains(change))
                .collect();
            if let Some(first) = missing.first() {
                let what = format!(
                    "{} changes of {}, the first {first:?}",
                    missing.len(),
                    attempt.tag
                );
                self.fail(Kind::Lost, what);
            }
        }
    }
}

/// One change has one cursor, whoever hears it.
pub(crate) fn judge_cursors<'a>(memories: impl Iterator<Item = &'a Memory>) -> Vec<Violation> {
    let mut cursors: HashMap<(Change, &str), (u64, &str)> = HashMap::new();
    let mut found = Vec::new();
    for memory in memories {
        for event in &memory.events {
            let Event::Change(heard) = event else {
                continue;
            };
            let Some(cursor) = heard.cursor else { continue };
            let key = (heard.change, heard.tag.as_str());
            let (known, whose) = cursors.entry(key).or_insert((cursor, &memory.name));
            if *known != cursor {
                let what = format!("{heard:?} for {} and {whose}", memory.name);
                found.push(Violation::new(Kind::Cursor, what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
