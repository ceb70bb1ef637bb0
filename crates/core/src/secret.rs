//! Bytes that must not be printed, cloned by accident or left in memory.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret bytes with one loud way to read them. Wiped when dropped; neither `Clone` nor comparable.
///
/// The buffer is as long as the secret: a `Vec` with spare room is wiped with its spare room.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes over a buffer. It must never have been reallocated while it held the secret, or old copies stay behind.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Copies a secret; the caller wipes the source.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Reads the secret. Whoever copies the bytes wipes the copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Tells the length, which is not secret.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is no byte at all.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_bytes_nor_the_length() {
        let shown = |bytes: &[u8]| {
            format!(
                "{:?} {:#?}",
                SecretBytes::copy_from(bytes),
                SecretBytes::copy_from(bytes)
            )
        };
        assert_eq!(
            shown(b"correct horse"),
            "SecretBytes(redacted) SecretBytes(redacted)"
        );
        assert_eq!(shown(b"correct horse"), shown(b""));
    }

    #[test]
    fn exposes_what_was_put_in() {
        let secret = SecretBytes::new(b"battery staple".to_vec());
        assert_eq!(secret.expose(), b"battery staple");
        assert_eq!(secret.len(), 14);
        assert!(!secret.is_empty());
    }
}
