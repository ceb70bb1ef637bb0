//! The only caller of the store: typed records, permits in every signature, one change at a time.
//!
//! Reads are look-ups in memory. A change is one transaction that also raises `seq`, replaces the root and leaves its
//! audit record in the outbox; it is answered only after the audit log has that record.

mod access;
mod bundles;
mod change;
mod clusters;
mod codec;
mod due;
mod feed;
mod integrity;
mod nodes;
mod open;
mod path;
mod records;
mod rings;
mod rotation;
mod secrets;
mod state;
mod time;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub use bundles::StoredBundle;
pub use change::{Change, ChangeError, Committed};
pub use codec::DecodeError;
pub(crate) use due::{Due, Rotating};
pub use feed::{Changed, ObjectKind};
pub use integrity::{IntegrityError, Position};
pub use open::{OpenError, Peek, StoreLook, VerifiedStore, create, look};
pub use records::{Instance, Intermediate, Ring, RingOwner, WrappedVersion};
pub use secrets::{
    OpeningAction, SealedError, SealingAction, SecretAction, SecretLocator, SecretName,
    StoredSecret,
};
pub use state::{ReadError, StoredHead, StoredNode};
use strongroom_core::{
    Action, Generation, KeyId, Name, Permit, Resource, RingId, RingKind, RingRef, VersionId, action,
};
use strongroom_hsm::SignedKekRecord;
use strongroom_store::{Revision, Store};
use tokio::sync::{Mutex, broadcast};

use self::{integrity::Ledger, state::State};
use crate::{fence::Fence, trail::Trail};

/// The records of one instance.
pub struct Registry {
    store: Arc<dyn Store>,
    trail: Arc<Trail>,
    state: RwLock<State>,
    position: RwLock<Position>,
    writer: Mutex<Writer>,
    changes: broadcast::Sender<Changed>,
    fence: Fence,
}

/// What only the one change in progress may touch.
struct Writer {
    ledger: Ledger,
    root_revision: Revision,
    /// Set when nobody can tell what the store holds; nothing is written any more.
    fenced: bool,
}

/// The name or the id of a key, as callers give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocator {
    /// Its id.
    Id(KeyId),
    /// Its name in the ring.
    Name(Name),
}

impl Registry {
    /// Finds a ring, to ask the policy about it. Tells nothing else about it.
    pub fn find_ring(&self, ring: RingId) -> Option<RingRef> {
        self.state().rings.get(&ring).map(|ring| ring.reference())
    }

    /// Finds a key, to ask the policy about it. Tells nothing else about it.
    pub fn find_key(&self, ring: RingId, locator: &KeyLocator) -> Option<Resource> {
        let state = self.state();
        let key = match locator {
            KeyLocator::Id(key) => *key,
            KeyLocator::Name(name) => *state.names.get(&(ring, name.clone()))?,
        };
        state.key_resource(ring, key)
    }

    /// The name of a key, for whoever may know of it.
    pub(crate) fn key_name(&self, ring: RingId, key: KeyId) -> Option<Name> {
        let state = self.state();
        Some(state.heads.get(&(ring, key))?.head.name.clone())
    }

    /// The key that encrypts etcd, to ask the policy about it.
    pub fn etcd_key(&self) -> Resource {
        let state = self.state();
        let (id, key) = (state.instance.system_ring, state.instance.etcd_key);
        let none = || RingRef {
            id,
            kind: RingKind::System,
            access: Arc::default(),
        };
        let ring = state
            .rings
            .get(&id)
            .map_or_else(none, |ring| ring.reference());
        Resource::Key {
            ring,
            key,
            access: Arc::default(),
        }
    }

    /// The instance. Its id and certificates are public.
    pub fn instance(&self) -> Arc<Instance> {
        self.state().instance.clone()
    }

    /// Where the store is.
    pub fn position(&self) -> Position {
        self.position
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What refuses changes while it is closed.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Whether changes are refused because nobody can tell what the store holds.
    pub async fn is_fenced(&self) -> bool {
        self.writer.lock().await.fenced
    }

    /// The head of the key that the permit is for.
    pub fn head<A: KeyAction>(&self, permit: &Permit<A>) -> Option<Arc<StoredHead>> {
        let (ring, key) = permit.key()?;
        self.state().heads.get(&(ring, key)).cloned()
    }

    /// The heads of the ring that the permit is for, in the order of their ids, after `after`.
    pub fn heads(
        &self,
        permit: &Permit<action::ListKeys>,
        after: Option<KeyId>,
        limit: usize,
    ) -> Vec<Arc<StoredHead>> {
        let Some(ring) = permit.resource().ring() else {
            return Vec::new();
        };
        let state = self.state();
        let of_ring = state.heads.iter().filter(|((of, _), _)| *of == ring);
        let following = of_ring.filter(|((_, key), _)| after.is_none_or(|after| *key > after));
        following
            .take(limit)
            .map(|(_, head)| head.clone())
            .collect()
    }

    /// All rings in the order of their ids, after `after`.
    pub fn rings(
        &self,
        _: &Permit<action::ListKeyRings>,
        after: Option<RingId>,
        limit: usize,
    ) -> Vec<Arc<Ring>> {
        let state = self.state();
        let following = state
            .rings
            .values()
            .filter(|ring| after.is_none_or(|after| ring.id > after));
        following.take(limit).cloned().collect()
    }

    /// The wrapped material of one version of the key that the permit is for, with the record of the KEK that wraps it.
    pub fn material<A: KeyAction>(
        &self,
        permit: &Permit<A>,
        version: VersionId,
    ) -> Option<StoredMaterial> {
        let (ring, key) = permit.key()?;
        self.state().stored_material(ring, key, version)
    }

    /// The KEK record under which new material of a ring is wrapped.
    pub fn current_kek<A: Action>(&self, permit: &Permit<A>) -> Option<Arc<SignedKekRecord>> {
        let ring = permit.resource().ring()?;
        let state = self.state();
        let generation = state.rings.get(&ring)?.kek_generation;
        state.keks.get(&(ring, generation)).cloned()
    }

    /// Every KEK record; they are wrapped and signed, and the keyring refreshes what it has cached of them.
    pub fn kek(&self, ring: RingId, generation: Generation) -> Option<Arc<SignedKekRecord>> {
        self.state().keks.get(&(ring, generation)).cloned()
    }

    /// The record of the KEK under which the installation's own material is wrapped.
    pub fn system_kek(&self) -> Option<Arc<SignedKekRecord>> {
        let state = self.state();
        let ring = state.rings.get(&state.instance.system_ring)?;
        state.keks.get(&(ring.id, ring.kek_generation)).cloned()
    }

    /// The checkpoint that was anchored last for a replica, as a signed note, and when.
    pub fn anchor(&self, replica: &str) -> Option<(String, i64)> {
        self.state()
            .anchors
            .get(replica)
            .map(|anchor| (anchor.checkpoint_note.clone(), anchor.time_ms))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // A poisoned state is still whole: a change replaces entry by entry what the store already holds.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Material as the store holds it.
#[derive(Clone, Debug)]
pub struct StoredMaterial {
    /// The material under the KEK.
    pub wrapped: Arc<WrappedVersion>,
    /// The KEK under the root.
    pub kek: Arc<SignedKekRecord>,
}

/// Actions on a key, whose permits let its head and its wrapped material be read.
pub trait KeyAction: Action {}

macro_rules! key_actions {
    ($($action:ident),*) => { $(impl KeyAction for action::$action {})* };
}

key_actions!(
    ApplyKey,
    ReleaseObject,
    DescribeKey,
    RotateKey,
    SetPrimaryVersion,
    EnableVersion,
    DisableVersion,
    ScheduleVersionDestruction,
    CancelVersionDestruction,
    Encrypt,
    Decrypt,
    ProbeEtcdKey,
    EncryptSeed,
    DecryptSeed
);
