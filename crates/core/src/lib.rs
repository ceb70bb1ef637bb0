//! Vocabulary and decisions; no IO, no async, no serde.
#![forbid(unsafe_code)]

mod context;
mod id;
mod key_use;
mod secret;

pub use context::{ContextError, EncryptionContext};
pub use id::{
    Generation, InstanceId, KeyId, ParseIdError, ParseVersionError, RingId, StoreEpoch, VersionId,
    VersionNumber, ZeroError,
};
pub use key_use::KeyUse;
pub use secret::SecretBytes;
