//! The ledger keeps its promises under seeded disorder, and every defect that is put into it is found.
//!
//! `PGRELAY_SEED` is the first seed (1) and `PGRELAY_SEEDS` how many loads are run (6); a failure names its seed. The order of
//! events is the server's, so that a seed makes a failure likely again rather than certain.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that reports what it has seen"
)]

use pgrelay_ledger_test::{Load, MUTANTS, Schema, Servers, Verdict, fork, restore, run, survive};
use pgrelay_test_support::{PostgresServer, PostgresServerBuilder};

/// Seeds after which a defect counts as not found.
const SEEDS_MAX: u64 = 20;

const LOAD: Load = Load {
    writers: 10,
    scripts: 60,
    asynchronous_percent: 40,
};

const SMALL_LOAD: Load = Load {
    writers: 8,
    scripts: 20,
    ..LOAD
};

fn builder() -> PostgresServerBuilder {
    PostgresServer::builder()
        .set("max_prepared_transactions", "64")
        .set("fsync", "off")
        // Longer than maintenance waits for a lock, so that no step is made the victim.
        .set("deadlock_timeout", "100ms")
}

/// A server that keeps its log in memory for as long as it can: a crash takes what nobody waited for.
async fn fragile() -> PostgresServer {
    builder()
        .set("wal_writer_delay", "10s")
        .set("wal_writer_flush_after", "1GB")
        .start()
        .await
}

/// A number from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the test's environment, not the product's"
)]
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

fn first_seed() -> u64 {
    number("PGRELAY_SEED", 1)
}

/// Fails with the seed and what was found.
fn hold(scenario: &str, seed: u64, verdict: &Verdict) {
    println!("{scenario}, seed {seed}: {}", verdict.summary());
    let found: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "{scenario}: {} promises broken. Again: PGRELAY_SEED={seed} PGRELAY_SEEDS=1\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
}

#[tokio::test]
async fn nothing_is_lost_repeated_or_reordered() {
    let server = builder().start().await;
    let schema = Schema::shipped();
    let mut upkeep = (0, 0, 0);
    let seeds = number("PGRELAY_SEEDS", 6);
    for seed in first_seed()..first_seed() + seeds {
        let verdict = run(&server.url(), &schema, LOAD, seed).await;
        hold("load", seed, &verdict);
        upkeep.0 += verdict.upkeep.switched;
        upkeep.1 += verdict.upkeep.recycled;
        upkeep.2 += verdict.upkeep.grown;
    }
    // Loads that met nothing of this would prove nothing about it; a single one may.
    assert!(
        seeds < 6 || upkeep.0.min(upkeep.1).min(upkeep.2) > 0,
        "switched, recycled, grown: {upkeep:?}"
    );
}

#[tokio::test]
async fn what_was_told_survives_a_crash() {
    let mut server = fragile().await;
    let verdict = survive(&mut server, &Schema::shipped(), SMALL_LOAD, first_seed()).await;
    hold("crash", first_seed(), &verdict);
}

#[tokio::test]
async fn a_restored_dump_begins_a_history_of_its_own() {
    let (old, new) = (builder().start().await, builder().start().await);
    let verdict = restore(&old, &new, &Schema::shipped(), SMALL_LOAD, first_seed()).await;
    hold("restore", first_seed(), &verdict);
}

#[tokio::test]
async fn two_copies_of_a_database_know_their_own_cursors() {
    let mut server = builder().start().await;
    let verdicts = fork(&mut server, &Schema::shipped(), SMALL_LOAD, first_seed()).await;
    hold("original", first_seed(), &verdicts[0]);
    hold("copy", first_seed(), &verdicts[1]);
}

#[tokio::test]
async fn every_defect_is_found() {
    let mut servers = Servers {
        first: builder().start().await,
        second: builder().start().await,
        fragile: fragile().await,
    };
    let mut missed = Vec::new();
    for mutant in &MUTANTS {
        let mut tried = 0;
        let caught = loop {
            let seed = first_seed() + tried;
            tried += 1;
            let verdict = mutant.run(&mut servers, SMALL_LOAD, seed).await;
            if mutant.is_caught(&verdict) {
                break true;
            }
            if tried == SEEDS_MAX {
                missed.push((mutant.name, verdict.violations));
                break false;
            }
        };
        println!("defect: {}: found {caught}, seeds {tried}", mutant.name);
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
