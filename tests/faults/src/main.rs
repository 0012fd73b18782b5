//! `faults SEED SCHEDULES [--jobs N] [--class NAME] [--record FILE]`: plays schedules and ends with one line of counters.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the tests that reports what it sees"
)]

use std::process::{Command, ExitCode};

use pgrelay_faults_test::{Class, Schedule, Summary, Tour, tour};

/// What was asked for.
struct Wish {
    seed: u64,
    schedules: u64,
    jobs: usize,
    class: Option<Class>,
    record: Option<String>,
}

fn main() -> ExitCode {
    let wish = match parse(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(what) => {
            eprintln!(
                "{what}\nusage: faults SEED SCHEDULES [--jobs N] [--class NAME] [--record FILE]"
            );
            return ExitCode::from(64);
        }
    };
    println!("faults {} {}", wish.seed, wish.schedules);
    let seeds = wish.seed..wish.seed.saturating_add(wish.schedules);
    let draw = |seed| match wish.class {
        Some(class) => Schedule::of_class(seed, class),
        None => Schedule::of(seed),
    };
    let plan = Tour {
        schedules: seeds.map(draw).collect(),
        jobs: wish.jobs,
    };
    let summary = tour(&plan, |line| println!("{line}"));
    if let Some(file) = &wish.record {
        std::fs::write(file, record(&wish, &summary)).unwrap();
    }
    println!("{summary}");
    ExitCode::from(u8::from(!summary.is_clean()))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut numbers = Vec::new();
    let mut wish = Wish {
        seed: 0,
        schedules: 0,
        jobs: 2,
        class: None,
        record: None,
    };
    let number = |word: &str| {
        word.parse::<u64>()
            .map_err(|error| format!("{word:?}: {error}"))
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--jobs" => wish.jobs = usize::try_from(number(&value()?)?).unwrap_or(1),
            "--record" => wish.record = Some(value()?),
            "--class" => {
                let name = value()?;
                let class = Class::ALL
                    .into_iter()
                    .find(|class| format!("{class:?}") == name);
                wish.class =
                    Some(class.ok_or(format!("no class {name:?}; there are {:?}", Class::ALL))?);
            }
            _ => numbers.push(number(&word)?),
        }
    }
    let [seed, schedules] = numbers[..] else {
        return Err("SEED and SCHEDULES are numbers".into());
    };
    (wish.seed, wish.schedules) = (seed, schedules);
    Ok(wish)
}

/// The page about a run.
fn record(wish: &Wish, summary: &Summary) -> String {
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "# What a recorded run came to\n\n`make faults SEED={} SCHEDULES={}` at commit {}, PostgreSQL 15, {} runs at a time.\n\n\
         ```\n{summary}\n```\n\n{}",
        wish.seed,
        wish.schedules,
        commit.unwrap_or_default(),
        wish.jobs,
        summary.table(),
    )
}
