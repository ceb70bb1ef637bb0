//! The folder of the identity: one file that is replaced as a whole, and a lock for whoever replaces it, since `enrol` may
//! run beside `serve`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};
use strongroom_runtime::fault;
use zeroize::Zeroizing;

use super::Identity;

const FILE: &str = "identity.json";
const TEMPORARY: &str = ".identity.json~";
const LOCK: &str = ".identity.lock";
const FILE_MODE: u32 = 0o600;

/// Why the identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Somebody else could read or replace the key.
    #[error("{} must belong to user id {owner} with mode {mode:o}, so that nobody else has the key", path.display())]
    Exposed {
        /// The folder or file.
        path: PathBuf,
        /// Whose it must be.
        owner: u32,
        /// The mode that it must have.
        mode: u32,
    },
    /// The file is not one of ours.
    #[error("the identity {} is not readable as such", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The identity on the disk is another one by now.
    #[error("the node was enrolled anew in the meantime")]
    Replaced,
}

/// The folder of the identity.
#[derive(Clone, Debug)]
pub struct IdentityFolder(PathBuf);

impl IdentityFolder {
    /// Takes a folder that is there, belongs to this user and to nobody else.
    ///
    /// # Errors
    ///
    /// When it is missing or open to others.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        check_private(path, 0o700)?;
        Ok(Self(path.to_owned()))
    }

    /// Reads the identity; none before the node was enrolled.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood, or others can read it.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let path = self.0.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system("read", &path)(error)),
        };
        check_private(&path, FILE_MODE)?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| IdentityError::Malformed { path, source })
    }

    /// Replaces whatever is there.
    ///
    /// # Errors
    ///
    /// When a write or a sync fails; the old identity is there then, or the new one.
    pub fn enrol(&self, identity: &Identity) -> Result<(), IdentityError> {
        let _lock = self.lock()?;
        self.write(identity)
    }

    /// Replaces the identity whose certificate has this serial number, and no other.
    ///
    /// # Errors
    ///
    /// As `enrol`, or `Replaced`.
    pub fn replace(&self, serial: &str, identity: &Identity) -> Result<(), IdentityError> {
        let _lock = self.lock()?;
        match self.load()? {
            Some(found) if found.certificate.serial == serial => self.write(identity),
            _ => Err(IdentityError::Replaced),
        }
    }

    fn lock(&self) -> Result<File, IdentityError> {
        let path = self.0.join(LOCK);
        let file = options().open(&path).map_err(system("open", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| system("lock", &path)(errno.into()))?;
        Ok(file)
    }

    fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        let (path, temporary) = (self.0.join(FILE), self.0.join(TEMPORARY));
        let text = serde_json::to_vec_pretty(identity).map(Zeroizing::new);
        let text = text.map_err(|source| IdentityError::Malformed {
            path: path.clone(),
            source,
        })?;
        write_synced(&temporary, &text).map_err(system("write", &temporary))?;
        fault::point!("plugin.identity.before-rename");
        fs::rename(&temporary, &path).map_err(system("replace", &path))?;
        fault::point!("plugin.identity.after-rename");
        let folder = File::open(&self.0).and_then(|folder| folder.sync_all());
        folder.map_err(system("sync", &self.0))
    }
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::System { what, path, source }
}

fn check_private(path: &Path, mode: u32) -> Result<(), IdentityError> {
    let found = fs::symlink_metadata(path).map_err(system("examine", path))?;
    let owner = rustix::process::geteuid().as_raw();
    if found.uid() == owner && found.mode() & 0o077 == 0 && !found.is_symlink() {
        Ok(())
    } else {
        Err(IdentityError::Exposed {
            path: path.to_owned(),
            owner,
            mode,
        })
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Opening never follows a link: the folder is ours, and there is none in it.
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    options
        .write(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(no_links);
    options
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = options().truncate(true).open(path)?;
    // A file that was left there keeps its mode.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::identity;

    fn folder() -> (tempfile::TempDir, IdentityFolder) {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();
        let folder = IdentityFolder::open(place.path()).unwrap();
        (place, folder)
    }

    fn serial(folder: &IdentityFolder) -> Option<String> {
        let identity = folder.load().unwrap()?;
        Some(identity.certificate.serial)
    }

    #[test]
    fn an_identity_is_read_back_and_for_nobody_else() {
        let (place, folder) = folder();
        assert_eq!(serial(&folder), None);
        folder.enrol(&identity("01")).unwrap();
        assert_eq!(serial(&folder).as_deref(), Some("01"));
        let mode = fs::metadata(place.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_renewal_does_not_replace_a_newer_enrolment() {
        let (_place, folder) = folder();
        folder.enrol(&identity("01")).unwrap();
        folder.enrol(&identity("02")).unwrap();
        let error = folder.replace("01", &identity("03")).unwrap_err();
        assert!(matches!(error, IdentityError::Replaced), "{error}");
        assert_eq!(serial(&folder).as_deref(), Some("02"));
        folder.replace("02", &identity("03")).unwrap();
        assert_eq!(serial(&folder).as_deref(), Some("03"));
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let (place, folder) = folder();
        folder.enrol(&identity("01")).unwrap();
        let path = place.path().join(FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = folder.load().unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { .. }), "{error}");
        fs::set_permissions(place.path(), Permissions::from_mode(0o750)).unwrap();
        let error = IdentityFolder::open(place.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { .. }), "{error}");
    }

    #[test]
    fn a_torn_temporary_is_neither_read_nor_in_the_way() {
        let (place, folder) = folder();
        fs::write(place.path().join(TEMPORARY), "{\"instanceId\": \"012").unwrap();
        assert_eq!(serial(&folder), None);
        folder.enrol(&identity("01")).unwrap();
        assert_eq!(serial(&folder).as_deref(), Some("01"));
    }

    #[test]
    fn a_file_that_is_not_ours_is_named() {
        let (place, folder) = folder();
        let path = place.path().join(FILE);
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = folder.load().unwrap_err();
        assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
    }
}
