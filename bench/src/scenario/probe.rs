//! A writer in an open loop, and how long its rows took to arrive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use crate::{
    clock::{self, SECOND},
    database,
    fleet::Event,
    latency::Latency,
    stamp::{Stamp, Stamps},
};

/// What to write: row number n has booking n modulo their count.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) table: &'static str,
    pub(crate) bookings: Vec<Uuid>,
    /// Commits a second.
    pub(crate) rate: u64,
    /// Rows at most.
    pub(crate) count: usize,
    /// Of a row's body.
    pub(crate) bytes: usize,
}

/// A thread that inserts one row in each commit.
#[derive(Debug)]
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<u64>>>,
}

/// What arrived: numbers, and when.
#[derive(Debug)]
pub(crate) struct Receipts {
    stamps: Stamps,
    pub(crate) all: Vec<(u32, u64)>,
}

/// What came of a writer's rows.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From the return of the commit to a client that has read it; nothing where the client was first.
    pub(crate) latency: Latency,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
}

impl Writer {
    pub(crate) fn start(plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let url = plan.url.clone();
            database::run(&url, async |client| {
                let sql = format!(
                    "insert into {} (booking_id, body) values ($1, $2)",
                    plan.table
                );
                let statement = client.prepare(&sql).await?;
                let (begin, mut committed) = (clock::now() + SECOND / 20, Vec::new());
                while committed.len() < plan.count && !told.load(Ordering::Relaxed) {
                    let number = committed.len();
                    let due = begin + number as u64 * SECOND / plan.rate;
                    clock::sleep_until(due);
                    let stamp = Stamp {
                        due,
                        number: u32::try_from(number)?,
                    };
                    let booking = plan.bookings[number % plan.bookings.len()];
                    client
                        .execute(&statement, &[&booking, &stamp.text(plan.bytes)])
                        .await?;
                    committed.push(clock::now());
                }
                Ok(committed)
            })
        });
        Self { stop, thread }
    }

    /// Whether it has written all.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// When each of its rows was committed. It writes no more.
    pub(crate) fn stop(self) -> Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writer to end well")?
    }
}

impl Receipts {
    pub(crate) fn new() -> Self {
        Self {
            stamps: Stamps::new(),
            all: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, event: &Event<'_>) {
        if let Event::Frame(_, payload, at) = event {
            self.all
                .extend(self.stamps.find(payload).map(|stamp| (stamp.number, *at)));
        }
    }

    /// Compares with what was written; every row is owed to so many clients. Rows committed before `since` are counted but
    /// not timed.
    pub(crate) fn judge(&self, committed: &[u64], clients: usize, since: u64) -> Result<Outcome> {
        let (mut latency, mut counts) = (Latency::new()?, vec![0; committed.len()]);
        for (number, at) in &self.all {
            let number = *number as usize;
            let written = committed.get(number).context("a row that was written")?;
            counts[number] += 1;
            if *written >= since {
                latency.record(at.saturating_sub(*written));
            }
        }
        Ok(Outcome {
            latency,
            lost: counts
                .iter()
                .map(|count| clients.saturating_sub(*count))
                .sum(),
            duplicated: counts
                .iter()
                .map(|count| count.saturating_sub(clients))
                .sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_for_every_client() {
        let receipts = Receipts {
            all: vec![(0, 15), (0, 16), (1, 18), (2, 40), (2, 40), (2, 40)],
            ..Receipts::new()
        };
        let outcome = receipts.judge(&[10, 20, 30], 2, 20).unwrap();
        assert_eq!((outcome.lost, outcome.duplicated), (1, 1));
        assert_eq!(
            outcome.latency.count(),
            4,
            "the first row is too old to be timed"
        );
    }
}
