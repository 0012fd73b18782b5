//! Figures of the capture side.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// All of them; cheap to share.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) steps: Counter,
    pub(crate) batches: Counter,
    pub(crate) rows: Counter,
    pub(crate) messages: Counter,
    pub(crate) rings: Counter,
    pub(crate) arms: Counter,
    pub(crate) safety_finds: Family<FindLabels, Counter>,
    pub(crate) lost_wakeups: Counter,
    pub(crate) collisions: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) epochs: Counter,
    pub(crate) holes: Counter,
    pub(crate) replays: Counter,
    pub(crate) evaluations: Counter,
    pub(crate) evaluation_failures: Counter,
    pub(crate) looks: Counter,
    pub(crate) look_failures: Counter,
    pub(crate) live: Gauge,
    pub(crate) leader: Gauge,
    pub(crate) armed: Gauge,
    pub(crate) batch_id: Gauge,
    pub(crate) ledger_lag: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) floor_batch: Gauge,
    pub(crate) log_full: Gauge,
    pub(crate) holes_pending: Gauge,
    pub(crate) lock_waits: Gauge,
    pub(crate) queue_usage: Gauge<f64, AtomicU64>,
}

/// Label of `safety_finds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FindLabels {
    pub(crate) cause: Cause,
}

/// Why the safety poll found rows before a bell was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Cause {
    BellInTheAir,
    Hole,
    LostWakeUp,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let capture = registry.sub_registry_with_prefix("pgrelay_capture");
        for (name, help, counter) in self.counters() {
            capture.register(name, help, counter.clone());
        }
        for (name, help, gauge) in self.gauges() {
            capture.register(name, help, gauge.clone());
        }
        let help = "Batches found by the safety poll before a bell was heard, by cause";
        capture.register("safety_finds", help, self.safety_finds.clone());
        let help = "Share of PostgreSQL's room for notifications that is taken";
        capture.register("queue_usage", help, self.queue_usage.clone());
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 16] {
        [
            ("steps", "Looks into the change log", &self.steps),
            ("batches", "Batches handed to the relay", &self.batches),
            ("rows", "Changes handed to the relay", &self.rows),
            (
                "messages",
                "Stored messages handed to the relay",
                &self.messages,
            ),
            ("rings", "Bells heard while asleep", &self.rings),
            ("arms", "Times the relay went to sleep", &self.arms),
            (
                "lost_wakeups",
                "Finds nobody rang for; must stay 0",
                &self.lost_wakeups,
            ),
            (
                "collisions",
                "Times another sequencer was first",
                &self.collisions,
            ),
            (
                "reconnects",
                "Times the direct connection was lost",
                &self.reconnects,
            ),
            ("epochs", "Times the history broke off", &self.epochs),
            ("holes", "Marks of missing changes told", &self.holes),
            (
                "replays",
                "Parts of the log read for replays",
                &self.replays,
            ),
            (
                "evaluations",
                "Filter evaluations by PostgreSQL",
                &self.evaluations,
            ),
            (
                "evaluation_failures",
                "Those that failed",
                &self.evaluation_failures,
            ),
            (
                "looks",
                "Questions about what subscribers may see",
                &self.looks,
            ),
            (
                "look_failures",
                "Subscribers about whom one had no answer",
                &self.look_failures,
            ),
        ]
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 10] {
        [
            ("live", "1 while changes are followed", &self.live),
            ("leader", "1 while this relay sequences", &self.leader),
            ("armed", "1 while writers ring for this relay", &self.armed),
            (
                "batch_id",
                "The last batch handed to the relay",
                &self.batch_id,
            ),
            (
                "ledger_lag",
                "Batches not handed to the relay yet",
                &self.ledger_lag,
            ),
            ("log_bytes", "Size of the change log", &self.log_bytes),
            (
                "floor_batch",
                "Batches up to here may be gone",
                &self.floor_batch,
            ),
            (
                "log_full",
                "1 while changes are counted instead of logged",
                &self.log_full,
            ),
            (
                "holes_pending",
                "Changes that could not be logged and are not told yet",
                &self.holes_pending,
            ),
            (
                "lock_waits",
                "Sessions that wait for a lock on the change log",
                &self.lock_waits,
            ),
        ]
    }
}
