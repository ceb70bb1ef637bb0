//! Secrets of namespaces, and the pods that follow them.

use std::sync::Arc;

use strongroom_core::{
    AccessBinding, ContextDigest, Name, Permit, Resource, RotationSchedule, SecretHead,
    SecretSource, SecretStage, action,
};

use super::{
    ATTEMPTS, Applied, ObjectRef, ObjectType, Operator, OperatorError, access, came_second,
    claimed, of_object, rebound,
};
use crate::{
    registry::{Change, Ring, SecretName, StoredSecret},
    service::{CallError, Consumed, NewSecretRequest, Service, when},
};

/// What a ManagedSecret wants.
#[derive(Clone, Debug)]
pub struct WantedSecret {
    /// The ring, of the same namespace.
    pub ring: Name,
    /// Where its values come from.
    pub source: SecretSource,
    /// Who may read it; none leaves that as it is.
    pub access: Option<Vec<AccessBinding>>,
    /// When new versions are made; none: by request only.
    pub rotation: Option<RotationSchedule>,
}

/// A secret and who follows it.
pub struct SecretView {
    /// Its head.
    pub stored: Arc<StoredSecret>,
    /// The volumes that follow it.
    pub consumed: Consumed,
}

impl Service {
    /// Makes a secret, or brings it to what is wanted.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn apply_secret(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedSecret,
    ) -> Result<Applied<SecretView>, CallError> {
        let name = SecretName {
            tenant: Some(object.owner.tenant.clone()),
            name: object.name.clone(),
        };
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            // Names are unique over all rings of the namespace: it may lie in another one than is wanted.
            outcome = match self.registry.find_secret_by_name(&name) {
                Some(found) => {
                    self.apply_found_secret(operator, object, wanted, found)
                        .await
                }
                None => self.make_secret(operator, object, wanted).await,
            };
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        let Applied {
            outcome,
            object: stored,
            rebound,
        } = outcome?;
        let current = stored.head.staged(SecretStage::Current);
        let current = current.map(|version| version.id);
        let consumed = self
            .workloads
            .consumers
            .count(&name, stored.head.created, current);
        Ok(Applied {
            outcome,
            object: SecretView { stored, consumed },
            rebound,
        })
    }

    async fn make_secret(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedSecret,
    ) -> Result<Applied<Arc<StoredSecret>>, CallError> {
        let ring = self.ring_of(&object.owner, &wanted.ring)?;
        let request = NewSecretRequest {
            ring: ring.id,
            name: object.name.clone(),
            source: wanted.source.clone(),
            access: wanted.access.clone().unwrap_or_default(),
            holder: Some(object.uid.clone()),
            rotation: wanted.rotation.clone(),
        };
        let made = self.create_secret(&operator.context, request).await?;
        Ok(Applied::created(made))
    }

    async fn apply_found_secret(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedSecret,
        found: Resource,
    ) -> Result<Applied<Arc<StoredSecret>>, CallError> {
        let asked = found.to_string();
        let permit = self
            .admit::<action::ApplySecret>(
                &operator.context,
                &asked,
                Some(found),
                ContextDigest::default(),
            )
            .await?;
        let outcome = self
            .apply_secret_with(&permit, operator, object, wanted)
            .await;
        self.conclude_change(&operator.context, &permit, outcome)
            .await
    }

    async fn apply_secret_with(
        &self,
        permit: &Permit<action::ApplySecret>,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedSecret,
    ) -> Result<Applied<Arc<StoredSecret>>, CallError> {
        let before = self.stored_secret(permit, None)?;
        let ring = self.registry.ring(permit);
        let ring = ring.ok_or_else(|| CallError::missing("ring of the secret"))?;
        let claim = claimed(&ring, before.head.holder.as_ref(), object)?;
        check_made_as(&before.head, &ring, object, wanted)?;
        let access = match &wanted.access {
            Some(bindings) => access(&object.owner, bindings.clone())?,
            None => before.head.access.clone(),
        };
        let after = SecretHead {
            holder: Some(object.uid.clone()),
            access,
            ..before.head.with_rotation(wanted.rotation.clone())?
        };
        let rebound = rebound(&after.access, &before.head.access);
        if after == before.head {
            return Ok(Applied::found(claim, false, before, rebound));
        }
        let mut detail = of_object(object, &after.access);
        detail.insert("rotation".to_owned(), when(after.rotation.as_ref()));
        let change = Change::default().secret_head(&after, before.seq);
        let committed = self
            .registry
            .commit(permit, change, &operator.context.origin, detail)
            .await?;
        let stored = StoredSecret {
            head: after,
            seq: committed.position.seq,
        };
        Ok(Applied::found(claim, true, Arc::new(stored), rebound))
    }
}

fn check_made_as(
    head: &SecretHead,
    ring: &Ring,
    object: &ObjectRef,
    wanted: &WantedSecret,
) -> Result<(), OperatorError> {
    let immutable = |field| OperatorError::ImmutableField {
        kind: ObjectType::ManagedSecret,
        object: object.to_string(),
        field,
    };
    if ring.name != wanted.ring {
        return Err(immutable("spec.keyRingRef"));
    }
    if head.source != wanted.source {
        return Err(immutable("spec.source"));
    }
    Ok(())
}
