//! Why a pod does not get what its volume asks for: one word for programs, one sentence for people.
//!
//! A name is looked up in the pod's own namespace alone, so that the sentences tell nothing of another tenant.

use strongroom_auth::TokenError;
use strongroom_core::{AccessRole, FieldName, Name, SecretStage, ServiceAccount, Tenant};
use tonic::Code;

use crate::templates::TemplateError;

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the call.
    Caller,
    /// That of the pod for which a driver calls.
    Pod,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Caller => "the caller",
            Self::Pod => "the pod",
        })
    }
}

/// Why nothing is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// A call without a token.
    #[error("a token of a service account is required, as `authorization: Bearer TOKEN`")]
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
    /// The namespace has nothing yet, and nobody in it can mend that.
    #[error("there is no KeyRing in namespace {}; the platform makes it", .0.namespace)]
    NoRing(Tenant),
    /// There is no such secret.
    #[error("there is no ManagedSecret {}/{secret}", .tenant.namespace)]
    NoSecret {
        /// The pod's namespace.
        tenant: Tenant,
        /// What it asked for.
        secret: Name,
    },
    /// There is no such bundle.
    #[error("there is no SecretBundle {}/{bundle}", .tenant.namespace)]
    NoBundle {
        /// The pod's namespace.
        tenant: Tenant,
        /// What it asked for.
        bundle: Name,
    },
    /// Nobody has set its value, or it was set only once.
    #[error("ManagedSecret {}/{secret} has no {}", .tenant.namespace, no_value(*.stage))]
    AwaitingValue {
        /// The pod's namespace.
        tenant: Tenant,
        /// What it asked for.
        secret: Name,
        /// Which version.
        stage: SecretStage,
    },
    /// The secret is there, but not what a file is made of.
    #[error("ManagedSecret {}/{secret} has no field {field}; name one of its fields in the SecretBundle", .tenant.namespace)]
    FieldMissing {
        /// The pod's namespace.
        tenant: Tenant,
        /// The secret.
        secret: Name,
        /// What the bundle asks for.
        field: FieldName,
    },
    /// A template makes no file of what there is.
    #[error("the template of {path} in SecretBundle {} failed: {error}", name(.tenant, .bundle.as_ref()))]
    Template {
        /// The pod's namespace.
        tenant: Tenant,
        /// The bundle.
        bundle: Option<Name>,
        /// The file.
        path: String,
        /// Why.
        error: TemplateError,
    },
    /// More than a volume can hold.
    #[error("the files of SecretBundle {} are too large together: a volume holds {} bytes", name(.tenant, .bundle.as_ref()), strongroom_core::VOLUME_BYTES_MAX)]
    TooLarge {
        /// The pod's namespace.
        tenant: Tenant,
        /// The bundle.
        bundle: Option<Name>,
    },
    /// The pod's account has no role on it.
    #[error("ServiceAccount {}/{} has no role SecretReader on ManagedSecret {}/{secret}; add it under spec.access", .account.tenant.namespace, .account.id.name, .account.tenant.namespace)]
    RoleMissing {
        /// The pod's account.
        account: ServiceAccount,
        /// What it asked for.
        secret: Name,
    },
    /// A driver's account, or the operator's: whoever may bind it is given nothing by that.
    #[error("ServiceAccount {}/{} is Strongroom's own and reads no secret; let the pod run as another", .0.tenant.namespace, .0.id.name)]
    NotAReader(ServiceAccount),
    /// The pod's account has no role on the key.
    #[error("ServiceAccount {}/{} has no role {} on CryptoKey {}/{key}; add it under spec.access", .account.tenant.namespace, .account.id.name, .role.as_str(), .account.tenant.namespace)]
    KeyRoleMissing {
        /// The pod's account.
        account: ServiceAccount,
        /// What it would need.
        role: AccessRole,
        /// The key.
        key: Name,
    },
    /// More streams than a driver that is replaced can have.
    #[error("the node has too many streams open")]
    TooManyStreams,
    /// More volumes than a node can have.
    #[error("the stream has too many volumes")]
    TooManyVolumes,
}

/// What is missing in a stage, and who brings it.
const fn no_value(stage: SecretStage) -> &'static str {
    match stage {
        SecretStage::Current => "value yet; set it with `kubectl strongroom secret set`",
        SecretStage::Previous => "previous value yet; a file can be `optional`",
    }
}

/// `NAMESPACE/BUNDLE`.
fn name(tenant: &Tenant, bundle: Option<&Name>) -> String {
    let bundle = bundle.map(Name::as_str).unwrap_or_default();
    format!("{}/{bundle}", tenant.namespace)
}

impl PodError {
    /// The words of refused tokens, for metrics.
    pub(super) const TOKEN_REASONS: [&'static str; 4] =
        ["NoToken", "WrongAudience", "TokenExpired", "TokenInvalid"];

    /// One stable word. Whatever is missing has the same, by which a volume may start without.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::Token { error, .. } => error.word(),
            Self::NotADriver(_) => "NotADriver",
            Self::NotThisNode => "NotThisNode",
            Self::NotThisPod => "NotThisPod",
            Self::NoRing(_) | Self::NoSecret { .. } | Self::NoBundle { .. } => "NotFound",
            Self::AwaitingValue { .. } => "AwaitingValue",
            Self::FieldMissing { .. } => "FieldMissing",
            Self::Template { .. } => "TemplateFailed",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotAReader(_) => "NotAReader",
            Self::RoleMissing { .. } | Self::KeyRoleMissing { .. } => "RoleMissing",
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
            | Self::NotAReader(_)
            | Self::RoleMissing { .. }
            | Self::KeyRoleMissing { .. } => Code::PermissionDenied,
            Self::NoRing(_) | Self::NoSecret { .. } | Self::NoBundle { .. } => Code::NotFound,
            Self::AwaitingValue { .. }
            | Self::FieldMissing { .. }
            | Self::Template { .. }
            | Self::TooLarge { .. } => Code::FailedPrecondition,
            Self::TooManyStreams | Self::TooManyVolumes => Code::ResourceExhausted,
        }
    }

    /// Whether something that a file is made of is not there, which a file may allow.
    pub(in crate::service) const fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NoRing(_)
                | Self::NoSecret { .. }
                | Self::NoBundle { .. }
                | Self::AwaitingValue { .. }
                | Self::FieldMissing { .. }
        )
    }

    /// Whether a token only has to be a newer one.
    pub(in crate::service) const fn is_expiry(&self) -> bool {
        matches!(
            self,
            Self::Token {
                error: TokenError::Expired,
                ..
            }
        )
    }

    /// Whether somebody may not, and not that something is missing.
    pub(in crate::service) const fn is_denial(&self) -> bool {
        matches!(
            self.grpc(),
            Code::Unauthenticated | Code::PermissionDenied | Code::NotFound
        )
    }
}
