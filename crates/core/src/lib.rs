//! Vocabulary and decisions; no IO, no async, no serde.
#![forbid(unsafe_code)]

mod access;
mod caller;
mod clock;
mod context;
mod id;
mod key;
mod key_use;
mod kubernetes;
mod name;
mod node;
mod policy;
mod secret;
mod secret_head;
mod service_time;

pub use access::{AccessError, BINDINGS_PER_OBJECT_MAX, SecretAccess, SecretBinding, SecretRole};
pub use caller::{Caller, CertificateIdentity, Job, NodeCredential};
pub use clock::{Clock, UnixMillis};
pub use context::{ContextError, EncryptionContext};
pub use id::{
    Generation, InstanceId, KekPlace, KeyId, ParseIdError, ParseVersionError, RingId, SecretId,
    StoreEpoch, VersionId, VersionNumber, ZeroError,
};
pub use key::{
    Activation, Algorithm, DESTROY_WINDOW_DEFAULT, DESTROY_WINDOW_MAX, DESTROY_WINDOW_MIN, KeyHead,
    KeyRole, LifecycleError, NewKey, ProtectionLevel, Purpose, Version, VersionState,
};
pub use key_use::KeyUse;
pub use kubernetes::{
    InvalidObjectName, InvalidUid, ObjectId, ObjectName, PodIdentity, ServiceAccount, Tenant, Uid,
};
pub use name::{InvalidName, Name};
pub use node::{
    InvalidNodeName, Invitation, NextCertificate, NodeCertificate, NodeIdentity, NodeName,
    NodeRecord, NodeRole, RedeemError, Renewal, Revocation, RevocationCause, SecretHash, Standing,
};
pub use policy::{
    Action, ActionKind, ContextDigest, Decide, Decision, Denied, Permit, Question, Resource,
    RingKind, RingRef, action, authorize,
};
pub use secret::SecretBytes;
pub use secret_head::{
    Alphabet, FIELDS_MAX, FIXED_TEXT_BYTES_MAX, FieldKind, FieldName, FieldNames, FieldsError,
    GeneratedField, GeneratedFields, InvalidFieldName, MalformedValue, NextVersion, RandomText,
    SecretHead, SecretSource, SecretStage, SecretStepError, SecretValue, SecretVersion,
    VALUE_BYTES_MAX, ValueError,
};
pub use service_time::{BootId, CLOCK_TOLERANCE, Jump, Reading, ServiceTime, TimeMark};
