//! Why a custom resource does not get what it wants: one word for programs, one sentence for its author.
//!
//! What belongs to another namespace is not told of: whoever asks for it is told that there is nothing.

use std::fmt;

use strongroom_core::{AcquireError, Name, ServiceAccount, Uid};
use tonic::Code;

/// What a custom resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    /// A ring.
    KeyRing,
    /// A key.
    CryptoKey,
    /// A secret.
    ManagedSecret,
    /// A bundle.
    SecretBundle,
}

impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyRing => "KeyRing",
            Self::CryptoKey => "CryptoKey",
            Self::ManagedSecret => "ManagedSecret",
            Self::SecretBundle => "SecretBundle",
        })
    }
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The token is good, but the account is no operator's.
    #[error("ServiceAccount {}/{} is not configured as the operator of this cluster", .0.tenant.namespace, .0.id.name)]
    NotTheOperator(ServiceAccount),
    /// The cluster is not the one that is known under its name.
    #[error("{0}; a cluster that was made anew is registered under another name")]
    Cluster(AcquireError),
    /// Somebody else changes things.
    #[error("another process of the operator has the control epoch")]
    StaleControlEpoch,
    /// A namespace that is no more owns it.
    #[error(
        "KeyRing {namespace}/{ring} was made in a namespace {namespace} that was deleted; an administrator gives it to this one \
         with `kubectl strongroom ring adopt {ring} -n {namespace} --reason …` (namespace uid {namespace_uid})"
    )]
    OwnedByFormerNamespace {
        /// The namespace that asks.
        namespace: Name,
        /// Its uid.
        namespace_uid: Uid,
        /// The ring in which it lies.
        ring: Name,
    },
    /// There is no such ring in the namespace.
    #[error("there is no KeyRing {namespace}/{ring}")]
    RingNotFound {
        /// The namespace.
        namespace: Name,
        /// Its name.
        ring: Name,
    },
    /// It is there, and was made otherwise.
    #[error(
        "{kind} {object} was made with another {field}, which cannot be changed; keep it, or give the object another name"
    )]
    ImmutableField {
        /// What it is.
        kind: ObjectType,
        /// `NAMESPACE/NAME`.
        object: String,
        /// Of the custom resource.
        field: &'static str,
    },
    /// The reader has to look at everything again.
    #[error("the stream fell behind; open it again and look at everything")]
    FellBehind,
}

impl OperatorError {
    /// One stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotTheOperator(_) => "NotTheOperator",
            Self::Cluster(AcquireError::OtherCluster { .. }) => "OtherCluster",
            Self::Cluster(AcquireError::Exhausted) => "EpochsExhausted",
            Self::StaleControlEpoch => "StaleControlEpoch",
            Self::OwnedByFormerNamespace { .. } => "OwnedByFormerNamespace",
            Self::RingNotFound { .. } => "RingNotFound",
            Self::ImmutableField { .. } => "ImmutableField",
            Self::FellBehind => "FellBehind",
        }
    }

    pub(in crate::service) const fn grpc(&self) -> Code {
        match self {
            Self::NotTheOperator(_) | Self::Cluster(AcquireError::OtherCluster { .. }) => {
                Code::PermissionDenied
            }
            Self::StaleControlEpoch => Code::Aborted,
            Self::Cluster(AcquireError::Exhausted)
            | Self::OwnedByFormerNamespace { .. }
            | Self::RingNotFound { .. }
            | Self::ImmutableField { .. } => Code::FailedPrecondition,
            Self::FellBehind => Code::Unavailable,
        }
    }

    /// Whether somebody may not, and not that something is missing.
    pub(in crate::service) const fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::NotTheOperator(_)
                | Self::Cluster(_)
                | Self::StaleControlEpoch
                | Self::OwnedByFormerNamespace { .. }
        )
    }
}
