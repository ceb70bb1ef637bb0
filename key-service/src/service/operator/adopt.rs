//! Adoption: a namespace that was made again gets a ring of the former one, because an administrator says so.
//!
//! Keys and secrets belong to whom their ring does, so that one record moves all of them. Bindings stay as they are: the
//! accounts of the former namespace are no more, and the new ones are bound when custom resources name them.

use std::sync::Arc;

use strongroom_core::{
    ContextDigest, Name, Permit, Resource, RingOwner, Tenant, Uid, action, check_adoption,
};

use crate::{
    registry::{Change, Ring},
    service::{CallContext, CallError, Reason, Service, detail},
};

/// A ring that is to be given to a namespace.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The ring's name.
    pub name: Name,
    /// The cluster; none where only one has left such a ring.
    pub cluster: Option<Name>,
    /// The namespace.
    pub namespace: Name,
    /// Its uid, as it is now.
    pub namespace_uid: Uid,
    /// Why; it is in the audit log.
    pub reason: Reason,
}

impl Service {
    /// Gives a ring to a namespace that was made again.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn adopt_ring(
        &self,
        context: &CallContext,
        adoption: &Adoption,
    ) -> Result<Arc<Ring>, CallError> {
        let found = self.left_by_others(adoption);
        let asked = format!("ring/{}/name:{}", adoption.namespace, adoption.name);
        let resource = match found.as_slice() {
            [one] => Some(Resource::Ring(one.reference())),
            _ => None,
        };
        let permit = self
            .admit::<action::AdoptKeyRing>(context, &asked, resource, ContextDigest::default())
            .await?;
        let outcome = self.adopt_with(&permit, context, adoption).await;
        self.conclude_change(context, &permit, outcome).await
    }

    /// The rings that can be meant: of each cluster that has one, the one that its namespace would be told of.
    fn left_by_others(&self, adoption: &Adoption) -> Vec<Arc<Ring>> {
        let clusters = self.workloads.clusters.iter();
        let asked = |cluster: &&Name| adoption.cluster.as_ref().is_none_or(|it| it == *cluster);
        let found = clusters.filter(asked).filter_map(|cluster| {
            let owner = adoption.owner(cluster.clone());
            self.registry.find_ring_named(&owner, &adoption.name)
        });
        found.collect()
    }

    async fn adopt_with(
        &self,
        permit: &Permit<action::AdoptKeyRing>,
        context: &CallContext,
        adoption: &Adoption,
    ) -> Result<Arc<Ring>, CallError> {
        let before = self.registry.ring(permit);
        let before = before.ok_or_else(|| CallError::missing("ring"))?;
        let cluster = before.tenant().map(|tenant| tenant.cluster.clone());
        let to = adoption.owner(cluster.ok_or(CallError::NotFound)?);
        check_adoption(before.owner.as_ref(), &to).map_err(CallError::Adoption)?;
        let from = before.owner.as_ref().map(RingOwner::to_string);
        let after = Ring {
            owner: Some(to.clone()),
            holder: None,
            ..Ring::clone(&before)
        };
        let detail = detail([
            ("name", after.name.to_string()),
            ("from", from.unwrap_or_default()),
            ("to", to.to_string()),
            ("reason", adoption.reason.as_str().to_owned()),
        ]);
        let change = Change::default().moved_ring(&after, before);
        self.registry
            .commit(permit, change, &context.origin, detail)
            .await?;
        Ok(Arc::new(after))
    }
}

impl Adoption {
    fn owner(&self, cluster: Name) -> RingOwner {
        RingOwner {
            tenant: Tenant {
                cluster,
                namespace: self.namespace.clone(),
            },
            namespace_uid: self.namespace_uid.clone(),
        }
    }
}
