//! Vocabulary and decisions; no IO, no async, no serde.
#![forbid(unsafe_code)]

mod access;
mod bundle;
mod caller;
mod clock;
mod context;
mod control;
mod id;
mod key;
mod key_use;
mod kubernetes;
mod name;
mod node;
mod ownership;
mod policy;
mod rotation;
mod secret;
mod secret_head;
mod service_time;

pub use access::{Access, AccessBinding, AccessError, AccessRole, BINDINGS_PER_OBJECT_MAX};
pub use bundle::{
    BUNDLE_FILES_MAX, Bundle, BundleError, BundleFile, BundleFiles, FieldFile, FileContent,
    FileMode, InvalidVolumePath, TEMPLATE_BYTES_MAX, TEMPLATE_SECRETS_MAX, TEMPLATES_BYTES_MAX,
    Template, VOLUME_BYTES_MAX, VOLUME_SECRETS_MAX, VolumePath,
};
pub use caller::{Caller, CertificateIdentity, Job, NodeCredential};
pub use clock::{Clock, UnixMillis};
pub use context::{ContextError, EncryptionContext};
pub use control::{AcquireError, ClusterControl, Fence, ProcessId};
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
pub use ownership::{AdoptError, Claim, RingOwner, Unclaimed, check_adoption, claim};
pub use policy::{
    Action, ActionKind, ContextDigest, Decide, Decision, Denied, Permit, Question, Resource,
    RingKind, RingRef, action, authorize,
};
pub use rotation::{
    HandledRequest, HandledRequests, InvalidPeriod, InvalidRequestId, REQUESTS_KEPT,
    ROTATION_PERIOD_MAX, ROTATION_PERIOD_MIN, RequestId, RotationSchedule, RotationWindow,
    WINDOW_DURATION_MAX, WINDOW_DURATION_MIN, WindowError,
};
pub use secret::SecretBytes;
pub use secret_head::{
    Alphabet, FIELDS_MAX, FIXED_TEXT_BYTES_MAX, FieldKind, FieldName, FieldNames, FieldsError,
    GeneratedField, GeneratedFields, InvalidFieldName, MalformedValue, NextVersion, RandomText,
    SecretHead, SecretSource, SecretStage, SecretStepError, SecretValue, SecretVersion,
    VALUE_BYTES_MAX, ValueError,
};
pub use service_time::{BootId, CLOCK_TOLERANCE, Jump, Reading, ServiceTime, TimeMark};
