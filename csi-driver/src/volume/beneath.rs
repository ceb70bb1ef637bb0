//! Files below a descriptor: never through a link, never onto another mount, never upwards.

use std::{ffi::CStr, io, os::fd::OwnedFd};

use rustix::{
    fd::AsFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat},
    io::Errno,
};

/// Deeper than any tree that is written here; what is deeper was not made by us and may stay where it is.
const DEPTH_MAX: usize = 32;

/// A system call on a file failed. Names of files are not secret.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {name}")]
pub struct SystemError {
    what: &'static str,
    name: String,
    #[source]
    source: io::Error,
}

/// For `map_err`.
pub(super) fn system(what: &'static str, name: &str) -> impl FnOnce(Errno) -> SystemError {
    let name = name.to_owned();
    move |errno| SystemError {
        what,
        name,
        source: errno.into(),
    }
}

impl SystemError {
    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// How paths are resolved: within one mount.
pub(super) const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// As [`WITHIN`], for the one step onto a mount of ours.
pub(super) const ONTO: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens a folder below another.
pub(super) fn open_folder(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(at, path, flags, Mode::empty(), WITHIN)
}

/// One name in a folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_folder: bool,
}

/// Lists a folder. A name that is not UTF-8 is none of ours and is an error.
pub(super) fn entries(folder: impl AsFd) -> Result<Vec<Entry>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if is_dot(entry.file_name()) {
            continue;
        }
        let name = entry.file_name().to_str().map_err(|_| Errno::ILSEQ)?;
        found.push(Entry {
            name: name.to_owned(),
            is_folder: entry.file_type() == FileType::Directory,
        });
    }
    Ok(found)
}

fn is_dot(name: &CStr) -> bool {
    name == c"." || name == c".."
}

/// Removes a file, a link, or a folder with all that it holds; nothing when there is nothing.
pub(super) fn remove(at: impl AsFd, name: &str) -> Result<(), Errno> {
    remove_below(at.as_fd(), name, DEPTH_MAX)
}

fn remove_below(at: impl AsFd, name: &str, depth: usize) -> Result<(), Errno> {
    match unlinkat(&at, name, AtFlags::empty()) {
        Err(Errno::ISDIR) if depth > 0 => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let folder = open_folder(&at, name)?;
    for entry in entries(&folder)? {
        remove_below(&folder, &entry.name, depth - 1)?;
    }
    match unlinkat(&at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_a_link_points_to_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        fs::create_dir_all(ours.join("a/b")).unwrap();
        fs::create_dir_all(&theirs).unwrap();
        fs::write(theirs.join("precious"), "x").unwrap();
        symlink(&theirs, ours.join("a/b/link")).unwrap();
        symlink(theirs.join("precious"), ours.join("a/file")).unwrap();

        let at = fs::File::open(folder.path()).unwrap();
        remove(&at, "ours").unwrap();
        remove(&at, "ours").unwrap();
        assert!(!ours.exists());
        assert!(theirs.join("precious").exists());
    }

    #[test]
    fn a_link_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        let at = fs::File::open(folder.path()).unwrap();
        assert!(open_folder(&at, "real").is_ok());
        assert_eq!(open_folder(&at, "link").unwrap_err(), Errno::LOOP);
        assert!(open_folder(&at, "..").is_err());
    }
}
