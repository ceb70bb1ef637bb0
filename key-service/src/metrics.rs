//! What `/metrics` shows of the key service, and the watch that ends a process which can only get better by a restart.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use strongroom_runtime::metrics::Metrics;

use crate::service::Service;

/// How often gauges are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// The process can only be mended by a start, which reads what is really on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MustRestart {
    /// Nobody can tell what the store holds.
    #[error("the store was changed by somebody else or lost track")]
    StoreFenced,
    /// The audit log cannot be written.
    #[error("the audit log failed")]
    AuditFailed,
}

/// Gauges of the service.
struct Gauges {
    store_epoch: IntGauge,
    store_seq: IntGauge,
    audit_records: IntGauge,
    audit_used: IntGauge,
    audit_capacity: IntGauge,
    audit_reserve_held: IntGauge,
    audit_lost: IntGauge,
    locked_keys: IntGauge,
    locked_capacity: IntGauge,
    policy_errors: IntGauge,
    nodes_revoked: IntGauge,
    clock_jumped: IntGauge,
}

impl Gauges {
    fn register(metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help);
        // The high-water mark of the store lies nowhere but in the store and on the same disk as the token.
        gauge(
            "rollback_unprotected",
            "1 while store and token could be put back together unseen.",
        )
        .set(1);
        Self {
            store_epoch: gauge("store_epoch", "Counts restores of the store."),
            store_seq: gauge("store_seq", "Counts changes of the store."),
            audit_records: gauge("audit_records", "Records in the audit log."),
            audit_used: gauge("audit_used_bytes", "Space that audit records take."),
            audit_capacity: gauge("audit_capacity_bytes", "Space that audit records may take."),
            audit_reserve_held: gauge(
                "audit_reserve_held",
                "1 while the disk space for the API server is kept.",
            ),
            audit_lost: gauge(
                "audit_refusals_lost",
                "Refusals since the start for which the audit log had no space.",
            ),
            locked_keys: gauge("locked_memory_keys", "Keys in locked memory."),
            locked_capacity: gauge(
                "locked_memory_capacity_keys",
                "Keys that fit into locked memory.",
            ),
            policy_errors: gauge(
                "policy_errors",
                "Questions that no policy could answer, which were denied.",
            ),
            nodes_revoked: gauge(
                "nodes_revoked",
                "Nodes whose identity is revoked until they are enrolled anew.",
            ),
            clock_jumped: gauge(
                "clock_jumped",
                "1 while a jump of the machine's clock waits for its confirmation.",
            ),
        }
    }

    fn update(&self, service: &Service) {
        let position = service.registry.position();
        self.store_epoch.set(position.epoch.get().into());
        self.store_seq.set(clamp(position.seq));
        let usage = service.trail.log().usage();
        self.audit_records.set(clamp(service.trail.log().size()));
        self.audit_used.set(clamp(usage.used_bytes));
        self.audit_capacity.set(clamp(usage.capacity_bytes));
        self.audit_reserve_held.set(usage.reserve_held.into());
        self.audit_lost.set(clamp(service.trail.lost_refusals()));
        let memory = service.keyring.memory();
        self.locked_keys.set(clamp(memory.used as u64));
        self.locked_capacity.set(clamp(memory.capacity as u64));
        self.policy_errors.set(clamp(service.policy.errors()));
        let revoked = service.registry.count_revoked_nodes();
        self.nodes_revoked.set(clamp(revoked as u64));
        self.clock_jumped
            .set(service.time.view().jump.is_some().into());
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Updates gauges until the end, or until only a restart helps.
pub(crate) async fn watch(
    service: Arc<Service>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MustRestart> {
    tokio::pin!(shutdown);
    let gauges = Gauges::register(&metrics);
    loop {
        gauges.update(&service);
        if service.registry.is_fenced().await {
            return Err(MustRestart::StoreFenced);
        }
        if service.trail.has_failed() {
            return Err(MustRestart::AuditFailed);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}
