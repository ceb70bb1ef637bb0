//! A key: its head with versions and activations, and the pure steps of its life.
//!
//! An activation is one period in which a version was primary. A version that becomes primary again gets a new one, so
//! that whatever is derived from an activation is never used twice.

mod lifecycle;

pub use lifecycle::{
    DESTROY_WINDOW_DEFAULT, DESTROY_WINDOW_MAX, DESTROY_WINDOW_MIN, LifecycleError,
};

use std::sync::Arc;

use crate::{
    Access, HandledRequests, KeyId, Name, RingId, RotationSchedule, StoreEpoch, Uid, UnixMillis,
    VersionId, VersionNumber,
};

/// What a key is for. Immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Authenticated symmetric encryption.
    EncryptDecrypt,
}

/// How it does it. Immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-256-GCM under a key derived for each message.
    Aes256Gcm,
}

/// Where the material is in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtectionLevel {
    /// Wrapped under a root in the token; used in locked memory of the key service.
    HsmWrapped,
}

/// Who uses a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// Callers of the API, within use `api`.
    Api,
    /// The API server's plugin, within use `kmsv2`.
    Etcd,
    /// The secrets of its ring, within use `secret`. There is one in a ring with secrets, and no caller can name it.
    Secrets,
}

/// State of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Can be used.
    Enabled,
    /// Cannot be used until it is enabled again.
    Disabled,
    /// Cannot be used; may be destroyed by a second command once the window has passed.
    DestroyScheduled {
        /// When the window ends.
        window_ends: UnixMillis,
    },
}

/// One version. Its material lies elsewhere and never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id, dense within one store epoch.
    pub id: VersionId,
    /// Its state.
    pub state: VersionState,
    /// When it was made.
    pub created: UnixMillis,
}

/// One period in which a version was primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Activation {
    /// Counts up over the key's life, from 1.
    pub number: u32,
    /// The version that became primary.
    pub version: VersionId,
    /// The store's epoch at that time: a restored store never repeats an activation of the lost one.
    pub epoch: StoreEpoch,
}

/// Everything about a key but its material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHead {
    /// Its id.
    pub id: KeyId,
    /// Its ring.
    pub ring: RingId,
    /// Its name, unique in the ring.
    pub name: Name,
    /// What it is for.
    pub purpose: Purpose,
    /// How it does it.
    pub algorithm: Algorithm,
    /// Where its material is in clear.
    pub protection: ProtectionLevel,
    /// Who uses it.
    pub role: KeyRole,
    /// When it was made.
    pub created: UnixMillis,
    /// All versions, oldest first; never empty.
    pub versions: Vec<Version>,
    /// All activations, oldest first; never empty; the last names the primary version.
    pub activations: Vec<Activation>,
    /// Who may use it, beside whom its ring and the configuration name.
    pub access: Arc<Access>,
    /// The custom resource that holds it. None: administrators or the installation made it, or it was let go of.
    pub holder: Option<Uid>,
    /// When new versions are made without anybody asking.
    pub rotation: Option<RotationSchedule>,
    /// Requests that made versions.
    pub requests: HandledRequests,
}

/// What is given for a new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// Its ring.
    pub ring: RingId,
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub purpose: Purpose,
    /// How it does it.
    pub algorithm: Algorithm,
    /// Where its material is in clear.
    pub protection: ProtectionLevel,
    /// Who uses it.
    pub role: KeyRole,
    /// The store's epoch.
    pub epoch: StoreEpoch,
    /// When it is made.
    pub now: UnixMillis,
}

impl KeyHead {
    /// A key with one enabled version, which is primary.
    #[must_use]
    pub fn new(new: NewKey) -> Self {
        let NewKey {
            id,
            ring,
            name,
            purpose,
            algorithm,
            protection,
            role,
            epoch,
            now,
        } = new;
        let version = VersionId {
            epoch,
            number: VersionNumber::FIRST,
        };
        Self {
            id,
            ring,
            name,
            purpose,
            algorithm,
            protection,
            role,
            created: now,
            versions: vec![Version {
                id: version,
                state: VersionState::Enabled,
                created: now,
            }],
            activations: vec![Activation {
                number: 1,
                version,
                epoch,
            }],
            access: Arc::default(),
            holder: None,
            rotation: None,
            requests: HandledRequests::default(),
        }
    }

    /// The activation in force.
    ///
    /// # Panics
    /// Never for a head made by `KeyHead::new` and the steps of this module, or parsed by the registry, which refuses
    /// a head without activations.
    #[must_use]
    pub fn primary(&self) -> Activation {
        *self
            .activations
            .last()
            .expect("a key head always has an activation")
    }

    /// The version with that id.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    /// The activations whose version can open data now, oldest first.
    pub fn readable(&self) -> impl Iterator<Item = &Activation> {
        self.activations.iter().filter(|activation| {
            self.version(activation.version)
                .is_some_and(|version| version.state == VersionState::Enabled)
        })
    }
}
