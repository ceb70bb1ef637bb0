//! Keys of the store: short, printable UTF-8, ordered by their bytes.

use std::fmt;
use std::str::FromStr;

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// A valid key. Keys are ordered by their UTF-8 bytes, in every implementation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Accepts one to [`MAX_KEY_BYTES`] bytes without control characters, which would break the line of a log.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(InvalidKey::TooLong { bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidKey::ControlCharacter);
        }
        Ok(Self(text))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text is empty.
    #[error("a store key is never empty")]
    Empty,

    /// The text is longer than [`MAX_KEY_BYTES`].
    #[error("a store key has at most {MAX_KEY_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },

    /// The text holds a control character.
    #[error("a store key holds no control character")]
    ControlCharacter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_text_is_a_key() {
        assert_eq!(Key::new(""), Err(InvalidKey::Empty));
        assert_eq!(Key::new("a\nb"), Err(InvalidKey::ControlCharacter));
        assert_eq!(Key::new("a\0"), Err(InvalidKey::ControlCharacter));
        let bytes = MAX_KEY_BYTES + 1;
        assert_eq!(
            Key::new("k".repeat(bytes)),
            Err(InvalidKey::TooLong { bytes })
        );
        assert!(Key::new("é".repeat(MAX_KEY_BYTES / 2)).is_ok());
    }
}
