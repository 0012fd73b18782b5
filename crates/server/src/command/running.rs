//! What the relay that runs says about itself: the figures that only it knows. Used by `pgrelay doctor`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use pgrelay_capture::{Finding, Verdict};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::config::{Serve, Values};

/// A relay that takes longer does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A longer answer is cut.
const BYTES_MAX: u64 = 1 << 20;

/// Figures by name, labels included.
#[derive(Debug, PartialEq)]
struct Figures(BTreeMap<String, f64>);

/// What the relay that these settings are for has met since it started.
pub(super) async fn findings(values: &Values) -> Vec<Finding> {
    let Ok(Serve {
        listen: address, ..
    }) = values.serve()
    else {
        return Vec::new();
    };
    let Some(figures) = ask(address).await else {
        let detail = format!("none answers at {address}");
        return vec![finding("relay", Verdict::Ok, detail, None)];
    };
    let dropped = figures.sum("pgrelay_relay_overflows_total");
    let told = figures.labels("pgrelay_relay_must_refetch_total");
    let unrung = figures.sum("pgrelay_capture_lost_wakeups_total");
    let found = figures.labels("pgrelay_capture_safety_finds_total");
    vec![
        match dropped > 0.0 {
            true => finding(
                "slow clients",
                Verdict::Warn,
                format!("{dropped} were closed because they did not keep up"),
                Some(
                    "they resume by themselves; raise PGRELAY_QUEUE_BYTES_MAX if it happens often",
                ),
            ),
            false => finding(
                "slow clients",
                Verdict::Ok,
                "none was closed".to_owned(),
                None,
            ),
        },
        match told.is_empty() {
            false => finding(
                "must_refetch",
                Verdict::Warn,
                format!("clients were told to fetch again: {told}"),
                Some("docs/failures.md says for each reason where it comes from"),
            ),
            true => finding(
                "must_refetch",
                Verdict::Ok,
                "nobody was told".to_owned(),
                None,
            ),
        },
        match unrung > 0.0 {
            true => finding(
                "bells",
                Verdict::Red,
                format!("{unrung} writers committed without ringing"),
                Some(
                    "look for a session that holds the doorbell's lock; changes come within the safety poll meanwhile",
                ),
            ),
            false if found.is_empty() => finding(
                "bells",
                Verdict::Ok,
                "the safety poll found nothing".to_owned(),
                None,
            ),
            false => finding(
                "bells",
                Verdict::Ok,
                format!("the safety poll found: {found}"),
                None,
            ),
        },
    ]
}

fn finding(name: &'static str, verdict: Verdict, detail: String, cure: Option<&str>) -> Finding {
    Finding {
        name,
        verdict,
        detail,
        cure: cure.map(ToOwned::to_owned),
    }
}

/// Asks the relay at `address`; `None` where none answers.
async fn ask(address: SocketAddr) -> Option<Figures> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream
            .take(BYTES_MAX)
            .read_to_string(&mut answer)
            .await
            .ok()?;
        Figures::parse(&answer)
    };
    timeout(ANSWER_MAX, asking).await.ok().flatten()
}

impl Figures {
    /// `None` where this is no answer of a relay.
    fn parse(answer: &str) -> Option<Self> {
        let figures: BTreeMap<String, f64> = answer
            .lines()
            .filter(|line| line.starts_with("pgrelay_"))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
            .collect();
        (!figures.is_empty()).then_some(Self(figures))
    }

    /// Of all labels together.
    fn sum(&self, name: &str) -> f64 {
        let of_name = |other: &str| {
            let rest = other.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let figures = self.0.iter().filter(|(other, _)| of_name(other));
        figures.map(|(_, value)| value).sum()
    }

    /// Each label with its value, where that is not 0: `hole 3, epoch 1`.
    fn labels(&self, name: &str) -> String {
        let label = |(other, value): (&String, &f64)| {
            let inside = other.strip_prefix(name)?.strip_prefix('{')?;
            let label = inside.split('"').nth(1)?;
            (*value > 0.0).then(|| format!("{label} {value}"))
        };
        let all: Vec<String> = self.0.iter().filter_map(label).collect();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_added_up() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# HELP pgrelay_x X\npgrelay_x_total{reason=\"hole\"} 3\n\
                      pgrelay_x_total{reason=\"epoch\"} 0\npgrelay_x_total{reason=\"schema\"} 1\npgrelay_y 0.5\n";
        let figures = Figures::parse(answer).unwrap();
        assert!((figures.sum("pgrelay_x_total") - 4.0).abs() < f64::EPSILON);
        assert!((figures.sum("pgrelay_y") - 0.5).abs() < f64::EPSILON);
        assert_eq!(figures.labels("pgrelay_x_total"), "hole 3, schema 1");
        assert_eq!(Figures::parse("HTTP/1.1 404 Not Found"), None);
    }
}
