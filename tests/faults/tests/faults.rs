//! A fixed set of runs: one of every class, and every seed that has ever found something.
#![allow(clippy::print_stdout, reason = "a test that reports what it has seen")]

use pgrelay_faults_test::{Class, Schedule, Tour, tour};

/// Seeds that have found something, with the class they found it in.
const FOUND: [(u64, Class); 0] = [];

#[test]
fn nothing_is_lost_repeated_reordered_or_leaked_whatever_breaks() {
    let mut schedules: Vec<Schedule> = (0..25).map(Schedule::of).collect();
    schedules.extend(FOUND.map(|(seed, class)| Schedule::of_class(seed, class)));
    let summary = tour(&Tour { schedules, jobs: 3 }, |line| println!("{line}"));
    println!("{summary}");
    assert!(summary.is_clean(), "{summary}");
    assert!(summary.total().changes > 10_000, "{summary}");
}
