//! Paths of files in a volume: relative, of plain parts, nothing that leads out or that the writer of the volume uses itself.

use std::{fmt, str::FromStr};

use crate::FieldName;

/// Most parts of a path.
const PARTS_MAX: usize = 8;

/// 1 to 8 parts with `/` between them, each as a field's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumePath(String);

/// The text is no path of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path is relative and has 1 to {PARTS_MAX} parts, each of 1 to 253 of A-Z, a-z, 0-9, '.', '_' and '-', not '.' and \
     not beginning with '..'"
)]
pub struct InvalidVolumePath;

impl VolumePath {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders that lead to the file, the outermost first.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl FromStr for VolumePath {
    type Err = InvalidVolumePath;

    fn from_str(text: &str) -> Result<Self, InvalidVolumePath> {
        let is_part = |part: &str| part.parse::<FieldName>().is_ok();
        if text.split('/').count() <= PARTS_MAX && text.split('/').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidVolumePath)
        }
    }
}

impl fmt::Display for VolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_or_are_the_writers_own_are_refused() {
        let long = "a".repeat(254);
        for path in [
            "",
            "/",
            "/etc/passwd",
            ".",
            "..",
            "a/..",
            "a/../b",
            "..data",
            "a/..data/b",
            "a//b",
            "a/",
            "./a",
            "a b",
            "a\nb",
            "a\\b",
            "a\0b",
            "é",
            "1/2/3/4/5/6/7/8/9",
            &long,
        ] {
            assert_eq!(
                path.parse::<VolumePath>(),
                Err(InvalidVolumePath),
                "{path:?}"
            );
        }
        for path in ["a", "db/password", ".pgpass", "1/2/3/4/5/6/7/8", "a..b"] {
            assert!(path.parse::<VolumePath>().is_ok(), "{path:?}");
        }
    }

    #[test]
    fn folders_lead_from_the_outermost_to_the_file() {
        let path: VolumePath = "a/b/c".parse().unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
