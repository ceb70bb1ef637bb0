//! How a call can fail: whose fault it is, one stable word for log and audit, one sentence for the caller.

use strongroom_core::{AdoptError, Denied, LifecycleError, SecretStepError, VersionId};
use tonic::{Code, Status, metadata::MetadataValue};

use super::{CredentialError, OperatorError, PodError};
use crate::{
    keyring::KeyringError, registry::ChangeError, timekeeper::ClocksDiffer, trail::TrailError,
};

/// The metadata in which a refusal of a credential, or of a pod, is told by one word.
const REASON: &str = "strongroom-reason";

/// Why a call failed. The caller gets the sentence; sources stay in our log.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It does not exist, or the caller may not see it. The caller's to mend.
    #[error("not found")]
    NotFound,
    /// The caller may see it, but not do this. The caller's to mend.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// The secret or the certificate does not count, or does not any more. The caller's to mend.
    #[error(transparent)]
    Credential(CredentialError),
    /// A token does not count, or what it stands for may not read. The caller's to mend.
    #[error(transparent)]
    Pod(Box<PodError>),
    /// A custom resource cannot have what it wants. Whoever wrote it mends that, or an administrator.
    #[error(transparent)]
    Operator(Box<OperatorError>),
    /// There is no port where a node's plugin could connect. The operator's to mend.
    #[error(
        "this service has no port for plugins of other nodes; set `plugins` in its configuration"
    )]
    NoPlugins,
    /// There is no room for another identity. The operator's to mend.
    #[error("too many nodes were invited")]
    TooManyNodes,
    /// The request is wrong in itself. The caller's to mend.
    #[error("{0}")]
    Invalid(String),
    /// The key's state forbids it. The caller's to mend.
    #[error(transparent)]
    Lifecycle(LifecycleError),
    /// The secret's source or state forbids it. The caller's to mend.
    #[error(transparent)]
    SecretState(SecretStepError),
    /// The ring cannot be given to that namespace. The caller's to mend.
    #[error(transparent)]
    Adoption(AdoptError),
    /// The secret has no version in that stage. Whoever sets its value mends it.
    #[error("the secret has no value in this stage yet")]
    AwaitingValue,
    /// The version may not be used. The caller's to mend.
    #[error("key version {version} cannot be used: it is {state}")]
    NotUsable {
        /// Which.
        version: VersionId,
        /// Its state in words.
        state: &'static str,
    },
    /// Nobody knows what time it is. An administrator's to mend.
    #[error(
        "the clock of the key service's machine jumped; until it is right and `kubectl strongroom clock confirm` was run, \
         nothing is scheduled for destruction"
    )]
    ClockJumped,
    /// The clock that is to be believed is wrong, or the caller's is. The caller's to mend.
    #[error(transparent)]
    ClocksDiffer(ClocksDiffer),
    /// The key was changed since it was read. The caller reads again.
    #[error("it was changed in the meantime; read it again")]
    Stale,
    /// The name is in use. The caller's to mend.
    #[error("the name {0} is taken")]
    NameTaken(String),
    /// Nothing about a ciphertext that does not open is told. The caller's to mend.
    #[error("the ciphertext cannot be opened")]
    DoesNotOpen,
    /// The audit log is full for this caller. The operator's to mend.
    #[error("the audit log has no space for this caller; nothing was done")]
    AuditFull(#[source] TrailError),
    /// Something that the service needs is away; the caller may try again.
    #[error("{what} cannot be used now; try again")]
    Unavailable {
        /// What is away.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store holds something that is not genuine or not readable. The operator's to mend.
    #[error("the service found damaged data and did nothing; its operator has to look")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// One stable word for metrics and audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Denied(_) => "Denied",
            Self::Credential(error) => error.reason(),
            Self::Pod(error) => error.reason(),
            Self::Operator(error) => error.reason(),
            Self::NoPlugins => "NoPlugins",
            Self::TooManyNodes => "TooManyNodes",
            Self::Invalid(_) => "Invalid",
            Self::Lifecycle(_) | Self::SecretState(_) | Self::Adoption(_) => "StateForbids",
            Self::AwaitingValue => "AwaitingValue",
            Self::NotUsable { .. } => "NotUsable",
            Self::ClockJumped => "ClockJumped",
            Self::ClocksDiffer(_) => "ClocksDiffer",
            Self::Stale => "Stale",
            Self::NameTaken(_) => "NameTaken",
            Self::DoesNotOpen => "DoesNotOpen",
            Self::AuditFull(_) => "AuditFull",
            Self::Unavailable { .. } => "Unavailable",
            Self::Damaged(_) => "Damaged",
        }
    }

    /// Whether something that a file of a volume is made of is not there.
    pub(in crate::service) const fn is_absence(&self) -> bool {
        matches!(self, Self::Pod(error) if error.is_absence())
    }

    /// Whether kubelet's next publish brings what is missing: another token.
    pub(in crate::service) const fn is_expiry(&self) -> bool {
        matches!(self, Self::Pod(error) if error.is_expiry())
    }

    const fn grpc(&self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Invalid(_) | Self::DoesNotOpen => Code::InvalidArgument,
            Self::Credential(_) => Code::Unauthenticated,
            Self::Pod(error) => error.grpc(),
            Self::Operator(error) => error.grpc(),
            Self::Lifecycle(_)
            | Self::SecretState(_)
            | Self::Adoption(_)
            | Self::AwaitingValue
            | Self::NotUsable { .. }
            | Self::NoPlugins
            | Self::ClockJumped
            | Self::ClocksDiffer(_) => Code::FailedPrecondition,
            Self::Stale => Code::Aborted,
            Self::NameTaken(_) => Code::AlreadyExists,
            Self::AuditFull(_) | Self::TooManyNodes => Code::ResourceExhausted,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Damaged(_) => Code::DataLoss,
        }
    }

    /// What is answered. What is our fault or the surroundings' is logged here, with its sources, once.
    #[must_use]
    pub fn into_status(self) -> Status {
        if let Self::Unavailable { .. } | Self::Damaged(_) | Self::AuditFull(_) = &self {
            let chain = strongroom_runtime::Chain(&self);
            tracing::warn!(code = self.code(), error = %chain, "call failed");
        }
        let mut status = Status::new(self.grpc(), self.to_string());
        if let Self::Credential(_) | Self::Pod(_) | Self::Operator(_) = &self {
            status = Self::with_word(status, self.code());
        }
        status
    }

    /// A status that tells its reason by one word, for programs.
    #[must_use]
    pub fn with_word(mut status: Status, word: &'static str) -> Status {
        let reason = MetadataValue::from_static(word);
        status.metadata_mut().insert(REASON, reason);
        status
    }

    pub(crate) fn audit(error: TrailError) -> Self {
        match error {
            TrailError::Full(_) => Self::AuditFull(error),
            TrailError::Failed(_) => Self::Unavailable {
                what: "the audit log",
                source: Box::new(error),
            },
        }
    }

    /// A record that must be there is not: the store is damaged.
    pub(crate) fn missing(what: &'static str) -> Self {
        Self::Damaged(format!("the store has no {what}").into())
    }
}

impl From<LifecycleError> for CallError {
    fn from(error: LifecycleError) -> Self {
        Self::Lifecycle(error)
    }
}

impl From<SecretStepError> for CallError {
    fn from(error: SecretStepError) -> Self {
        match error {
            SecretStepError::FieldMissing(_) | SecretStepError::FieldUnknown(_) => {
                Self::Invalid(error.to_string())
            }
            SecretStepError::Generated
            | SecretStepError::Manual
            | SecretStepError::ManualSchedule
            | SecretStepError::VersionsExhausted => Self::SecretState(error),
        }
    }
}

impl From<OperatorError> for CallError {
    fn from(error: OperatorError) -> Self {
        Self::Operator(Box::new(error))
    }
}

impl From<PodError> for CallError {
    fn from(error: PodError) -> Self {
        Self::Pod(Box::new(error))
    }
}

impl From<KeyringError> for CallError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::DoesNotOpen => Self::DoesNotOpen,
            KeyringError::Corrupt => Self::Damaged(Box::new(error)),
            KeyringError::Hsm(_) => Self::Unavailable {
                what: "the HSM",
                source: Box::new(error),
            },
            KeyringError::MemoryCorrupted | KeyringError::Refused | KeyringError::Full(_) => {
                Self::Unavailable {
                    what: "the key",
                    source: Box::new(error),
                }
            }
        }
    }
}

impl From<ChangeError> for CallError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Stale => Self::Stale,
            ChangeError::StaleControlEpoch => OperatorError::StaleControlEpoch.into(),
            ChangeError::NameTaken(name) => Self::NameTaken(name),
            ChangeError::NoRoom(full) => Self::audit(full),
            ChangeError::Store(_) | ChangeError::Fenced | ChangeError::WrongInstance(_) => {
                Self::Unavailable {
                    what: "the store",
                    source: Box::new(error),
                }
            }
            ChangeError::Audit(_) => Self::Unavailable {
                what: "the audit log",
                source: Box::new(error),
            },
        }
    }
}
