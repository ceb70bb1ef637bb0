//! What custom resources want, as the operator of their cluster says it: each object is made, or brought to what is wanted,
//! or found so. The operator sees names, states and counts; there is no call with which it opens anything.
//!
//! The cluster of every owner is that of the operator's token, and each change is refused that comes from a process which
//! has not the control epoch.

mod adopt;
mod bundles;
mod epoch;
mod error;
mod keys;
mod release;
mod rings;
mod rotation;
mod secrets;
mod watch;

use std::{fmt, sync::Arc};

pub use adopt::Adoption;
pub use bundles::{BundleView, WantedBundle};
pub use error::{ObjectType, OperatorError};
pub use keys::WantedKey;
pub use release::Released;
pub use rings::{RingView, WantedRing};
pub use rotation::RotationTarget;
pub use secrets::{SecretView, WantedSecret};
use strongroom_core::{
    Access, AccessBinding, Action, Claim, Name, ObjectName, PodIdentity, Resource, RingOwner, Uid,
    Unclaimed, UnixMillis, claim,
};
pub use watch::{ObjectWatch, WatchEnd};

use super::{CallContext, CallError, Service, Shown, WorkloadKind, detail};
use crate::{registry::Ring, trail::Origin};

/// How often a change is tried that somebody else's came before.
const ATTEMPTS: usize = 3;

/// The operator of a cluster, by its own token.
#[derive(Clone, Debug)]
pub struct Operator {
    identity: Arc<PodIdentity>,
    expires: UnixMillis,
    context: CallContext,
}

impl Operator {
    /// Who calls, for what the operator may do as others do.
    #[must_use]
    pub const fn context(&self) -> &CallContext {
        &self.context
    }

    /// A namespace of its cluster, whatever cluster the request thinks of.
    #[must_use]
    pub fn owner(&self, namespace: Name, namespace_uid: Uid) -> RingOwner {
        let mut tenant = self.identity.account.tenant.clone();
        tenant.namespace = namespace;
        RingOwner {
            tenant,
            namespace_uid,
        }
    }
}

/// A custom resource.
#[derive(Clone, Debug)]
pub struct ObjectRef {
    /// Its namespace.
    pub owner: RingOwner,
    /// Its name, which is the object's.
    pub name: Name,
    /// Its uid.
    pub uid: Uid,
}

/// The form in records: `NAMESPACE/NAME`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner.tenant.namespace, self.name)
    }
}

/// What was done so that an object is as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// Nothing.
    Unchanged,
    /// It was made.
    Created,
    /// It was changed.
    Updated,
    /// It was there, and no custom resource held it, or one that is no more.
    Adopted,
}

/// An object that is as wanted.
pub struct Applied<T> {
    /// What was done for that.
    pub outcome: ApplyOutcome,
    /// How it is.
    pub object: T,
    /// Accounts that are bound again under another uid.
    pub rebound: Vec<ObjectName>,
}

impl<T> Applied<T> {
    fn created(object: T) -> Self {
        Self {
            outcome: ApplyOutcome::Created,
            object,
            rebound: Vec::new(),
        }
    }

    fn found(claim: Claim, changed: bool, object: T, rebound: Vec<ObjectName>) -> Self {
        let outcome = match (claim, changed) {
            (Claim::Adopts, _) => ApplyOutcome::Adopted,
            (Claim::Holds, true) => ApplyOutcome::Updated,
            (Claim::Holds, false) => ApplyOutcome::Unchanged,
        };
        Self {
            outcome,
            object,
            rebound,
        }
    }
}

impl Service {
    /// Says which operator calls, and for a change that its process may make one.
    ///
    /// # Errors
    /// The account is no operator's, or another process has the control epoch.
    pub async fn operator<A: Action>(
        &self,
        shown: &Shown,
        origin: Origin,
    ) -> Result<Operator, CallError> {
        let fence = origin.fence;
        let context = CallContext {
            caller: shown.caller(),
            origin,
        };
        let error = if shown.kind != WorkloadKind::Operator {
            OperatorError::NotTheOperator(shown.identity.account.clone())
        } else if fence.is_some_and(|fence| !self.registry.admits(&shown.identity, fence)) {
            // Compared again in the transaction; this is for what changes nothing and for whoever begins in vain.
            OperatorError::StaleControlEpoch
        } else {
            return Ok(Operator {
                identity: shown.identity.clone(),
                expires: shown.expires,
                context,
            });
        };
        let error = CallError::Operator(Box::new(error));
        self.record_failure::<A>(&context, &Resource::Instance, &error)
            .await;
        Err(error)
    }

    /// The ring of that name in a namespace.
    fn ring_of(&self, owner: &RingOwner, name: &Name) -> Result<Arc<Ring>, OperatorError> {
        let not_found = || OperatorError::RingNotFound {
            namespace: owner.tenant.namespace.clone(),
            ring: name.clone(),
        };
        let ring = self.registry.find_ring_named(owner, name);
        let ring = ring.ok_or_else(not_found)?;
        if ring.owner.as_ref() == Some(owner) {
            return Ok(ring);
        }
        Err(former(owner, &ring))
    }
}

/// Whoever has the ring of an object has the object.
fn claimed(ring: &Ring, holder: Option<&Uid>, by: &ObjectRef) -> Result<Claim, CallError> {
    claim(ring.owner.as_ref(), holder, &by.owner, &by.uid).map_err(|error| match error {
        // Nothing of it is told, not even that it is there.
        Unclaimed::Foreign => CallError::NotFound,
        Unclaimed::FormerNamespace => former(&by.owner, ring).into(),
    })
}

fn former(owner: &RingOwner, ring: &Ring) -> OperatorError {
    OperatorError::OwnedByFormerNamespace {
        namespace: owner.tenant.namespace.clone(),
        namespace_uid: owner.namespace_uid.clone(),
        ring: ring.name.clone(),
    }
}

/// Whether somebody else's change came first, so that looking again helps.
const fn came_second(error: &CallError) -> bool {
    matches!(error, CallError::Stale | CallError::NameTaken(_))
}

/// Bindings on accounts of the owner's namespace.
fn access(owner: &RingOwner, bindings: Vec<AccessBinding>) -> Result<Arc<Access>, CallError> {
    Access::new(Some(owner.tenant.clone()), bindings)
        .map(Arc::new)
        .map_err(|error| CallError::Invalid(format!("access: {error}")))
}

/// Who is bound anew, to be told.
fn rebound(after: &Access, before: &Access) -> Vec<ObjectName> {
    after.rebound(before).into_iter().cloned().collect()
}

/// What the audit log says of a custom resource that is applied.
fn of_object(object: &ObjectRef, access: &Access) -> super::Detail {
    detail([
        ("object", format!("{object}#{}", object.uid)),
        ("access", super::grants(access)),
    ])
}
