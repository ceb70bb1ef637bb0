//! Keys of namespaces.

use std::sync::Arc;

use strongroom_core::{
    AccessBinding, Algorithm, KeyHead, Name, Permit, Purpose, RotationSchedule, action,
};

use super::{
    ATTEMPTS, Applied, ObjectRef, ObjectType, Operator, OperatorError, access, came_second,
    claimed, of_object, rebound,
};
use crate::{
    registry::{Change, KeyLocator, Ring, StoredHead},
    service::{CallError, NewKeyRequest, Service, when},
};

/// What a CryptoKey wants.
#[derive(Clone, Debug)]
pub struct WantedKey {
    /// The ring, of the same namespace.
    pub ring: Name,
    /// What it is for.
    pub purpose: Purpose,
    /// How it does it.
    pub algorithm: Algorithm,
    /// Who may use it; none leaves that as it is.
    pub access: Option<Vec<AccessBinding>>,
    /// When new versions are made; none: by request only.
    pub rotation: Option<RotationSchedule>,
}

impl Service {
    /// Makes a key, or brings it to what is wanted.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn apply_key(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedKey,
    ) -> Result<Applied<Arc<StoredHead>>, CallError> {
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            let ring = self.ring_of(&object.owner, &wanted.ring)?;
            let key = KeyLocator::Name(object.name.clone());
            outcome = if self.registry.find_key(ring.id, &key).is_some() {
                self.apply_found_key(operator, object, wanted, &ring).await
            } else {
                self.make_key(operator, object, wanted, &ring).await
            };
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        outcome
    }

    async fn make_key(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedKey,
        ring: &Ring,
    ) -> Result<Applied<Arc<StoredHead>>, CallError> {
        let request = NewKeyRequest {
            ring: ring.id,
            name: object.name.clone(),
            purpose: wanted.purpose,
            algorithm: wanted.algorithm,
            access: wanted.access.clone().unwrap_or_default(),
            holder: Some(object.uid.clone()),
            rotation: wanted.rotation.clone(),
        };
        let made = self.create_key(&operator.context, request).await?;
        Ok(Applied::created(made))
    }

    async fn apply_found_key(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedKey,
        ring: &Ring,
    ) -> Result<Applied<Arc<StoredHead>>, CallError> {
        let key = KeyLocator::Name(object.name.clone());
        let permit = self
            .admit_key::<action::ApplyKey>(&operator.context, ring.id, &key)
            .await?;
        let outcome = self
            .apply_key_with(&permit, operator, object, wanted, ring)
            .await;
        self.conclude_change(&operator.context, &permit, outcome)
            .await
    }

    async fn apply_key_with(
        &self,
        permit: &Permit<action::ApplyKey>,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedKey,
        ring: &Ring,
    ) -> Result<Applied<Arc<StoredHead>>, CallError> {
        let before = self.stored(permit)?;
        let claim = claimed(ring, before.head.holder.as_ref(), object)?;
        check_made_as(&before.head, object, wanted)?;
        let access = match &wanted.access {
            Some(bindings) => access(&object.owner, bindings.clone())?,
            None => before.head.access.clone(),
        };
        let after = KeyHead {
            holder: Some(object.uid.clone()),
            access,
            ..before.head.with_rotation(wanted.rotation.clone())
        };
        let rebound = rebound(&after.access, &before.head.access);
        if after == before.head {
            return Ok(Applied::found(claim, false, before, rebound));
        }
        let mut detail = of_object(object, &after.access);
        detail.insert("rotation".to_owned(), when(after.rotation.as_ref()));
        let change = Change::default().head(&after, before.seq);
        let committed = self
            .registry
            .commit(permit, change, &operator.context.origin, detail)
            .await?;
        let stored = StoredHead {
            head: after,
            seq: committed.position.seq,
        };
        Ok(Applied::found(claim, true, Arc::new(stored), rebound))
    }
}

fn check_made_as(
    head: &KeyHead,
    object: &ObjectRef,
    wanted: &WantedKey,
) -> Result<(), OperatorError> {
    let immutable = |field| OperatorError::ImmutableField {
        kind: ObjectType::CryptoKey,
        object: object.to_string(),
        field,
    };
    if head.purpose != wanted.purpose {
        return Err(immutable("spec.purpose"));
    }
    if head.algorithm != wanted.algorithm {
        return Err(immutable("spec.algorithm"));
    }
    Ok(())
}
