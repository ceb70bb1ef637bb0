//! Bundles in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use strongroom_core::{Bundle, Name, RingId, Tenant};

/// A bundle with the change that wrote it.
#[derive(Clone, Debug)]
pub struct StoredBundle {
    /// The bundle.
    pub bundle: Bundle,
    /// `seq` of its last change.
    pub seq: u64,
}

/// All bundles.
#[derive(Default)]
pub(crate) struct Bundles {
    by_place: BTreeMap<(RingId, Name), Tenant>,
    by_name: HashMap<(Tenant, Name), Arc<StoredBundle>>,
}

impl Bundles {
    pub(crate) fn put(&mut self, tenant: Tenant, bundle: Bundle, seq: u64) {
        let place = (bundle.ring, bundle.name.clone());
        let name = (tenant.clone(), bundle.name.clone());
        self.by_place.insert(place, tenant);
        self.by_name
            .insert(name, Arc::new(StoredBundle { bundle, seq }));
    }

    /// Takes a deleted record over. What was moved to another ring in the same change stays.
    pub(crate) fn remove(&mut self, ring: RingId, name: Name) {
        let Some(tenant) = self.by_place.remove(&(ring, name.clone())) else {
            return;
        };
        let key = (tenant, name);
        if self
            .by_name
            .get(&key)
            .is_some_and(|it| it.bundle.ring == ring)
        {
            self.by_name.remove(&key);
        }
    }

    pub(crate) fn find(&self, tenant: &Tenant, name: &Name) -> Option<&Arc<StoredBundle>> {
        self.by_name.get(&(tenant.clone(), name.clone()))
    }
}
