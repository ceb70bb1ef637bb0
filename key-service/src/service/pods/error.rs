//! Why a pod does not get what its volume asks for: one word for programs, one sentence for people.
//!
//! A name is looked up in the pod's own namespace alone, so that the sentences tell nothing of another tenant.

use strongroom_auth::TokenError;
use strongroom_core::{Name, ServiceAccount, Tenant};
use tonic::Code;

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the driver who calls.
    Driver,
    /// That of the pod for which he calls.
    Pod,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Driver => "the driver",
            Self::Pod => "the pod",
        })
    }
}

/// Why nothing is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// A call without a token.
    #[error("a token of the CSI driver's service account is required")]
    NoToken,
    /// A token does not count.
    #[error("{whose}: {error}")]
    Token {
        /// Whose.
        whose: Whose,
        /// Why.
        error: TokenError,
    },
    /// The token is good, but the account is no driver's.
    #[error("ServiceAccount {}/{} is not configured as a CSI driver of this cluster", .0.tenant.namespace, .0.id.name)]
    NotADriver(ServiceAccount),
    /// The pod runs elsewhere.
    #[error("the pod's token is for a pod on another node than the driver's")]
    NotThisNode,
    /// The token is another pod's.
    #[error("the token is not that of the pod for which the volume is")]
    NotThisPod,
    /// There is no such secret.
    #[error("there is no ManagedSecret {}/{secret}", .tenant.namespace)]
    NoSecret {
        /// The pod's namespace.
        tenant: Tenant,
        /// What it asked for.
        secret: Name,
    },
    /// Nobody has set its value.
    #[error("ManagedSecret {}/{secret} has no value yet; set it with `kubectl strongroom secret set`", .tenant.namespace)]
    AwaitingValue {
        /// The pod's namespace.
        tenant: Tenant,
        /// What it asked for.
        secret: Name,
    },
    /// The pod's account has no role on it.
    #[error("ServiceAccount {}/{} has no role SecretReader on ManagedSecret {}/{secret}; add it under spec.access", .account.tenant.namespace, .account.id.name, .account.tenant.namespace)]
    RoleMissing {
        /// The pod's account.
        account: ServiceAccount,
        /// What it asked for.
        secret: Name,
    },
    /// More streams than a driver that is replaced can have.
    #[error("the node has too many streams open")]
    TooManyStreams,
    /// More volumes than a node can have.
    #[error("the stream has too many volumes")]
    TooManyVolumes,
}

impl PodError {
    /// The words of refused tokens, for metrics.
    pub(super) const TOKEN_REASONS: [&'static str; 4] =
        ["NoToken", "WrongAudience", "TokenExpired", "TokenInvalid"];

    /// One stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::Token { error, .. } => error.word(),
            Self::NotADriver(_) => "NotADriver",
            Self::NotThisNode => "NotThisNode",
            Self::NotThisPod => "NotThisPod",
            Self::NoSecret { .. } => "NotFound",
            Self::AwaitingValue { .. } => "AwaitingValue",
            Self::RoleMissing { .. } => "RoleMissing",
            Self::TooManyStreams => "TooManyStreams",
            Self::TooManyVolumes => "TooManyVolumes",
        }
    }

    pub(in crate::service) const fn grpc(&self) -> Code {
        match self {
            Self::NoToken | Self::Token { .. } => Code::Unauthenticated,
            Self::NotADriver(_)
            | Self::NotThisNode
            | Self::NotThisPod
            | Self::RoleMissing { .. } => Code::PermissionDenied,
            Self::NoSecret { .. } => Code::NotFound,
            Self::AwaitingValue { .. } => Code::FailedPrecondition,
            Self::TooManyStreams | Self::TooManyVolumes => Code::ResourceExhausted,
        }
    }

    /// Whether somebody may not, and not that something is missing.
    pub(in crate::service) const fn is_denial(&self) -> bool {
        matches!(
            self.grpc(),
            Code::Unauthenticated | Code::PermissionDenied | Code::NotFound
        )
    }
}
