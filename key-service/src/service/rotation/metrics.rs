//! What is counted of rotations that no administrator made.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use strongroom_runtime::metrics::Metrics;

const SCHEDULE: &str = "Schedule";
const REQUEST: &str = "Request";

/// Counters of rotations.
#[derive(Clone, Debug)]
pub struct RotationMetrics {
    made: IntCounterVec,
    failures: IntCounter,
    failing: IntGauge,
}

impl RotationMetrics {
    /// Registers them; each cause is there from the start.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            made: metrics.counters(
                "rotations_total",
                "Versions that a schedule or a request made.",
                "cause",
                &[SCHEDULE, REQUEST],
            ),
            failures: metrics.counter(
                "rotation_failures_total",
                "Scheduled rotations that failed and are tried again.",
            ),
            failing: metrics.gauge(
                "rotations_failing",
                "Keys and secrets that are due and could not be rotated when it was tried last.",
            ),
        }
    }

    pub(super) fn scheduled(&self) {
        self.made.with_label_values(&[SCHEDULE]).inc();
    }

    pub(super) fn requested(&self) {
        self.made.with_label_values(&[REQUEST]).inc();
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn failing(&self, count: usize) {
        self.failing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
