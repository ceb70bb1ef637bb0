//! What a volume shall hold: files by path, each with mode, owner and content. Paths that could mean something to the
//! writer or lead out of the volume cannot be in it.

use std::{collections::BTreeMap, fmt};

use strongroom_core::SecretBytes;

/// Parts of a path.
pub const PATH_PARTS_MAX: usize = 8;
/// A part is a key of a Kubernetes Secret.
const PART_BYTES_MAX: usize = 253;
/// Files of one volume: 64 secrets of 64 fields.
const FILES_MAX: usize = 4096;
/// For reading and writing. A container runtime drops `noexec` from a read-only bind, so that the mode has to say it as well.
const PERMISSIONS: u32 = 0o666;
/// What the kernel takes for "no such id".
const NO_ID: u32 = u32::MAX;
/// Memory of a file is counted in pages.
const PAGE: u64 = 4096;

/// One file.
#[derive(Debug)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it holds.
    pub content: SecretBytes,
}

/// Why a file cannot be in a volume. The path is not secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    /// The path is not plain.
    #[error("{0:?} is no path of a file in a volume")]
    Path(String),
    /// There are two of the path, or a file would be a folder too.
    #[error("{0:?} is there twice, or is a folder too")]
    Twice(String),
    /// The mode has bits that are not for reading or writing.
    #[error("{path:?} has mode {mode:o}")]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Owner or group is what the kernel takes for none.
    #[error("{0:?} has an owner or a group that does not exist")]
    Owner(String),
    /// There are too many.
    #[error("there are more than {FILES_MAX} files")]
    TooMany,
}

/// The files of a volume, ordered by path.
#[derive(Default)]
pub struct FileSet(BTreeMap<String, File>);

impl FileSet {
    /// Adds a file.
    ///
    /// # Errors
    ///
    /// When it cannot be in a volume beside those that are there.
    pub fn add(&mut self, path: &str, file: File) -> Result<(), InvalidFile> {
        if !is_plain(path) {
            return Err(InvalidFile::Path(path.to_owned()));
        }
        if file.mode & !PERMISSIONS != 0 {
            return Err(InvalidFile::Mode {
                path: path.to_owned(),
                mode: file.mode,
            });
        }
        if file.uid == NO_ID || file.gid == NO_ID {
            return Err(InvalidFile::Owner(path.to_owned()));
        }
        if self.0.len() == FILES_MAX {
            return Err(InvalidFile::TooMany);
        }
        if self.collides(path) {
            return Err(InvalidFile::Twice(path.to_owned()));
        }
        self.0.insert(path.to_owned(), file);
        Ok(())
    }

    /// The files by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Every folder, each after the one that holds it.
    pub(super) fn folders(&self) -> Vec<&str> {
        let mut folders: Vec<&str> = self.0.keys().flat_map(|path| parents(path)).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }

    /// The first parts of all paths, each once.
    pub(super) fn tops(&self) -> Vec<&str> {
        let top = |path: &'_ str| path.find('/').unwrap_or(path.len());
        let mut tops: Vec<&str> = self.0.keys().map(|path| &path[..top(path)]).collect();
        tops.dedup();
        tops
    }

    /// Memory that the contents take.
    pub(super) fn bytes(&self) -> u64 {
        let pages = |file: &File| (file.content.len() as u64).div_ceil(PAGE);
        self.0.values().map(pages).sum::<u64>() * PAGE
    }

    /// Inodes that files and folders take.
    pub(super) fn inodes(&self) -> u64 {
        (self.0.len() + self.folders().len()) as u64
    }

    fn collides(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.0.contains_key(path)
            || parents(path).any(|parent| self.0.contains_key(parent))
            || self
                .0
                .range(below.clone()..)
                .next()
                .is_some_and(|(other, _)| other.starts_with(&below))
    }
}

impl fmt::Debug for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The folders that lead to a path, the outermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn is_plain(path: &str) -> bool {
    let is_part = |part: &str| {
        (1..=PART_BYTES_MAX).contains(&part.len())
            && part != "."
            // Names of the writer's own begin so.
            && !part.starts_with("..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    path.split('/').count() <= PATH_PARTS_MAX && path.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        File {
            mode: 0o440,
            uid: 0,
            gid: 0,
            content: SecretBytes::copy_from(b"x"),
        }
    }

    fn set(paths: &[&str]) -> Result<FileSet, InvalidFile> {
        let mut files = FileSet::default();
        for path in paths {
            files.add(path, file())?;
        }
        Ok(files)
    }

    #[test]
    fn hostile_paths_are_refused() {
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
            "é",
            "1/2/3/4/5/6/7/8/9",
        ] {
            assert_eq!(
                set(&[path]).err(),
                Some(InvalidFile::Path(path.to_owned())),
                "{path:?}"
            );
        }
        let long = "a".repeat(PART_BYTES_MAX + 1);
        assert!(set(&[&long]).is_err());
        assert!(set(&["db/password", "db/user.name", ".pgpass", "1/2/3/4/5/6/7/8"]).is_ok());
    }

    #[test]
    fn a_file_is_no_folder() {
        for paths in [["a", "a/b"], ["a/b", "a"], ["a", "a"], ["a/b/c", "a/b"]] {
            assert!(
                matches!(set(&paths), Err(InvalidFile::Twice(_))),
                "{paths:?}"
            );
        }
        assert!(set(&["a/b", "a-b", "a.b", "ab"]).is_ok());
    }

    #[test]
    fn bits_beyond_permissions_are_refused() {
        for mode in [0o4644, 0o2644, 0o1666, 0o10000, 0o555, 0o100] {
            let mut files = FileSet::default();
            let outcome = files.add("a", File { mode, ..file() });
            assert!(matches!(outcome, Err(InvalidFile::Mode { .. })), "{mode:o}");
        }
    }

    #[test]
    fn folders_come_after_those_that_hold_them() {
        let files = set(&["b/c/d", "a", "b/e", "b/c/f"]).unwrap();
        assert_eq!(files.folders(), ["b", "b/c"]);
        assert_eq!(files.tops(), ["a", "b"]);
        assert_eq!((files.bytes(), files.inodes()), (4 * PAGE, 6));
    }
}
