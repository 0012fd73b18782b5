//! What a relay counts, for Prometheus.

use std::sync::atomic::AtomicU64;

use pgrelay_protocol::RefetchReason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::engine::Tally;

/// Counters of all shards together. Cheap to share; written once per turn of a shard.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) sockets: Gauge,
    pub(crate) streams: Gauge,
    channels: Gauge,
    bindings: Gauge,
    deliveries: Counter<u64, AtomicU64>,
    delivered_bytes: Counter<u64, AtomicU64>,
    broadcasts: Counter<u64, AtomicU64>,
    broadcast_bytes: Counter<u64, AtomicU64>,
    encoded: Counter<u64, AtomicU64>,
    pub(crate) overflows: Counter<u64, AtomicU64>,
    refetches: Family<Reason, Counter<u64, AtomicU64>>,
    replays: Counter<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// In the order of their numbers in a [`Tally`].
const REASONS: [RefetchReason; 6] = [
    RefetchReason::Retention,
    RefetchReason::Epoch,
    RefetchReason::Forged,
    RefetchReason::Schema,
    RefetchReason::Hole,
    RefetchReason::Authorization,
];

impl Metrics {
    /// Names every metric in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pgrelay_relay");
        registry.register("sockets", "Open WebSockets", self.sockets.clone());
        registry.register("streams", "Open event streams", self.streams.clone());
        registry.register("channels", "Joined channels", self.channels.clone());
        registry.register(
            "bindings",
            "Bindings of channels and streams",
            self.bindings.clone(),
        );
        registry.register(
            "deliveries",
            "Changes handed to clients",
            self.deliveries.clone(),
        );
        registry.register(
            "delivered_bytes",
            "Bytes of those changes",
            self.delivered_bytes.clone(),
        );
        registry.register(
            "encoded",
            "Distinct texts among what was handed to clients",
            self.encoded.clone(),
        );
        registry.register(
            "broadcasts",
            "Broadcasts and presence messages handed to clients",
            self.broadcasts.clone(),
        );
        registry.register(
            "broadcast_bytes",
            "Bytes of those messages",
            self.broadcast_bytes.clone(),
        );
        registry.register(
            "overflows",
            "Clients closed because they did not keep up",
            self.overflows.clone(),
        );
        registry.register(
            "must_refetch",
            "Times a client was told to fetch again",
            self.refetches.clone(),
        );
        registry.register("replays", "Scans of past changes", self.replays.clone());
    }

    /// Adds what one engine counted.
    pub(crate) fn add(&self, tally: &Tally) {
        if tally.deliveries > 0 {
            self.deliveries.inc_by(tally.deliveries);
            self.delivered_bytes.inc_by(tally.delivered_bytes);
        }
        if tally.broadcasts > 0 {
            self.broadcasts.inc_by(tally.broadcasts);
            self.broadcast_bytes.inc_by(tally.broadcast_bytes);
        }
        if tally.encoded > 0 {
            self.encoded.inc_by(tally.encoded);
        }
        if tally.channels != 0 {
            self.channels.inc_by(tally.channels);
        }
        if tally.bindings != 0 {
            self.bindings.inc_by(tally.bindings);
        }
        if tally.replays > 0 {
            self.replays.inc_by(tally.replays);
        }
        for (reason, count) in REASONS
            .iter()
            .zip(tally.refetches)
            .filter(|(_, count)| *count > 0)
        {
            self.refetches
                .get_or_create(&Reason {
                    reason: reason.as_str(),
                })
                .inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_their_numbers() {
        let numbers: Vec<_> = REASONS.iter().map(|reason| *reason as usize).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn every_metric_is_named() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.add(&Tally {
            deliveries: 2,
            refetches: [0, 0, 0, 0, 3, 0],
            channels: -1,
            ..Tally::default()
        });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "pgrelay_relay_deliveries_total 2",
            "pgrelay_relay_must_refetch_total{reason=\"hole\"} 3",
            "pgrelay_relay_channels -1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
