//! Rings of namespaces: found by their owner and name, and changed by custom resources and by adoption.

use std::sync::Arc;

use strongroom_core::{Action, KeyId, Name, Permit, RingId, RingOwner, Tenant, Uid};

use super::{
    Change, ChangeError, Registry, Ring, codec, path,
    state::{State, StoredHead},
};

/// What a change takes for granted about a ring that is there: nobody changed it since it was read.
#[derive(Debug, Default)]
pub(crate) struct RingExpectation(Option<Arc<Ring>>);

impl Registry {
    /// Finds the ring of that name that a namespace owns; else one that a namespace of the same name, which is no more, has
    /// left. What it is to whoever asks is decided by `strongroom_core::claim`.
    pub fn find_ring_named(&self, by: &RingOwner, name: &Name) -> Option<Arc<Ring>> {
        let state = self.state();
        let named = |ring: &&Arc<Ring>| ring.name == *name && ring.tenant() == Some(&by.tenant);
        let mut found: Vec<_> = state.rings.values().filter(named).collect();
        // Several former ones can have left a ring of that name: the newest is what is meant.
        found.sort_by_key(|ring| (ring.owner.as_ref() == Some(by), ring.created));
        found.last().map(|ring| Arc::clone(ring))
    }

    /// Whether a namespace of that name has a ring, or had one.
    pub fn has_ring(&self, tenant: &Tenant) -> bool {
        let state = self.state();
        let mut rings = state.rings.values();
        rings.any(|ring| ring.tenant() == Some(tenant))
    }

    /// The record of a ring, to compare its owner.
    pub(crate) fn ring_record(&self, ring: RingId) -> Option<Arc<Ring>> {
        self.state().rings.get(&ring).cloned()
    }

    /// The key of that name in the rings of a namespace that a custom resource holds.
    pub fn find_held_key(
        &self,
        by: &RingOwner,
        name: &Name,
        holder: &Uid,
    ) -> Option<(RingId, KeyId)> {
        let state = self.state();
        let rings = state.rings.values();
        let mut own = rings.filter(|ring| ring.owner.as_ref() == Some(by));
        own.find_map(|ring| {
            let key: KeyId = *state.names.get(&(ring.id, name.clone()))?;
            let stored: &StoredHead = state.heads.get(&(ring.id, key))?;
            (stored.head.holder.as_ref() == Some(holder)).then_some((ring.id, key))
        })
    }

    /// How many keys and secrets lie in the ring of what the permit is for.
    pub fn count_members<A: Action>(&self, permit: &Permit<A>) -> (usize, usize) {
        let Some(ring) = permit.resource().ring() else {
            return (0, 0);
        };
        let state = self.state();
        let first = (ring, KeyId::from_bytes([0; 16]));
        let last = (ring, KeyId::from_bytes([0xff; 16]));
        let keys = state.heads.range(first..=last).count();
        (keys, state.secrets.of_ring(ring, None).count())
    }
}

impl Change {
    /// Another record for a ring; refused when the stored one is no longer `before`.
    #[must_use]
    pub fn ring_record(mut self, ring: &Ring, before: Arc<Ring>) -> Self {
        self.ring = RingExpectation(Some(before));
        self.put(path::ring(ring.id), &codec::encode_ring(ring))
    }

    /// The same for a ring that gets another owner; refused when the new one has a ring of that name.
    #[must_use]
    pub fn moved_ring(mut self, ring: &Ring, before: Arc<Ring>) -> Self {
        self.new_ring_name = Some((ring.owner.clone(), ring.name.clone()));
        self.ring_record(ring, before)
    }
}

impl RingExpectation {
    pub(crate) fn check(&self, state: &State) -> Result<(), ChangeError> {
        let Some(before) = &self.0 else {
            return Ok(());
        };
        // Each change of a ring makes another one in memory.
        let stored = state.rings.get(&before.id);
        if stored.is_some_and(|stored| Arc::ptr_eq(stored, before)) {
            Ok(())
        } else {
            Err(ChangeError::Stale)
        }
    }
}
