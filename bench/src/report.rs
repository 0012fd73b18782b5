//! Files of a run, and what it says while it runs.

use std::{collections::BTreeSet, fmt::Write as _, fs, process::Command};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    bar::{BARS, Verdict, number},
    chart,
    lab::{Lab, output},
    results::Results,
    scenario::Scenario,
};

/// One line for whoever watches.
#[expect(clippy::print_stdout, reason = "a command's own output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Judges what was measured of these scenarios.
pub(crate) fn verdicts(scenarios: &[Scenario], quick: bool, results: &Results) -> Vec<Verdict> {
    let names: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.name()).collect();
    let judged = BARS
        .iter()
        .filter(|bar| names.contains(bar.scenario()) && bar.is_judged(quick));
    judged.map(|bar| bar.judge(results)).collect()
}

/// Writes the table, the raw values and the chart. Only a full run is worth keeping in the repository.
pub(crate) fn write(
    lab: &Lab,
    scenarios: &[Scenario],
    results: &Results,
    verdicts: &[Verdict],
) -> Result<()> {
    let whole = !lab.quick && scenarios.len() == Scenario::ALL.len();
    let folder = if whole {
        lab.root.join("bench")
    } else {
        lab.root.join("target/bench")
    };
    fs::create_dir_all(folder.join("results"))?;
    let machine = machine()?;
    let command = if lab.quick {
        "make bench-quick"
    } else {
        "make bench"
    };
    let table = table(scenarios, results, verdicts, &[command, &machine]);
    fs::write(folder.join("RESULTS.md"), table)?;
    fs::write(folder.join("results/chart.svg"), chart::svg(results))?;
    let raw = json!({"command": command, "machine": machine, "figures": results.to_json()});
    fs::write(
        folder.join("results/raw.json"),
        serde_json::to_string_pretty(&raw)? + "\n",
    )?;
    say(&format!(
        "written: {}/RESULTS.md, results/raw.json, results/chart.svg",
        folder.display()
    ));
    Ok(())
}

fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    let kernel = output(Command::new("uname").arg("-sr"))?;
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    Ok(format!("{model}, {count} processors, {kernel}"))
}

fn table(
    scenarios: &[Scenario],
    results: &Results,
    verdicts: &[Verdict],
    [command, machine]: &[&str; 2],
) -> String {
    let mut text = format!(
        "# Results\n\nWritten by `{command}` on {machine}.\nMedians of all rounds; ratios hold inside this run only. \
         `results/raw.json` has every value.\n\n![chart](results/chart.svg)\n"
    );
    for scenario in scenarios {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n\n",
            scenario.name(),
            scenario.title(),
            scenario.method()
        );
        text.push_str(&figures(scenario.name(), results));
    }
    text.push_str("\n## Bars\n\n```\n");
    for verdict in verdicts {
        text.push_str(&verdict.line);
        text.push('\n');
    }
    text.push_str("```\n");
    text
}

/// Subjects down, metrics across.
fn figures(scenario: &str, results: &Results) -> String {
    let (mut subjects, mut metrics) = (Vec::new(), Vec::new());
    for figure in results.of(scenario) {
        if !subjects.contains(&figure.subject) {
            subjects.push(figure.subject);
        }
        if !metrics.contains(&figure.metric) {
            metrics.push(figure.metric);
        }
    }
    let mut rows = vec![
        format!("| | {} |", metrics.join(" | ")),
        format!("|---|{}", "---:|".repeat(metrics.len())),
    ];
    for subject in subjects {
        let value = |metric: &&str| {
            results
                .median(scenario, subject, metric)
                .map_or_else(String::new, number)
        };
        let values: Vec<_> = metrics.iter().map(value).collect();
        rows.push(format!("| {subject} | {} |", values.join(" | ")));
    }
    rows.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_subject_and_a_column_for_each_metric() {
        let mut results = Results::default();
        results.record("S4", "pgrelay", "lost", 0.0);
        results.record("S4", "pgrelay", "p99-ms", 0.5);
        results.record("S4", "Bun", "p99-ms", 1.5);
        assert_eq!(
            figures("S4", &results),
            "| | lost | p99-ms |\n|---|---:|---:|\n| pgrelay | 0 | 0.50 |\n| Bun |  | 1.50 |\n"
        );
    }

    #[test]
    fn every_bar_belongs_to_a_scenario() {
        for bar in BARS {
            assert!(
                Scenario::ALL
                    .iter()
                    .any(|scenario| scenario.name() == bar.scenario())
            );
        }
        let all = verdicts(&Scenario::ALL, false, &Results::default());
        assert_eq!(all.len(), BARS.len());
        assert!(verdicts(&Scenario::ALL, true, &Results::default()).len() < all.len());
    }
}
