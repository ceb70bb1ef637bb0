//! Why a secret or a certificate is not accepted: one word for programs, one sentence for people.

/// Why whoever calls is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No certificate was shown.
    #[error("a certificate of a node of this instance is required")]
    NoCertificate,
    /// The certificate is past its end; the connection that it opened is not.
    #[error("the certificate has expired")]
    Expired,
    /// No such secret is open for this node, or there is no such node: nobody learns which.
    #[error("the enrolment secret is not accepted")]
    SecretUnknown,
    /// The secret did its work.
    #[error("the enrolment secret was used already; ask for a new one")]
    SecretUsed,
    /// The secret is too old.
    #[error("the enrolment secret has expired; ask for a new one")]
    SecretExpired,
    /// There is a newer certificate.
    #[error("there is a newer certificate of this node")]
    Superseded,
    /// Of two holders of the identity neither is trusted.
    #[error("the identity of this node was revoked; enrol it anew")]
    Revoked,
}

impl CredentialError {
    /// All of them, for metrics.
    pub(super) const ALL: [Self; 7] = [
        Self::NoCertificate,
        Self::Expired,
        Self::SecretUnknown,
        Self::SecretUsed,
        Self::SecretExpired,
        Self::Superseded,
        Self::Revoked,
    ];

    /// One stable word.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoCertificate => "NoCertificate",
            Self::Expired => "Expired",
            Self::SecretUnknown => "SecretUnknown",
            Self::SecretUsed => "SecretUsed",
            Self::SecretExpired => "SecretExpired",
            Self::Superseded => "Superseded",
            Self::Revoked => "Revoked",
        }
    }
}
