//! The floor, the peers and pgrelay, measured side by side in one run.
//!
//! `make bench` runs everything, `make bench-quick` one short pass. The last lines are one for each bar; the exit code is 0
//! only if none of them says `short`.

mod bar;
mod chart;
mod clock;
mod database;
mod dialect;
mod fleet;
mod floor;
mod frame;
mod lab;
mod latency;
mod report;
mod results;
mod scenario;
mod server;
mod stamp;
mod usage;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::{
    database::Postgres,
    lab::Lab,
    report::say,
    results::Results,
    scenario::{Bench, Scenario},
};

/// Measures pgrelay beside the floor and its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// One short pass beside the floor and Bun.
    #[arg(long)]
    quick: bool,
    /// With --quick: sizes so small that figures mean nothing, to try out the harness.
    #[arg(long, requires = "quick")]
    tiny: bool,
    /// Scenarios to run, as in S4; all by default.
    scenarios: Vec<String>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Serves as the floor, until it is killed.
    Floor {
        /// Where to listen.
        port: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Floor { port }) => floor::serve(*port).map(|()| true),
        None => measure(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("failed: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Whether every bar was reached.
fn measure(arguments: &Arguments) -> Result<bool> {
    let scenarios = chosen(&arguments.scenarios)?;
    let lab = Lab::open(arguments.quick, arguments.tiny)?;
    let postgres = Postgres::start(&lab)?;
    let mut results = Results::default();
    let mut bench = Bench {
        lab: &lab,
        postgres: &postgres,
        results: &mut results,
    };
    bench.prepare()?;
    let mut failed = Vec::new();
    for scenario in &scenarios {
        say(&format!("{}: {}", scenario.name(), scenario.title()));
        let begin = clock::now();
        // The others are worth having even so; what was not measured is short of its bar.
        if let Err(error) = scenario.run(&mut bench) {
            failed.push(format!("failed: {error:#}"));
        }
        say(&format!(
            "{}: {:.0} s",
            scenario.name(),
            clock::seconds(clock::now() - begin)
        ));
    }
    let verdicts = report::verdicts(&scenarios, lab.quick, &results);
    report::write(&lab, &scenarios, &results, &verdicts)?;
    failed.iter().for_each(|line| say(line));
    verdicts.iter().for_each(|verdict| say(&verdict.line));
    Ok(failed.is_empty() && verdicts.iter().all(|verdict| verdict.is_ok))
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    for name in names {
        if !Scenario::ALL
            .iter()
            .any(|scenario| scenario.name().eq_ignore_ascii_case(name))
        {
            bail!("there is no scenario {name}");
        }
    }
    let is_chosen = |scenario: &Scenario| {
        names.is_empty()
            || names
                .iter()
                .any(|name| scenario.name().eq_ignore_ascii_case(name))
    };
    Ok(Scenario::ALL.into_iter().filter(is_chosen).collect())
}
