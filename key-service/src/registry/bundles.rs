//! Bundles: found by the namespace and the name that pods use. They hold no value, so that reading one needs no permit: what
//! it names is asked for as the pod.

mod codec;
mod index;

use std::sync::Arc;

use strongroom_core::{Bundle, Name, RingId, Tenant};

pub(super) use codec::decode;
pub(super) use index::Bundles;
pub use index::StoredBundle;

use super::{Change, ChangeError, Registry, Ring, path, state::State};

/// What a change takes for granted about a bundle.
#[derive(Debug, Default)]
pub(crate) struct BundleExpectation(Option<Expected>);

#[derive(Debug)]
struct Expected {
    tenant: Tenant,
    name: Name,
    seq: Option<u64>,
}

impl Registry {
    /// Finds a bundle of a namespace and the ring under which it is kept, which says whose it is.
    pub fn find_bundle(
        &self,
        tenant: &Tenant,
        name: &Name,
    ) -> Option<(Arc<StoredBundle>, Arc<Ring>)> {
        let state = self.state();
        let stored = state.bundles.find(tenant, name)?;
        let ring = state.rings.get(&stored.bundle.ring)?;
        Some((stored.clone(), ring.clone()))
    }

    /// The bundle of a namespace.
    pub fn bundle(&self, tenant: &Tenant, name: &Name) -> Option<Arc<StoredBundle>> {
        self.state().bundles.find(tenant, name).cloned()
    }
}

impl Change {
    /// A bundle of a namespace; refused when what is stored is not, or no longer, `before`, which it replaces.
    #[must_use]
    pub fn bundle(self, tenant: &Tenant, bundle: &Bundle, before: Option<&StoredBundle>) -> Self {
        let mut change = self.expect_bundle(tenant, &bundle.name, before);
        if let Some(before) = before.filter(|before| before.bundle.ring != bundle.ring) {
            change = change.delete_bundle(before.bundle.ring, &bundle.name);
        }
        change.put(
            path::bundle(bundle.ring, &bundle.name),
            &codec::encode(bundle),
        )
    }

    /// Deletes a bundle of a namespace; refused when it was changed since it was read.
    #[must_use]
    pub fn without_bundle(self, tenant: &Tenant, before: &StoredBundle) -> Self {
        let (ring, name) = (before.bundle.ring, &before.bundle.name);
        self.expect_bundle(tenant, name, Some(before))
            .delete_bundle(ring, name)
    }

    fn expect_bundle(
        mut self,
        tenant: &Tenant,
        name: &Name,
        before: Option<&StoredBundle>,
    ) -> Self {
        self.bundle = BundleExpectation(Some(Expected {
            tenant: tenant.clone(),
            name: name.clone(),
            seq: before.map(|before| before.seq),
        }));
        self
    }

    fn delete_bundle(mut self, ring: RingId, name: &Name) -> Self {
        self.deletes
            .push(path::bundle(ring, name).as_str().to_owned());
        self
    }
}

impl BundleExpectation {
    pub(crate) fn check(&self, state: &State) -> Result<(), ChangeError> {
        let Some(Expected { tenant, name, seq }) = &self.0 else {
            return Ok(());
        };
        let stored = state.bundles.find(tenant, name).map(|stored| stored.seq);
        if stored == *seq {
            Ok(())
        } else {
            Err(ChangeError::Stale)
        }
    }
}
