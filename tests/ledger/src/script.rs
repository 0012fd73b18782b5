//! What a writer does in one transaction, drawn from a seed.

use std::time::Duration;

use fastrand::Rng;

use crate::table::{IDS, Table};

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) repeatable_read: bool,
    pub(crate) asynchronous_commit: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A transaction id long before the first change: ids and changes are in different orders.
    TakeId,
    /// All rows whose id is in `first..=last`, in one statement.
    Update {
        table: Table,
        first: u32,
        last: u32,
    },
    Insert {
        table: Table,
        first: u32,
        last: u32,
    },
    Delete {
        table: Table,
        id: u32,
    },
    Truncate(Table),
    /// What a large transaction that was rolled back leaves behind: values of the log's sequence that nobody has.
    SkipPositions,
    Savepoint,
    RollBackToSavepoint,
    ReleaseSavepoint,
    Think(Duration),
}

#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Commit,
    RollBack,
    Prepare {
        pause: Duration,
        then_commit: bool,
    },
    /// COMMIT while somebody terminates the backend, after this delay.
    CommitUnderFire(Duration),
    /// The backend is terminated first.
    Killed,
}

impl Script {
    pub(crate) fn draw(dice: &mut Rng, asynchronous_percent: u32) -> Self {
        let mut steps = Vec::new();
        if chance(dice, 30) {
            steps.push(Step::TakeId);
        }
        if chance(dice, 15) {
            steps.push(Step::Think(millis(dice, 30)));
        }
        if chance(dice, 2) {
            steps.push(Step::SkipPositions);
        }
        for _ in 0..dice.u32(1..=4) {
            if chance(dice, 2) {
                draw_truncation(dice, &mut steps);
            } else {
                draw_change(dice, &mut steps);
            }
            if chance(dice, 5) {
                steps.push(Step::Think(millis(dice, 15)));
            }
        }
        if chance(dice, 2) {
            // A straggler: it holds its locks, its id and its place in the log while others overtake it.
            steps.push(Step::Think(millis(dice, 500)));
        }
        Self {
            repeatable_read: chance(dice, 10),
            asynchronous_commit: chance(dice, asynchronous_percent),
            steps,
            ending: Ending::draw(dice),
        }
    }
}

fn draw_change(dice: &mut Rng, steps: &mut Vec<Step>) {
    let change = Step::draw(dice);
    if !chance(dice, 30) {
        steps.push(change);
        return;
    }
    steps.extend([Step::Savepoint, change]);
    if chance(dice, 40) {
        steps.push(Step::RollBackToSavepoint);
        if chance(dice, 50) {
            steps.push(Step::draw(dice));
        }
    } else if chance(dice, 50) {
        steps.push(Step::ReleaseSavepoint);
    }
}

/// Changes before and after it in one transaction.
fn draw_truncation(dice: &mut Rng, steps: &mut Vec<Step>) {
    let table = Table::ALL[dice.usize(0..Table::ALL.len())];
    let first = 0;
    steps.extend([
        Step::Update {
            table,
            first,
            last: IDS,
        },
        Step::Truncate(table),
        Step::Insert {
            table,
            first,
            last: IDS,
        },
    ]);
}

impl Step {
    fn draw(dice: &mut Rng) -> Self {
        let table = Table::ALL[dice.usize(0..Table::ALL.len())];
        // Low ids are hot.
        let id = dice.u32(0..IDS).min(dice.u32(0..IDS)).min(dice.u32(0..IDS));
        match dice.u32(0..100) {
            0..=49 => Self::Update {
                table,
                first: id,
                last: id + dice.u32(0..=1),
            },
            50..=64 => Self::Update {
                table,
                first: id,
                last: id + dice.u32(0..=5),
            },
            65..=66 => Self::Update {
                table,
                first: 0,
                last: IDS,
            },
            67..=85 => Self::Insert {
                table,
                first: id,
                last: id + dice.u32(0..=3),
            },
            _ => Self::Delete { table, id },
        }
    }

    /// The statement of a step; a pause has none.
    pub(crate) fn sql(&self, tag: &str) -> String {
        match self {
            Self::TakeId => "select pg_current_xact_id()".into(),
            Self::Update {
                table: Table::Calling,
                first,
                last,
            } => format!(
                "update calling set v = v + 1 + touch(id - 1, '{tag}'), tx = '{tag}' where id between {first} and {last}"
            ),
            Self::Update { table, first, last } => {
                let table = table.name();
                format!(
                    "update {table} set v = v + 1, tx = '{tag}' where id between {first} and {last}"
                )
            }
            Self::Insert { table, first, last } => {
                let table = table.name();
                format!(
                    "insert into {table} (id, tx) select g, '{tag}' from generate_series({first}, {last}) g on conflict do nothing"
                )
            }
            Self::Delete { table, id } => format!("delete from {} where id = {id}", table.name()),
            Self::Truncate(table) => format!("truncate {}", table.name()),
            Self::SkipPositions => {
                "select count(nextval('pgrelay.log_seq')) from generate_series(1, 15000)".into()
            }
            Self::Savepoint => "savepoint s".into(),
            Self::RollBackToSavepoint => "rollback to s".into(),
            Self::ReleaseSavepoint => "release s".into(),
            Self::Think(_) => String::new(),
        }
    }
}

impl Ending {
    fn draw(dice: &mut Rng) -> Self {
        match dice.u32(0..100) {
            0..=12 => Self::RollBack,
            13..=20 => Self::Prepare {
                pause: millis(dice, 60),
                then_commit: chance(dice, 60),
            },
            21..=22 => Self::CommitUnderFire(Duration::from_micros(dice.u64(0..1500))),
            23 => Self::Killed,
            _ => Self::Commit,
        }
    }
}

pub(crate) fn chance(dice: &mut Rng, percent: u32) -> bool {
    dice.u32(0..100) < percent
}

pub(crate) fn millis(dice: &mut Rng, below: u64) -> Duration {
    Duration::from_micros(dice.u64(0..below * 1000))
}
