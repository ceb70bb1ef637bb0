//! How the installation is.

use std::sync::Arc;

use strongroom_core::{ContextDigest, InstanceId, KeyId, Resource, RingId, action};
use strongroom_hsm::TokenDescription;

use super::{CallContext, CallError, Detail, Service};
use crate::{
    registry::{Position, StoredNode},
    timekeeper::TimeView,
};

/// The installation at one moment.
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// Where the store is.
    pub position: Position,
    /// The token, if the agent answers.
    pub token: Option<TokenDescription>,
    /// Records in the audit log.
    pub audit_records: u64,
    /// Fingerprint of the checkpoint-certifying key.
    pub certifier_fingerprint: String,
    /// The checkpoint anchored last, with its time in milliseconds since 1970.
    pub anchor: Option<(String, i64)>,
    /// The system ring.
    pub system_ring: RingId,
    /// The key that encrypts etcd.
    pub etcd_key: KeyId,
    /// Identities of nodes, by name.
    pub nodes: Vec<Arc<StoredNode>>,
    /// What time it is.
    pub time: TimeView,
}

impl Service {
    /// Describes the installation.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn describe_instance(
        &self,
        context: &CallContext,
    ) -> Result<InstanceView, CallError> {
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::DescribeInstance>(
                context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        let instance = self.registry.instance();
        let view = InstanceView {
            id: instance.id,
            position: self.registry.position(),
            token: self.hsm.describe().await.ok(),
            audit_records: self.trail.log().size(),
            certifier_fingerprint: self.certifier_fingerprint.clone(),
            anchor: self.registry.anchor(&self.replica),
            system_ring: instance.system_ring,
            etcd_key: instance.etcd_key,
            nodes: self.registry.nodes(&permit),
            time: self.time.view(),
        };
        self.conclude(context, &permit, Ok((view, Detail::new())))
            .await
    }
}
