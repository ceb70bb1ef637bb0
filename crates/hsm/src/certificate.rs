//! The three certificates of the certificate authority, as they are asked for. The agent chooses everything else.

use strongroom_core::InstanceId;

/// The end is not after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate ends after it starts")]
pub struct ValidityError;

/// From when to when a certificate counts, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before_s: i64,
    not_after_s: i64,
}

impl Validity {
    /// Takes both ends in Unix seconds.
    pub const fn new(not_before_s: i64, not_after_s: i64) -> Result<Self, ValidityError> {
        if not_before_s < not_after_s {
            Ok(Self {
                not_before_s,
                not_after_s,
            })
        } else {
            Err(ValidityError)
        }
    }

    /// The first second in which the certificate counts.
    pub const fn not_before_s(&self) -> i64 {
        self.not_before_s
    }

    /// The last second in which the certificate counts.
    pub const fn not_after_s(&self) -> i64 {
        self.not_after_s
    }

    /// How long the certificate counts, in seconds.
    pub const fn length_s(&self) -> i64 {
        self.not_after_s.saturating_sub(self.not_before_s)
    }
}

/// Which certificate, and for which public key (SubjectPublicKeyInfo in DER).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSubject {
    /// The root, for the key in the token.
    Root,
    /// The intermediate that issues server certificates below `strongroom.dev` and nothing else.
    ServerIntermediate {
        /// The key of the intermediate.
        public_key: Vec<u8>,
    },
    /// The intermediate that issues client certificates and nothing else.
    ClientIntermediate {
        /// The key of the intermediate.
        public_key: Vec<u8>,
    },
}

impl CaSubject {
    /// The longest time for which such a certificate counts, in seconds.
    pub const fn longest_s(&self) -> i64 {
        const YEAR_S: i64 = 366 * 24 * 60 * 60;
        match self {
            Self::Root => 20 * YEAR_S,
            Self::ServerIntermediate { .. } | Self::ClientIntermediate { .. } => 10 * YEAR_S,
        }
    }
}

/// One certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificateRequest {
    /// The installation; its id is in the names.
    pub instance: InstanceId,
    /// Which certificate.
    pub subject: CaSubject,
    /// For how long.
    pub validity: Validity,
}
