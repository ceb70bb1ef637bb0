//! What the records hold, besides the key heads of the core. All of it is wrapped, sealed or public.

use std::sync::Arc;

pub use strongroom_core::RingOwner;
use strongroom_core::{
    Access, Generation, InstanceId, KeyId, Name, RingId, RingKind, RingRef, Tenant, Uid, UnixMillis,
};

/// The instance and its certificate authority.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The ring of the installation's own keys.
    pub system_ring: RingId,
    /// The key that encrypts etcd.
    pub etcd_key: KeyId,
    /// Sealed at init; it opens only with the KEK of the system ring.
    pub sentinel: Vec<u8>,
    /// When `init` ran.
    pub created: UnixMillis,
    /// The root certificate (DER), whose key lies in the token.
    pub root_certificate: Vec<u8>,
    /// Issues server certificates.
    pub server: Intermediate,
    /// Issues client certificates.
    pub client: Intermediate,
}

/// An intermediate of the certificate authority.
#[derive(Clone, Debug)]
pub struct Intermediate {
    /// DER.
    pub certificate_der: Vec<u8>,
    /// PKCS#8, sealed under the system ring with use `record`.
    pub sealed_key: Vec<u8>,
}

/// A ring of keys under one KEK.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Random, never derived from the name.
    pub id: RingId,
    /// Unique among the rings of one owner.
    pub name: Name,
    /// Whose it is; none for the installation itself.
    pub owner: Option<RingOwner>,
    /// When it was made.
    pub created: UnixMillis,
    /// The KEK that wraps new material.
    pub kek_generation: Generation,
    /// The system's or somebody's.
    pub kind: RingKind,
    /// The owner's tenant, and who has a role on everything in it.
    pub access: Arc<Access>,
    /// The custom resource that holds it. None: administrators or `init` made it, or it was let go of.
    pub holder: Option<Uid>,
}

impl Ring {
    /// The ring as policies see it.
    #[must_use]
    pub fn reference(&self) -> RingRef {
        RingRef {
            id: self.id,
            kind: self.kind,
            access: self.access.clone(),
        }
    }

    /// The namespace in which names of its secrets are unique; none for the installation itself.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.owner.as_ref().map(|owner| &owner.tenant)
    }
}

/// Material of one key version under its ring's KEK. Never changes.
#[derive(Clone, Debug)]
pub struct WrappedVersion {
    /// The KEK that wraps it.
    pub kek_generation: Generation,
    /// Message format with use `wrap`.
    pub wrapped: Vec<u8>,
    /// HMAC under a key derived from the KEK, over place and material.
    pub check_value: [u8; 16],
    /// When it was made; bound in the wrapping.
    pub created: UnixMillis,
}
