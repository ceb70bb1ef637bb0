//! What the policy lets a pod read now, and the etag of it. Nothing is opened here.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use strongroom_core::{
    Caller, ContextDigest, Name, Permit, PodIdentity, SecretSource, SecretStage, VersionId, action,
    authorize,
};
use strongroom_crypto::Subject;

use super::PodError;
use crate::{
    registry::{SecretName, StoredSecret},
    service::{CallError, Service},
};

/// Permission bits of a file that says nothing of its own.
const MODE: u32 = 0o440;

/// One secret that a pod may read now.
pub(super) struct Grant {
    pub(super) permit: Permit<action::ReadSecret>,
    pub(super) stored: Arc<StoredSecret>,
    pub(super) version: VersionId,
}

/// A secret of the pod's namespace that is not given, and why.
pub(super) struct Refused {
    pub(super) secret: Name,
    pub(super) error: Box<CallError>,
}

impl Service {
    /// Asks the policy for each secret as the pod.
    pub(super) fn grant(
        &self,
        pod: &Arc<PodIdentity>,
        secrets: &BTreeSet<Name>,
    ) -> Result<Vec<Grant>, Refused> {
        let caller = Caller::Pod(pod.clone());
        let grant = |secret: &Name| {
            let granted = self.grant_one(&caller, pod, secret);
            granted.map_err(|error| Refused {
                secret: secret.clone(),
                error: Box::new(error),
            })
        };
        secrets.iter().map(grant).collect()
    }

    fn grant_one(
        &self,
        caller: &Caller,
        pod: &PodIdentity,
        secret: &Name,
    ) -> Result<Grant, CallError> {
        let tenant = &pod.account.tenant;
        let name = SecretName {
            tenant: Some(tenant.clone()),
            name: secret.clone(),
        };
        let missing = || PodError::NoSecret {
            tenant: tenant.clone(),
            secret: secret.clone(),
        };
        let resource = self.registry.find_secret_by_name(&name);
        let resource = resource.ok_or_else(missing)?;
        let permit = authorize(&self.policy, caller, resource, ContextDigest::default());
        let permit = permit.map_err(|_| PodError::RoleMissing {
            account: pod.account.clone(),
            secret: secret.clone(),
        })?;
        let stored = self.stored_secret(&permit, None)?;
        let current = stored.head.staged(SecretStage::Current);
        let version = current.map(|version| version.id);
        let version = version.ok_or_else(|| PodError::AwaitingValue {
            tenant: tenant.clone(),
            secret: secret.clone(),
        })?;
        Ok(Grant {
            permit,
            stored,
            version,
        })
    }

    /// Changes whenever a file, its mode or its owner does. It is keyed and made of ids, so that it tells nothing of values.
    pub(super) fn etag(&self, grants: &[Grant]) -> String {
        let mut list = String::new();
        for grant in grants {
            let head = &grant.stored.head;
            for path in grant.paths() {
                // No part has a space or the end of a line in it; the owner is left to the node.
                writeln!(list, "{} {} {path} {MODE:o} -:-", head.id, grant.version)
                    .expect("a String takes everything");
            }
        }
        hex::encode(self.digests.digest(Subject::Volume, list.as_bytes()))
    }
}

impl Grant {
    /// The paths of the secret's files, `SECRET/FIELD`.
    fn paths(&self) -> Vec<String> {
        let head = &self.stored.head;
        let path = |field: &dyn std::fmt::Display| format!("{}/{field}", head.name);
        match &head.source {
            SecretSource::Generate(fields) => fields.iter().map(|it| path(&it.name)).collect(),
            SecretSource::Manual(names) => names.iter().map(|name| path(name)).collect(),
        }
    }
}
