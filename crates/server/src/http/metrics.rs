//! Figures of the HTTP edge.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// All of them; cheap to share. Labels take few values: nothing a client sends becomes one.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    upgrades: Family<StatusLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let http = registry.sub_registry_with_prefix("pgrelay_http");
        let help = "Answers to requests for a WebSocket, by HTTP status";
        http.register("upgrades", help, self.upgrades.clone());
    }

    /// Counts one answer to a request for a WebSocket.
    pub(super) fn count_upgrade(&self, status: u16) {
        self.upgrades.get_or_create(&StatusLabels { status }).inc();
    }
}
