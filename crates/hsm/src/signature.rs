//! A signature made in the token.

use std::fmt;

/// ECDSA P-256 with SHA-256: r and s, 32 bytes each, as PKCS#11 gives them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenSignature([u8; 64]);

impl TokenSignature {
    /// Takes r and s.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Gives r and s.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for TokenSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSignature(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
