//! What every figure is held to, and the verdicts.

use crate::results::Results;

/// Ourselves, in the results.
pub(crate) const OURS: &str = "pgrelay";
/// Not peers: ourselves, and what nobody can undercut.
const NO_PEERS: [&str; 5] = [OURS, "floor", "no trigger", "NOTIFY per commit", "idle"];

/// From figures to the value that is judged.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// Our own figure.
    Plain,
    /// Ours as a share of this subject's.
    Against(&'static str),
    /// Ours as a share of the best peer's, this one left out; lower is better.
    AgainstLowestBut(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// One bar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    scenario: &'static str,
    metric: &'static str,
    value: Value,
    better: Better,
    /// To pass.
    bar: f64,
    /// To be proud.
    goal: f64,
    /// Only the full run has what it takes.
    is_full_only: bool,
}

/// A bar, judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// `<scenario> <metric> <value> bar <bar> goal <goal> ok|short`
    pub(crate) line: String,
    pub(crate) is_ok: bool,
}

const fn plain(
    scenario: &'static str,
    metric: &'static str,
    better: Better,
    bar: f64,
    goal: f64,
) -> Bar {
    Bar {
        scenario,
        metric,
        value: Value::Plain,
        better,
        bar,
        goal,
        is_full_only: false,
    }
}

const fn against(bar: Bar, subject: &'static str) -> Bar {
    Bar {
        value: Value::Against(subject),
        ..bar
    }
}

const fn against_peers_but(bar: Bar, subject: &'static str) -> Bar {
    Bar {
        value: Value::AgainstLowestBut(subject),
        is_full_only: true,
        ..bar
    }
}

const fn full_only(bar: Bar) -> Bar {
    Bar {
        is_full_only: true,
        ..bar
    }
}

use Better::{Higher, Lower};

/// Every bar, in the order of the scenarios. The first of each scenario is loss, where there can be any.
pub(crate) const BARS: [Bar; 35] = [
    plain("S1", "KiB/client", Lower, 6.0, 2.0),
    against_peers_but(plain("S1", "KiB/client", Lower, 1.0, 1.0), "Bun"),
    plain("S2", "joins/s/core", Higher, 5_000.0, 20_000.0),
    plain("S3", "lost", Lower, 0.0, 0.0),
    against(
        plain("S3", "deliveries/s/core", Higher, 0.70, 0.95),
        "floor",
    ),
    against(plain("S3", "deliveries/s/core", Higher, 0.85, 1.1), "Bun"),
    plain("S4", "lost", Lower, 0.0, 0.0),
    plain("S4", "p99-ms", Lower, 3.0, 1.0),
    against_peers_but(plain("S4", "p99-ms", Lower, 1.0, 1.0), ""),
    plain("S5", "lost", Lower, 0.0, 0.0),
    plain("S5", "deliveries/s/core", Higher, 1e6, 3e6),
    against(plain("S5", "deliveries/s/core", Higher, 1.0, 1.5), "Bun"),
    plain("S6", "lost", Lower, 0.0, 0.0),
    plain("S6", "p50-ms", Lower, 1.0, 0.3),
    plain("S6", "p99-ms", Lower, 3.0, 1.5),
    plain("S6", "after-silence-ms", Lower, 5.0, 2.0),
    against(
        plain("S7", "16-writers-commits/s", Higher, 0.65, 0.85),
        "no trigger",
    ),
    against(
        plain("S7", "64-writers-commits/s", Higher, 0.55, 0.85),
        "no trigger",
    ),
    against(
        plain("S7", "64-writers-commits/s", Higher, 4.0, 5.0),
        "NOTIFY per commit",
    ),
    plain("S8", "lost", Lower, 0.0, 0.0),
    against(plain("S8", "100k-seconds", Lower, 3.0, 1.5), "no trigger"),
    full_only(against(
        plain("S8", "1M-seconds", Lower, 3.0, 1.5),
        "no trigger",
    )),
    plain("S8", "100k-growth-MiB", Lower, 64.0, 32.0),
    full_only(plain("S8", "1M-growth-MiB", Lower, 64.0, 32.0)),
    plain("S8", "100k-rows/s", Higher, 100_000.0, 300_000.0),
    full_only(plain("S8", "1M-rows/s", Higher, 100_000.0, 300_000.0)),
    against(plain("S8", "others-p99-ms", Lower, 5.0, 2.0), "idle"),
    plain("S10", "lost", Lower, 0.0, 0.0),
    against(plain("S10", "p99-ms", Lower, 1.2, 1.1), "idle"),
    plain("S10", "MiB/stalled", Lower, 1.25, 0.25),
    plain("S11", "lost", Lower, 0.0, 0.0),
    plain("S11", "changes/s", Higher, 1_000.0, 3_000.0),
    plain("S12", "delivered-%", Higher, 100.0, 100.0),
    plain("S12", "duplicated", Lower, 0.0, 0.0),
    plain("S12", "replay-p95-ms", Lower, 200.0, 50.0),
];

impl Bar {
    pub(crate) fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// Whether a run of this kind can judge it.
    pub(crate) fn is_judged(&self, quick: bool) -> bool {
        !(quick && self.is_full_only)
    }

    pub(crate) fn judge(&self, results: &Results) -> Verdict {
        let value = self.measured(results);
        let is_ok = value.is_some_and(|value| match self.better {
            Higher => value >= self.bar,
            Lower => value <= self.bar,
        });
        let metric = match self.value {
            Value::Plain => String::from(self.metric),
            Value::Against(subject) => format!("{}/{}", self.metric, subject.replace(' ', "-")),
            Value::AgainstLowestBut(_) => format!("{}/best-peer", self.metric),
        };
        let line = format!(
            "{} {metric} {} bar {} goal {} {}",
            self.scenario,
            value.map_or_else(|| "-".into(), number),
            number(self.bar),
            number(self.goal),
            if is_ok { "ok" } else { "short" },
        );
        Verdict { line, is_ok }
    }

    fn measured(&self, results: &Results) -> Option<f64> {
        let ours = results.median(self.scenario, OURS, self.metric)?;
        let other = match self.value {
            Value::Plain => return Some(ours),
            Value::Against(subject) => results.median(self.scenario, subject, self.metric)?,
            Value::AgainstLowestBut(left_out) => results
                .of(self.scenario)
                .filter(|figure| figure.metric == self.metric && figure.subject != left_out)
                .filter(|figure| !NO_PEERS.contains(&figure.subject))
                .filter_map(|figure| results.median(self.scenario, figure.subject, self.metric))
                .min_by(f64::total_cmp)?,
        };
        Some(ours / other)
    }
}

/// With as many digits as are worth reading.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(bar: &Bar, figures: &[(&'static str, f64)]) -> String {
        let mut results = Results::default();
        for (subject, value) in figures {
            results.record(bar.scenario, subject, bar.metric, *value);
        }
        bar.judge(&results).line
    }

    #[test]
    fn a_verdict_compares_with_the_bar_in_its_direction() {
        let memory = plain("S1", "KiB/client", Lower, 6.0, 2.0);
        assert_eq!(
            judged(&memory, &[(OURS, 5.25)]),
            "S1 KiB/client 5.25 bar 6 goal 2 ok"
        );
        assert_eq!(
            judged(&memory, &[(OURS, 6.1)]),
            "S1 KiB/client 6.10 bar 6 goal 2 short"
        );
        let rate = plain("S2", "joins/s/core", Higher, 5_000.0, 20_000.0);
        assert_eq!(
            judged(&rate, &[(OURS, 4999.6)]),
            "S2 joins/s/core 5000 bar 5000 goal 20000 short"
        );
        assert_eq!(
            judged(&rate, &[(OURS, 12_345.6)]),
            "S2 joins/s/core 12346 bar 5000 goal 20000 ok"
        );
    }

    #[test]
    fn what_was_not_measured_is_short() {
        let memory = plain("S1", "KiB/client", Lower, 6.0, 2.0);
        assert_eq!(
            judged(&memory, &[("Bun", 1.0)]),
            "S1 KiB/client - bar 6 goal 2 short"
        );
        let ratio = against(memory, "floor");
        assert_eq!(
            judged(&ratio, &[(OURS, 1.0)]),
            "S1 KiB/client/floor - bar 6 goal 2 short"
        );
    }

    #[test]
    fn ratios_are_ours_by_theirs() {
        let writers = against(plain("S7", "commits/s", Higher, 0.65, 0.85), "no trigger");
        let line = judged(&writers, &[(OURS, 700.0), ("no trigger", 1_000.0)]);
        assert_eq!(line, "S7 commits/s/no-trigger 0.70 bar 0.65 goal 0.85 ok");
        let peers = against_peers_but(plain("S1", "KiB/client", Lower, 1.0, 1.0), "Bun");
        let line = judged(
            &peers,
            &[
                (OURS, 4.0),
                ("Bun", 1.0),
                ("floor", 0.1),
                ("ws", 8.0),
                ("NATS", 16.0),
            ],
        );
        assert_eq!(line, "S1 KiB/client/best-peer 0.50 bar 1 goal 1 ok");
    }
}
