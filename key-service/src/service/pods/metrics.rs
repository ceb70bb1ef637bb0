//! What is counted of those who show tokens: refused tokens by reason, and open streams.

use prometheus::{IntCounterVec, IntGauge};
use strongroom_runtime::metrics::Metrics;

use super::PodError;

/// Counters of workloads.
#[derive(Clone, Debug)]
pub struct PodsMetrics {
    refused: IntCounterVec,
    pub(super) streams: IntGauge,
}

impl PodsMetrics {
    /// Registers them; each reason is there from the start.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            refused: metrics.counters(
                "tokens_refused_total",
                "Tokens of service accounts that were not accepted.",
                "reason",
                &PodError::TOKEN_REASONS,
            ),
            streams: metrics.gauge("watch_streams", "Streams of CSI drivers that are open."),
        }
    }

    pub(super) fn refused(&self, error: &PodError) {
        self.refused.with_label_values(&[error.reason()]).inc();
    }
}
