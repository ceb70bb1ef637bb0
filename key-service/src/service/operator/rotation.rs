//! One rotation, because a custom resource asks for it.

use strongroom_core::{HandledRequest, Name, Resource, RingOwner};

use super::{Operator, former};
use crate::{
    registry::{KeyLocator, SecretName},
    service::{CallError, RotationRequest, Service},
};

/// What is to be rotated, in the namespace that asks.
#[derive(Clone, Debug)]
pub enum RotationTarget {
    /// A key.
    Key {
        /// Its ring.
        ring: Name,
        /// Its name.
        key: Name,
    },
    /// A secret, in whichever ring.
    Secret(Name),
}

impl Service {
    /// Rotates once for a request, whenever and however often it is made.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn request_rotation(
        &self,
        operator: &Operator,
        owner: &RingOwner,
        target: &RotationTarget,
        request: &RotationRequest,
    ) -> Result<HandledRequest, CallError> {
        let context = &operator.context;
        match target {
            RotationTarget::Key { ring, key } => {
                let ring = self.ring_of(owner, ring)?.id;
                let asked = format!("key/{ring}/name:{key}");
                let key = KeyLocator::Name(key.clone());
                let found = self.registry.find_key(ring, &key);
                self.rotate_key_for(context, &asked, found, request).await
            }
            RotationTarget::Secret(secret) => {
                let asked = format!("secrets/{}/name:{secret}", owner.tenant);
                let found = self.secret_of(owner, secret)?;
                self.rotate_secret_for(context, &asked, found, request)
                    .await
            }
        }
    }

    /// The secret of that name, if the namespace owns it and not one of that name which is no more.
    fn secret_of(&self, owner: &RingOwner, secret: &Name) -> Result<Option<Resource>, CallError> {
        let name = SecretName {
            tenant: Some(owner.tenant.clone()),
            name: secret.clone(),
        };
        let found = self.registry.find_secret_by_name(&name);
        let ring = found.as_ref().and_then(Resource::ring);
        match ring.and_then(|ring| self.registry.ring_record(ring)) {
            Some(ring) if ring.owner.as_ref() != Some(owner) => Err(former(owner, &ring).into()),
            _ => Ok(found),
        }
    }
}
