//! Figures of the capture side.

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
    pub(crate) live: Gauge,
    pub(crate) leader: Gauge,
    pub(crate) armed: Gauge,
    pub(crate) batch_id: Gauge,
    pub(crate) unsequenced_ms: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) floor_batch: Gauge,
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
        let mut counter =
            |name: &str, help: &str, metric: &Counter| capture.register(name, help, metric.clone());
        counter("steps", "Looks into the change log", &self.steps);
        counter("batches", "Batches handed to the relay", &self.batches);
        counter("rows", "Changes handed to the relay", &self.rows);
        counter(
            "rings",
            "Times a writer rang the doorbell of a sleeping relay",
            &self.rings,
        );
        counter("arms", "Times the relay went to sleep", &self.arms);
        counter(
            "lost_wakeups",
            "Batches found by the safety poll that nobody rang for; must stay 0",
            &self.lost_wakeups,
        );
        counter(
            "collisions",
            "Times another sequencer was first",
            &self.collisions,
        );
        counter(
            "reconnects",
            "Times the direct connection was lost",
            &self.reconnects,
        );
        counter(
            "epochs",
            "Times the history could not be continued",
            &self.epochs,
        );
        counter(
            "holes",
            "Marks of missing changes handed to the relay",
            &self.holes,
        );
        counter(
            "replays",
            "Parts of the log read for clients that were away",
            &self.replays,
        );
        counter(
            "evaluations",
            "Filter evaluations done by PostgreSQL",
            &self.evaluations,
        );
        counter(
            "evaluation_failures",
            "Filter evaluations that failed",
            &self.evaluation_failures,
        );
        let mut gauge =
            |name: &str, help: &str, metric: &Gauge| capture.register(name, help, metric.clone());
        gauge("live", "1 while changes are followed", &self.live);
        gauge(
            "leader",
            "1 while this relay holds the sequencer's lease",
            &self.leader,
        );
        gauge(
            "armed",
            "1 while the relay sleeps and writers ring",
            &self.armed,
        );
        gauge(
            "batch_id",
            "The last batch handed to the relay",
            &self.batch_id,
        );
        gauge(
            "ledger_lag_ms",
            "Age of the oldest batch that this relay has not handed on",
            &self.unsequenced_ms,
        );
        gauge(
            "log_bytes",
            "Size of change log and ledger",
            &self.log_bytes,
        );
        gauge(
            "floor_batch",
            "Batches up to this one may be gone from the log",
            &self.floor_batch,
        );
        capture.register(
            "safety_finds",
            "Batches found by the safety poll, by cause",
            self.safety_finds.clone(),
        );
    }
}
