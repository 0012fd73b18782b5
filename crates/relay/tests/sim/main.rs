//! Any interleaving of changes, joins, resumes, stalls, outages and disconnects, from a seed: no
//! change is lost, none comes twice, none out of order, and what cannot be kept is said.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a file of tests that names its seeds"
)]

mod client;
mod random;
mod truth;
mod world;

use client::Told;
use world::World;

/// Seeds of a run without further wishes.
const SEEDS: std::ops::Range<u64> = 0..10_000;

/// Runs one seed; a failing one is named.
fn run(seed: u64) -> Told {
    std::panic::catch_unwind(|| World::new(seed).run()).unwrap_or_else(|panic| {
        eprintln!(
            "failed with seed {seed}: SIM_SEEDS={seed}..{} replays it",
            seed + 1
        );
        std::panic::resume_unwind(panic)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a developer chooses seeds through the environment"
)]
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else {
        return SEEDS;
    };
    let (from, to) = text
        .split_once("..")
        .expect("SIM_SEEDS is a range like 0..1000");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Runs every seed; what all of them were told.
fn on_all_processors(seeds: &std::ops::Range<u64>) -> Told {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let share = |first: usize| {
            let seeds = seeds.clone().skip(first).step_by(threads);
            scope.spawn(|| seeds.map(run).fold(Told::default(), Told::and))
        };
        let workers: Vec<_> = (0..threads).map(share).collect();
        let told = workers.into_iter().map(|worker| worker.join().unwrap());
        told.fold(Told::default(), Told::and)
    })
}

#[test]
fn nothing_is_lost_doubled_or_disordered_under_any_interleaving() {
    let seeds = seeds();
    let told = on_all_processors(&seeds);
    // The runs have met what they are there to survive.
    if seeds == SEEDS {
        println!("{told:?}");
        assert!(
            told.changes > 1_000 && told.checkpoints > 100 && told.recovered > 100,
            "{told:?}"
        );
        for reason in ["authorization", "epoch", "forged", "hole", "retention"] {
            assert!(told.refetch.contains_key(reason), "{told:?}");
        }
    }
}
