//! Every defect that a broken build has is found. `scripts/broken-build` makes that build.
#![allow(clippy::print_stdout, reason = "a test that reports what it has seen")]

use pgrelay_faults_test::hunt;

/// Runs after which a defect counts as not found.
const RUNS_MAX: u64 = 8;

#[test]
fn every_broken_build_is_caught() {
    let missed = hunt(RUNS_MAX, 3, |line| println!("{line}"));
    assert!(missed.is_empty(), "not found: {missed:?}");
}
