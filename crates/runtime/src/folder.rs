//! Folders of a process's own on volumes that a cluster gives: such a volume belongs to root and a group, and a socket's
//! folder, or that of a store, must be whose process it is.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

const PERMISSIONS: u32 = 0o777;

/// A folder as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// Where; the folder above it is there.
    pub path: &'a Path,
    /// Its permissions.
    pub mode: u32,
    /// Its group, when it is not the process's own.
    pub group: Option<u32>,
}

/// Why there is no such folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be looked at or made.
    #[error("cannot make the folder {}", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else is there.
    #[error("{} is not a folder", path.display())]
    NotFolder {
        /// What is there.
        path: PathBuf,
    },
    /// It is somebody else's.
    #[error("{} belongs to uid {uid}", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Somebody opened it, as a kubelet does that gives a whole volume to a group at each mount.
    #[error(
        "{} has mode {mode:04o} in place of {wanted:04o}; in a pod, set fsGroupChangePolicy: OnRootMismatch",
        path.display()
    )]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
}

impl Folder<'_> {
    /// Makes the folder, or checks the one that is there.
    ///
    /// # Errors
    ///
    /// See [`FolderError`]; what was there is left as it was.
    pub fn ensure(&self) -> Result<(), FolderError> {
        let failed = |source| FolderError::Make {
            path: self.path.to_owned(),
            source,
        };
        match fs::symlink_metadata(self.path) {
            Ok(metadata) => self.check(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make().map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Under another name first, so that a folder that is there has its final mode.
    fn make(&self) -> io::Result<()> {
        let next = self.path.with_added_extension("new");
        match DirBuilder::new().mode(0o700).create(&next) {
            // Left by a process that was killed in between; nothing is in it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        chown(&next, None, self.group)?;
        // The mode of the call before went through the umask, and the folder above may have given its group along.
        fs::set_permissions(&next, Permissions::from_mode(self.mode))?;
        fs::rename(&next, self.path)
    }

    fn check(&self, metadata: &fs::Metadata) -> Result<(), FolderError> {
        let path = || self.path.to_owned();
        let (uid, mode) = (metadata.uid(), metadata.mode() & PERMISSIONS);
        if !metadata.is_dir() {
            Err(FolderError::NotFolder { path: path() })
        } else if uid != geteuid().as_raw() {
            Err(FolderError::Owner { path: path(), uid })
        } else if mode != self.mode {
            Err(FolderError::Mode {
                path: path(),
                mode,
                wanted: self.mode,
            })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path) -> Folder<'_> {
        Folder {
            path,
            mode: 0o750,
            group: None,
        }
    }

    #[test]
    fn a_folder_is_made_once_with_its_mode_and_then_left_alone() {
        let volume = tempfile::tempdir().unwrap();
        // As a kubelet leaves a volume that belongs to a group.
        fs::set_permissions(volume.path(), Permissions::from_mode(0o2775)).unwrap();
        let path = volume.path().join("hsm");
        folder(&path).ensure().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o750);
        fs::write(path.join("file"), "kept").unwrap();
        folder(&path).ensure().unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "kept");
    }

    #[test]
    fn a_folder_that_was_begun_is_finished() {
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("hsm.new")).unwrap();
        folder(&volume.path().join("hsm")).ensure().unwrap();
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_may_enter_or_is_no_folder_is_refused() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("hsm");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        let refusal = folder(&path).ensure();
        assert!(matches!(
            refusal,
            Err(FolderError::Mode { mode: 0o770, .. })
        ));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(volume.path(), &path).unwrap();
        let refusal = folder(&path).ensure();
        assert!(matches!(refusal, Err(FolderError::NotFolder { .. })));
    }

    #[test]
    fn a_volume_that_is_not_there_is_named() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("missing/hsm");
        let refusal = folder(&path).ensure();
        assert!(matches!(refusal, Err(FolderError::Make { .. })));
    }
}
