//! The control epoch: given to whoever asks as the operator; its Lease only decides who asks.

use strongroom_core::{ClusterControl, ContextDigest, Permit, ProcessId, Resource, Uid, action};

use super::{ATTEMPTS, Operator, OperatorError, came_second};
use crate::{
    registry::Change,
    service::{CallError, Service, detail},
};

impl Service {
    /// Gives the next control epoch of its cluster to a process of the operator. Whoever had one is refused from now on.
    ///
    /// # Errors
    /// The cluster is not the recorded one.
    pub async fn acquire_control_epoch(
        &self,
        operator: &Operator,
        process: ProcessId,
        cluster: &Uid,
    ) -> Result<u64, CallError> {
        let context = &operator.context;
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::AcquireControlEpoch>(
                context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            outcome = self.acquire(&permit, operator, process, cluster).await;
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        self.conclude_change(context, &permit, outcome).await
    }

    async fn acquire(
        &self,
        permit: &Permit<action::AcquireControlEpoch>,
        operator: &Operator,
        process: ProcessId,
        cluster: &Uid,
    ) -> Result<u64, CallError> {
        let name = &operator.identity.account.tenant.cluster;
        let pod = operator.identity.pod.uid.clone();
        let before = self.registry.cluster(name);
        let next = ClusterControl::acquired(before.as_deref(), cluster.clone(), pod, process);
        let next = next.map_err(OperatorError::Cluster)?;
        let detail = detail([
            ("cluster", format!("{name}#{cluster}")),
            ("controlEpoch", next.epoch.to_string()),
            ("process", process.to_string()),
        ]);
        let change = Change::default().cluster(name, &next, before);
        self.registry
            .commit(permit, change, &operator.context.origin, detail)
            .await?;
        Ok(next.epoch)
    }
}
