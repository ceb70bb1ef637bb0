//! Letting go: the object is kept, nothing is destroyed, and a custom resource of its name takes it up again.

use strongroom_core::{ContextDigest, KeyHead, Permit, Resource, SecretHead, action};

use super::{ATTEMPTS, ObjectRef, ObjectType, Operator, came_second};
use crate::{
    registry::{Change, KeyLocator, Ring, SecretName},
    service::{CallError, Service, detail},
};

/// What became of an object, in a sentence; empty when there was nothing to let go of.
pub type Released = String;

impl Service {
    /// Lets go of what a custom resource holds. Of a bundle, which holds no value, nothing is kept.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn release(
        &self,
        operator: &Operator,
        kind: ObjectType,
        object: &ObjectRef,
    ) -> Result<Released, CallError> {
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            outcome = match kind {
                ObjectType::KeyRing => self.release_ring(operator, object).await,
                ObjectType::CryptoKey => self.release_key(operator, object).await,
                ObjectType::ManagedSecret => self.release_secret(operator, object).await,
                ObjectType::SecretBundle => self.release_bundle(operator, object).await,
            };
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        outcome
    }

    async fn release_ring(
        &self,
        operator: &Operator,
        object: &ObjectRef,
    ) -> Result<Released, CallError> {
        let found = self.registry.find_ring_named(&object.owner, &object.name);
        let held = |ring: &Ring| {
            ring.owner.as_ref() == Some(&object.owner) && ring.holder.as_ref() == Some(&object.uid)
        };
        let Some(before) = found.filter(|ring| held(ring)) else {
            return Ok(String::new());
        };
        let resource = Resource::Ring(before.reference());
        let permit = self.admit_release(operator, resource).await?;
        let (keys, secrets) = self.registry.count_members(&permit);
        let after = Ring {
            holder: None,
            ..Ring::clone(&before)
        };
        let kept = format!(
            "with {keys} keys and {secrets} secrets, as ring {}",
            after.id
        );
        let change = Change::default().ring_record(&after, before);
        self.let_go(
            &permit,
            operator,
            object,
            ObjectType::KeyRing,
            change,
            &kept,
        )
        .await
    }

    async fn release_key(
        &self,
        operator: &Operator,
        object: &ObjectRef,
    ) -> Result<Released, CallError> {
        let found = self
            .registry
            .find_held_key(&object.owner, &object.name, &object.uid);
        let resource =
            found.and_then(|(ring, key)| self.registry.find_key(ring, &KeyLocator::Id(key)));
        let Some(resource) = resource else {
            return Ok(String::new());
        };
        let permit = self.admit_release(operator, resource).await?;
        let before = self.stored(&permit)?;
        let after = KeyHead {
            holder: None,
            rotation: None,
            ..before.head.clone()
        };
        let kept = format!(
            "with {} versions, as key {}",
            after.versions.len(),
            after.id
        );
        let change = Change::default().head(&after, before.seq);
        self.let_go(
            &permit,
            operator,
            object,
            ObjectType::CryptoKey,
            change,
            &kept,
        )
        .await
    }

    async fn release_secret(
        &self,
        operator: &Operator,
        object: &ObjectRef,
    ) -> Result<Released, CallError> {
        let name = SecretName {
            tenant: Some(object.owner.tenant.clone()),
            name: object.name.clone(),
        };
        let Some(resource) = self.registry.find_secret_by_name(&name) else {
            return Ok(String::new());
        };
        let permit = self.admit_release(operator, resource).await?;
        let before = self.stored_secret(&permit, None)?;
        let ring = self.registry.ring(&permit);
        let owned = ring.is_some_and(|ring| ring.owner.as_ref() == Some(&object.owner));
        if !owned || before.head.holder.as_ref() != Some(&object.uid) {
            return Ok(String::new());
        }
        let after = SecretHead {
            holder: None,
            rotation: None,
            ..before.head.clone()
        };
        let kept = format!("with its values and its access, as secret {}", after.id);
        let change = Change::default().secret_head(&after, before.seq);
        self.let_go(
            &permit,
            operator,
            object,
            ObjectType::ManagedSecret,
            change,
            &kept,
        )
        .await
    }

    pub(super) async fn admit_release(
        &self,
        operator: &Operator,
        resource: Resource,
    ) -> Result<Permit<action::ReleaseObject>, CallError> {
        let asked = resource.to_string();
        let digest = ContextDigest::default();
        self.admit(&operator.context, &asked, Some(resource), digest)
            .await
    }

    async fn let_go(
        &self,
        permit: &Permit<action::ReleaseObject>,
        operator: &Operator,
        object: &ObjectRef,
        kind: ObjectType,
        change: Change,
        kept: &str,
    ) -> Result<Released, CallError> {
        let context = &operator.context;
        let detail = detail([("object", format!("{object}#{}", object.uid))]);
        let committed = self
            .registry
            .commit(permit, change, &context.origin, detail)
            .await;
        let outcome = committed.map(drop).map_err(CallError::from);
        self.conclude_change(context, permit, outcome).await?;
        Ok(format!(
            "{kind} {object} is kept {kept}; a {kind} of this name in this namespace takes it up again"
        ))
    }
}
