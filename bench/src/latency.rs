//! Times, all of them kept.

use anyhow::Result;
use hdrhistogram::Histogram;

/// Up to a minute, to three digits.
const MAX: u64 = 60_000_000_000;

/// Latencies in nanoseconds.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MAX, 3)?))
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share (0 to 1) did not exceed, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
    pub(crate) fn milliseconds(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_percentiles_of_all_that_was_recorded() {
        let mut latency = Latency::new().unwrap();
        for millisecond in 1..=1_000 {
            latency.record(millisecond * 1_000_000);
        }
        latency.record(u64::MAX);
        assert_eq!(latency.count(), 1_001);
        for (share, expected) in [(0.5, 501.0), (0.99, 991.0), (1.0, 60_000.0)] {
            let told = latency.milliseconds(share);
            assert!(
                (told - expected).abs() <= expected / 500.0,
                "{share}: {told}"
            );
        }
    }
}
