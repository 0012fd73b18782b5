//! What was measured: every value of every run, and medians of them.

use serde_json::{Value, json};

/// The values of one metric of one subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// As in `S4`.
    pub(crate) scenario: &'static str,
    pub(crate) subject: &'static str,
    /// With its unit.
    pub(crate) metric: &'static str,
    /// One for each round.
    pub(crate) values: Vec<f64>,
}

/// All figures, in the order in which they were first recorded.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<Figure>);

impl Results {
    pub(crate) fn record(
        &mut self,
        scenario: &'static str,
        subject: &'static str,
        metric: &'static str,
        value: f64,
    ) {
        let same = |figure: &&mut Figure| {
            (figure.scenario, figure.subject, figure.metric) == (scenario, subject, metric)
        };
        match self.0.iter_mut().find(same) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure {
                scenario,
                subject,
                metric,
                values: vec![value],
            }),
        }
    }

    pub(crate) fn median(&self, scenario: &str, subject: &str, metric: &str) -> Option<f64> {
        let figure = self
            .of(scenario)
            .find(|figure| figure.subject == subject && figure.metric == metric)?;
        median(&figure.values)
    }

    /// The figures of a scenario.
    pub(crate) fn of(&self, scenario: &str) -> impl Iterator<Item = &Figure> {
        self.0
            .iter()
            .filter(move |figure| figure.scenario == scenario)
    }

    pub(crate) fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "scenario": figure.scenario,
                "subject": figure.subject,
                "metric": figure.metric,
                "values": figure.values,
            })
        };
        self.0.iter().map(figure).collect()
    }
}

/// The middle value, or the mean of the two; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        Some(*upper)
    } else {
        Some(f64::midpoint(sorted[middle - 1], *upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 9.0, 2.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn values_of_rounds_come_together() {
        let mut results = Results::default();
        for value in [1.0, 5.0, 3.0] {
            results.record("S4", "pgrelay", "p99 ms", value);
            results.record("S4", "Bun", "p99 ms", value * 10.0);
        }
        assert_eq!(results.median("S4", "Bun", "p99 ms"), Some(30.0));
        assert_eq!(results.median("S4", "ws", "p99 ms"), None);
        assert_eq!(results.of("S4").count(), 2);
    }
}
