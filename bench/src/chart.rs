//! One picture: for each of some metrics a bar for every subject.

use std::fmt::Write as _;

use crate::{
    bar::{OURS, number},
    results::Results,
};

/// What is drawn: scenario, metric, heading.
const PANELS: [(&str, &str, &str); 6] = [
    (
        "S1",
        "KiB/client",
        "S1: KiB per idle joined client (less is better)",
    ),
    (
        "S3",
        "deliveries/s/core",
        "S3: deliveries a second and core, one at a time",
    ),
    (
        "S4",
        "p99-ms",
        "S4: p99 over 18,000 topics, ms (less is better)",
    ),
    (
        "S5",
        "deliveries/s/core",
        "S5: deliveries a second and core, hot topics",
    ),
    (
        "S6",
        "p99-ms",
        "S6: commit to client p99, ms (less is better)",
    ),
    (
        "S7",
        "64-writers-commits/s",
        "S7: commits a second of 64 writers",
    ),
];

const WIDTH: f64 = 720.0;
const LABEL: f64 = 150.0;
const BARS: f64 = 460.0;
const ROW: f64 = 20.0;

/// The chart as an SVG document.
pub(crate) fn svg(results: &Results) -> String {
    let (mut body, mut y) = (String::new(), 0.0);
    for (scenario, metric, heading) in PANELS {
        let figures = results
            .of(scenario)
            .filter(|figure| figure.metric == metric);
        let bars: Vec<_> = figures
            .filter_map(|figure| {
                Some((
                    figure.subject,
                    results.median(scenario, figure.subject, metric)?,
                ))
            })
            .collect();
        let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        y += 1.5 * ROW;
        // Writing to a string does not fail.
        let _ = writeln!(
            body,
            r#"<text x="4" y="{y}" font-weight="bold">{heading}</text>"#
        );
        for (subject, value) in bars {
            y += ROW;
            let colour = if subject == OURS {
                "#1f6feb"
            } else {
                "#9aa4b2"
            };
            let (top, length) = (y - 13.0, (BARS * value / most).max(1.0));
            let _ = writeln!(
                body,
                r#"<text x="{x}" y="{y}" text-anchor="end">{subject}</text><rect x="{LABEL}" y="{top}" width="{length:.1}" height="16" fill="{colour}"/><text x="{end:.1}" y="{y}">{value}</text>"#,
                x = LABEL - 6.0,
                end = LABEL + length + 4.0,
                value = number(value),
            );
        }
    }
    let height = y + ROW;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_value() {
        let mut results = Results::default();
        results.record("S4", "pgrelay", "p99-ms", 1.0);
        results.record("S4", "ws", "p99-ms", 4.0);
        let svg = svg(&results);
        assert!(
            svg.contains(r#"width="460.0""#) && svg.contains(r#"width="115.0""#),
            "{svg}"
        );
        assert!(svg.contains("S4:") && !svg.contains("S3:"));
    }
}
