//! Common names of certificates: the one rule for what configuration may bind and what a certificate may carry.

/// The text is no common name that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate name has 1 to 64 printable ASCII characters")]
pub struct InvalidCommonName;

/// Accepts 1 to 64 printable ASCII characters: what X.520 allows in length, and nothing that looks like another name.
///
/// # Errors
/// `InvalidCommonName` for everything else.
pub fn check_common_name(name: &str) -> Result<(), InvalidCommonName> {
    let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=64).contains(&name.len()) {
        Ok(())
    } else {
        Err(InvalidCommonName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_ascii_of_1_to_64_is_accepted_and_nothing_else() {
        for good in ["a", "node 1", r#"quote " backslash \"#, &"x".repeat(64)] {
            assert_eq!(check_common_name(good), Ok(()), "{good:?}");
        }
        for bad in ["", "line\nbreak", "nul\0", "é", "\u{7f}", &"x".repeat(65)] {
            assert_eq!(check_common_name(bad), Err(InvalidCommonName), "{bad:?}");
        }
    }
}
