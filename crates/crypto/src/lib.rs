//! Primitives over aws-lc-rs, and locked memory.
//!
//! Every stored format and derivation of the key service is here; the bytes are in `docs/design/20261122-formats.md`.
//! Keys live in [`LockedMemory`] and go from there into AWS-LC, which wipes what it frees.

mod derive;
mod digest;
mod kek;
mod key_id;
mod locked;
pub mod material;
pub mod message;
mod p256;
pub mod random;
mod record_mac;
#[cfg(test)]
mod testing;

pub use digest::{DigestKey, Subject};
pub use kek::{CheckValue, Kek};
pub use key_id::etcd_key_id;
pub use locked::{
    FullError, KEY_LEN, LockedKey, LockedMemory, LockedMemoryKind, LockedMemorySize,
    LockedMemoryStats, ReserveError,
};
pub use material::{Material, MaterialPlace, WrappedMaterial};
pub use p256::{P256PublicKey, PublicKeyError, SignatureError};
pub use record_mac::{RecordMac, RecordMacKey, RootSum};
/// Where a [`Kek`] belongs.
pub use strongroom_core::KekPlace;
