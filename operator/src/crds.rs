//! The custom resources as they are written, and the manifests of their definitions.
//!
//! What is wrong with an object by itself is refused by the API server: schema and rules here say it, so that the rest of the
//! operator never meets it. Each text and list has a bound; without one the API server would refuse the rules.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive of schemas makes copies of the types that nobody sees, and columns share their words"
)]

mod access;
mod condition;
pub mod crypto_key;
pub mod key_ring;
pub mod key_service;
pub mod managed_secret;
mod manifest;
mod page;
mod reference;
pub mod rotation;
pub mod secret_bundle;
pub mod secret_rotation;

pub use access::{AccessRule, Bound, KeyRole, RingRole, Role, SecretRole, Subject, SubjectKind};
pub use condition::{Condition, Truth};
pub use crypto_key::{Algorithm, CryptoKey, CryptoKeySpec, CryptoKeyStatus, KeyRotation, Purpose};
pub use key_ring::{KeyRing, KeyRingSpec, KeyRingStatus, ProtectionLevel};
pub use key_service::{KeyService, KeyServiceFields, KeyServiceStatus};
pub use managed_secret::{
    Alphabet, Field, Generate, ManagedSecret, ManagedSecretSpec, ManagedSecretStatus, Manual,
    Phase, Source,
};
pub use manifest::{Manifest, manifests};
pub use page::page;
pub use reference::{RingReference, SecretReference};
pub use rotation::{Rotation, Window};
pub use secret_bundle::{
    BundleFile, FieldOf, FileOwner, SecretBundle, SecretBundleSpec, SecretBundleStatus, Stage,
    Template,
};
pub use secret_rotation::{
    Mode, SecretRotation, SecretRotationSpec, SecretRotationStatus, Step, StepName,
};

/// The group of all kinds.
pub const GROUP: &str = "strongroom.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
