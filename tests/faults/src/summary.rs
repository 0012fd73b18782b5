//! What many runs came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::run::Report;
use crate::schedule::Class;
use crate::violation::Kind;

/// Counters of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Of each class.
    pub classes: BTreeMap<Class, Counters>,
}

/// Counters of some runs.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs, reason = "as in Report, added up")]
pub struct Counters {
    pub schedules: usize,
    pub faults: usize,
    pub changes: usize,
    pub heard: usize,
    pub reconnects: usize,
    pub refetches: usize,
    pub overflows: usize,
    pub forgotten: usize,
    pub recovery_max: Duration,
    pub violations: BTreeMap<Kind, usize>,
}

impl Counters {
    fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.faults += other.faults;
        self.changes += other.changes;
        self.heard += other.heard;
        self.reconnects += other.reconnects;
        self.refetches += other.refetches;
        self.overflows += other.overflows;
        self.forgotten += other.forgotten;
        self.recovery_max = self.recovery_max.max(other.recovery_max);
        for (kind, count) in &other.violations {
            *self.violations.entry(*kind).or_default() += count;
        }
    }

    fn count(&self, kinds: &[Kind]) -> usize {
        let counts = kinds.iter().filter_map(|kind| self.violations.get(kind));
        counts.sum()
    }
}

impl Summary {
    /// Adds one run.
    pub fn add(&mut self, class: Class, report: &Report) {
        let mut violations = BTreeMap::new();
        for violation in &report.violations {
            *violations.entry(violation.kind).or_default() += 1;
        }
        self.classes.entry(class).or_default().add(&Counters {
            schedules: 1,
            faults: report.faults,
            changes: report.changes,
            heard: report.heard,
            reconnects: report.reconnects,
            refetches: report.refetches,
            overflows: report.overflows,
            forgotten: report.forgotten,
            recovery_max: report.recovery,
            violations,
        });
    }

    /// Of all classes.
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.classes.values().for_each(|it| total.add(it));
        total
    }

    /// Whether nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.total().violations.is_empty()
    }

    /// A table for people, one row for each class.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| class | schedules | faults | changes | heard | reconnects | told to fetch | slowest recovery | violations |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for (class, it) in &self.classes {
            let violations: usize = it.violations.values().sum();
            text.push_str(&format!(
                "| {class:?} | {} | {} | {} | {} | {} | {} | {:.1} s | {violations} |\n",
                it.schedules,
                it.faults,
                it.changes,
                it.heard,
                it.reconnects,
                it.refetches,
                it.recovery_max.as_secs_f64()
            ));
        }
        text
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.total();
        write!(
            f,
            "schedules={} faults={} changes={} heard={} reconnects={} refetches={} overflows={} taken_back={} \
             slowest_recovery={:.1}s lost={} duplicated={} reordered={} phantom={} unauthorised={} aborted={} stalled={} other={}",
            it.schedules,
            it.faults,
            it.changes,
            it.heard,
            it.reconnects,
            it.refetches,
            it.overflows,
            it.forgotten,
            it.recovery_max.as_secs_f64(),
            it.count(&[Kind::Lost, Kind::Diverged]),
            it.count(&[Kind::Twice]),
            it.count(&[Kind::Reordered]),
            it.count(&[Kind::Phantom, Kind::Altered]),
            it.count(&[Kind::Unauthorised, Kind::Unwanted, Kind::Secret]),
            it.count(&[Kind::Aborted]),
            it.count(&[Kind::Stalled]),
            it.count(&[Kind::Refetch, Kind::Cursor, Kind::Bounds, Kind::Broke]),
        )
    }
}
