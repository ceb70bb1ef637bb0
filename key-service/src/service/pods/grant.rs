//! What the policy lets a pod read now. Nothing is opened here.

use std::sync::Arc;

use strongroom_core::{
    ContextDigest, Name, Permit, PodIdentity, SecretStage, VersionId, action, authorize,
};

use super::PodError;
use crate::{
    registry::{SecretName, StoredSecret},
    service::{CallError, Service, WorkloadKind},
};

/// One version of a secret that a pod may read now.
pub(super) struct Grant {
    pub(super) permit: Permit<action::ReadSecret>,
    pub(super) stored: Arc<StoredSecret>,
    pub(super) stage: SecretStage,
    pub(super) version: VersionId,
}

impl Service {
    /// Asks the policy for a secret as the pod.
    pub(super) fn grant(
        &self,
        pod: &Arc<PodIdentity>,
        secret: &Name,
        stage: SecretStage,
    ) -> Result<Grant, CallError> {
        // A volume of a pod that runs as the operator is no way around what the operator may not.
        let kind = self.workloads.kind(&pod.account);
        let caller = kind.caller(pod.clone());
        let tenant = &pod.account.tenant;
        let name = SecretName {
            tenant: Some(tenant.clone()),
            name: secret.clone(),
        };
        let resource = self.registry.find_secret_by_name(&name);
        let resource = resource.ok_or_else(|| {
            self.not_there(PodError::NoSecret {
                tenant: tenant.clone(),
                secret: secret.clone(),
            })
        })?;
        let permit = authorize(&self.policy, &caller, resource, ContextDigest::default());
        let permit = permit.map_err(|_| match kind {
            WorkloadKind::Pod => PodError::RoleMissing {
                account: pod.account.clone(),
                secret: secret.clone(),
            },
            WorkloadKind::Driver | WorkloadKind::Operator => {
                PodError::NotAReader(pod.account.clone())
            }
        })?;
        let stored = self.stored_secret(&permit, None)?;
        let version = stored.head.staged(stage).map(|version| version.id);
        let version = version.ok_or_else(|| PodError::AwaitingValue {
            tenant: tenant.clone(),
            secret: secret.clone(),
            stage,
        })?;
        Ok(Grant {
            permit,
            stored,
            stage,
            version,
        })
    }

    /// What to say of something that is not there: where the namespace has no ring, nothing in it can be.
    pub(super) fn not_there(&self, error: PodError) -> PodError {
        match error {
            PodError::NoSecret { tenant, .. } | PodError::NoBundle { tenant, .. }
                if !self.registry.has_ring(&tenant) =>
            {
                PodError::NoRing(tenant)
            }
            error => error,
        }
    }
}

impl Grant {
    /// Whether it is for that version of that secret.
    pub(super) fn is_for(&self, secret: &Name, stage: SecretStage) -> bool {
        self.stored.head.name == *secret && self.stage == stage
    }
}
