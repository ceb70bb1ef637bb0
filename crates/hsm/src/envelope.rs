//! A KEK under one root of the token, with everything that is needed to open it again.

use std::fmt;

/// Names a root: the `CKA_ID` of its object, drawn at random when the token was initialised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId([u8; 16]);

impl RootId {
    /// Takes 16 bytes that were read back.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Gives the 16 bytes, as formats hold them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootId({self})")
    }
}

/// A wrapped KEK. The form says how it was wrapped; tokens differ, so later forms join this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootEnvelope {
    /// AES-256-GCM in the token with an IV made by the host. The place of the KEK is the associated data.
    AesGcmHostIv {
        /// The root that wraps.
        root: RootId,
        /// Random.
        iv: [u8; 12],
        /// 32 bytes of ciphertext and the tag.
        sealed: [u8; 48],
    },
}

impl RootEnvelope {
    /// Tells which root opens the envelope.
    pub const fn root(&self) -> RootId {
        match self {
            Self::AesGcmHostIv { root, .. } => *root,
        }
    }

    /// Gives the number of the form in signed statements. 2 is kept for AES-GCM with an IV made by the token, 3 for
    /// AES-KW, 4 for AES-KWP, 5 for RSA-OAEP.
    pub(crate) const fn form(&self) -> u8 {
        match self {
            Self::AesGcmHostIv { .. } => 1,
        }
    }
}
