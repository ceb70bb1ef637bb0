//! Rings of namespaces.

use std::sync::Arc;

use strongroom_core::{AccessBinding, ContextDigest, Permit, Resource, action};

use super::{
    ATTEMPTS, Applied, ObjectRef, Operator, access, came_second, claimed, of_object, rebound,
};
use crate::{
    registry::{Change, Ring},
    service::{CallError, NewRingRequest, Service},
};

/// What a KeyRing wants.
#[derive(Clone, Debug)]
pub struct WantedRing {
    /// Who has a role on everything in it; none leaves that as it is.
    pub access: Option<Vec<AccessBinding>>,
}

/// A ring with what lies in it.
pub struct RingView {
    /// The ring.
    pub ring: Arc<Ring>,
    /// How many keys are in it.
    pub keys: usize,
    /// How many secrets are in it.
    pub secrets: usize,
}

impl Service {
    /// Makes a ring, or brings it to what is wanted.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn apply_ring(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedRing,
    ) -> Result<Applied<RingView>, CallError> {
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            outcome = match self.registry.find_ring_named(&object.owner, &object.name) {
                Some(found) => self.apply_found_ring(operator, object, wanted, found).await,
                None => self.make_ring(operator, object, wanted).await,
            };
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        outcome
    }

    async fn make_ring(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedRing,
    ) -> Result<Applied<RingView>, CallError> {
        let request = NewRingRequest {
            name: object.name.clone(),
            owner: Some(object.owner.clone()),
            access: wanted.access.clone().unwrap_or_default(),
            holder: Some(object.uid.clone()),
        };
        let ring = self.create_ring(&operator.context, request).await?;
        Ok(Applied::created(RingView {
            ring,
            keys: 0,
            secrets: 0,
        }))
    }

    async fn apply_found_ring(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedRing,
        found: Arc<Ring>,
    ) -> Result<Applied<RingView>, CallError> {
        let resource = Resource::Ring(found.reference());
        let permit = self
            .admit::<action::ApplyKeyRing>(
                &operator.context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        let outcome = self
            .apply_ring_with(&permit, operator, object, wanted)
            .await;
        self.conclude_change(&operator.context, &permit, outcome)
            .await
    }

    async fn apply_ring_with(
        &self,
        permit: &Permit<action::ApplyKeyRing>,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedRing,
    ) -> Result<Applied<RingView>, CallError> {
        let before = self.registry.ring(permit);
        let before = before.ok_or_else(|| CallError::missing("ring"))?;
        let claim = claimed(&before, before.holder.as_ref(), object)?;
        let access = match &wanted.access {
            Some(bindings) => access(&object.owner, bindings.clone())?,
            None => before.access.clone(),
        };
        let after = Ring {
            holder: Some(object.uid.clone()),
            access,
            ..Ring::clone(&before)
        };
        let changed = after.holder != before.holder || after.access != before.access;
        if changed {
            let detail = of_object(object, &after.access);
            let change = Change::default().ring_record(&after, before.clone());
            self.registry
                .commit(permit, change, &operator.context.origin, detail)
                .await?;
        }
        let (keys, secrets) = self.registry.count_members(permit);
        let rebound = rebound(&after.access, &before.access);
        let view = RingView {
            ring: Arc::new(after),
            keys,
            secrets,
        };
        Ok(Applied::found(claim, changed, view, rebound))
    }
}
