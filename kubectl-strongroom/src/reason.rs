//! Why somebody does something, in one line that ends up in the audit log.

use std::{fmt, str::FromStr};

const CHARACTERS_MAX: usize = 256;

/// As the key service takes it. Not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason(String);

/// The text is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason has 1 to {CHARACTERS_MAX} characters and no control characters")]
pub(crate) struct InvalidReason;

impl Reason {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        let fits = (1..=CHARACTERS_MAX).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        assert!("INC-42".parse::<Reason>().is_ok());
        assert!("é".repeat(256).parse::<Reason>().is_ok());
        for bad in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
            assert_eq!(bad.parse::<Reason>(), Err(InvalidReason), "{bad:?}");
        }
    }
}
