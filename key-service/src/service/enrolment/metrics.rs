//! What is counted of nodes: refusals by reason, and revocations, which are alarms.

use prometheus::{IntCounter, IntCounterVec};
use strongroom_runtime::metrics::Metrics;

use super::CredentialError;

/// Counters of enrolment.
#[derive(Clone, Debug)]
pub struct EnrolmentMetrics {
    refused: IntCounterVec,
    revocations: IntCounter,
}

impl EnrolmentMetrics {
    /// Registers them; each reason is there from the start.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            refused: metrics.counters(
                "node_credentials_refused_total",
                "Secrets and certificates of nodes that were not accepted.",
                "reason",
                &CredentialError::ALL.map(CredentialError::reason),
            ),
            revocations: metrics.counter(
                "node_revocations_total",
                "Identities that were revoked because there is a copy of a key: an alarm.",
            ),
        }
    }

    pub(crate) fn refused(&self, error: CredentialError) {
        self.refused.with_label_values(&[error.reason()]).inc();
    }

    pub(super) fn revoked(&self) {
        self.revocations.inc();
    }
}
