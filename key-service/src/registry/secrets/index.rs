//! Heads of secrets in memory. Values are not here: they are read from the store when they are asked for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use strongroom_core::{Name, RingId, SecretHead, SecretId, Tenant};

use crate::registry::state::StoredHead;

/// The head of a secret with the change that wrote it.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// The head.
    pub head: SecretHead,
    /// `seq` of its last change.
    pub seq: u64,
}

/// A secret as its readers name it: by the owner of its ring and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretName {
    /// The namespace; none for secrets of the installation itself.
    pub tenant: Option<Tenant>,
    /// The name in it.
    pub name: Name,
}

pub(super) fn name(head: &SecretHead) -> SecretName {
    SecretName {
        tenant: head.access.tenant().cloned(),
        name: head.name.clone(),
    }
}

/// All secrets.
#[derive(Default)]
pub(crate) struct Secrets {
    heads: BTreeMap<(RingId, SecretId), Arc<StoredSecret>>,
    names: HashMap<SecretName, (RingId, SecretId)>,
    /// The key of each ring that has secrets. It is in no list of keys, so that no caller can name it.
    keys: HashMap<RingId, Arc<StoredHead>>,
}

impl Secrets {
    pub(crate) fn put(&mut self, head: SecretHead, seq: u64) {
        let place = (head.ring, head.id);
        self.names.insert(name(&head), place);
        self.heads
            .insert(place, Arc::new(StoredSecret { head, seq }));
    }

    pub(crate) fn put_key(&mut self, stored: StoredHead) {
        self.keys.insert(stored.head.ring, Arc::new(stored));
    }

    pub(crate) fn head(&self, ring: RingId, secret: SecretId) -> Option<&Arc<StoredSecret>> {
        self.heads.get(&(ring, secret))
    }

    pub(super) fn find(&self, name: &SecretName) -> Option<&Arc<StoredSecret>> {
        self.heads.get(self.names.get(name)?)
    }

    pub(super) fn key(&self, ring: RingId) -> Option<&Arc<StoredHead>> {
        self.keys.get(&ring)
    }

    /// The heads of a ring in the order of their ids, after `after`.
    pub(crate) fn of_ring(
        &self,
        ring: RingId,
        after: Option<SecretId>,
    ) -> impl Iterator<Item = &Arc<StoredSecret>> {
        let first = (ring, SecretId::from_bytes([0; 16]));
        let last = (ring, SecretId::from_bytes([0xff; 16]));
        let of_ring = self.heads.range(first..=last);
        let following =
            of_ring.filter(move |((_, secret), _)| after.is_none_or(|after| *secret > after));
        following.map(|(_, stored)| stored)
    }
}
