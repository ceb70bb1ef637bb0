//! The file around the database: where it may live, who owns it, and what may lie beside it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, StatFs};
use rustix::io::Errno;

use super::Options;
use super::filesystem::{Filesystem, unfit};
use super::schema::FORMAT;

/// Owner only: the records are sealed, the names in their keys are not.
const MODE: u32 = 0o600;

/// Why a file, or the place of a file to be made, is refused. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path names no file in a directory.
    #[error("{path:?} does not name a file")]
    NoName {
        /// The path as given.
        path: PathBuf,
    },

    /// The directory is not there or cannot be read.
    #[error("the directory of the store {path:?} cannot be used")]
    Directory {
        /// The path of the store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The file system cannot keep what was acknowledged.
    #[error("{path:?} is on {filesystem}; a store needs a local disk")]
    Filesystem {
        /// The path of the store.
        path: PathBuf,
        /// The kind of file system.
        filesystem: Filesystem,
    },

    /// There is no store: it is made by an explicit act only.
    #[error("there is no store at {path:?}")]
    Missing {
        /// The path of the store.
        path: PathBuf,
    },

    /// A system call failed.
    #[error("the store {path:?} cannot be opened")]
    Open {
        /// The path of the store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// It is a link, a directory, a device or a socket.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// The path of the store.
        path: PathBuf,
    },

    /// Another process, or another part of this one, has it open.
    #[error("the store {path:?} is in use")]
    InUse {
        /// The path of the store.
        path: PathBuf,
    },

    /// The file is no SQLite database at all.
    #[error("{path:?} is not a database")]
    NotADatabase {
        /// The path of the store.
        path: PathBuf,
    },

    /// It is a database of some other program.
    #[error("{path:?} is a database of another program (application id {application_id:#010x})")]
    Foreign {
        /// The path of the store.
        path: PathBuf,
        /// What its header says.
        application_id: u32,
    },

    /// It was made by another version of this program.
    #[error("the store {path:?} has format {found}, this program knows format {FORMAT}")]
    Format {
        /// The path of the store.
        path: PathBuf,
        /// What its header says.
        found: u32,
    },

    /// The header is ours, but not as we leave it.
    #[error("the header of the store {path:?} was changed: {what}")]
    Header {
        /// The path of the store.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },

    /// The end of the file is missing.
    #[error("the store {path:?} was cut off: it has {found} bytes of {expected}")]
    Truncated {
        /// The path of the store.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length its header tells.
        expected: u64,
    },

    /// A file that SQLite would take as part of the store, but that we never leave.
    #[error("{path:?} lies beside the store and does not belong to it")]
    Stray {
        /// The path of that file.
        path: PathBuf,
    },
}

/// The resolved path of a store. It is absolute, so that SQLite never takes it for a URI.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) path: PathBuf,
}

impl Place {
    /// Resolves the directory and checks its file system.
    pub(super) fn find(path: &Path, options: &Options) -> Result<Self, FileError> {
        let name = path.file_name().ok_or_else(|| FileError::NoName {
            path: path.to_owned(),
        })?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let unusable = |source| FileError::Directory {
            path: path.to_owned(),
            source,
        };
        let directory = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(unusable)?;
        let place = Self {
            path: directory.join(name),
            directory,
        };
        let directory = rustix::fs::statfs(&place.directory);
        place.check_filesystem(&directory.map_err(|error| unusable(error.into()))?, options)?;
        Ok(place)
    }

    fn check_filesystem(&self, found: &StatFs, options: &Options) -> Result<(), FileError> {
        match unfit(found.f_type) {
            Some(Filesystem::Ephemeral(_)) if options.danger_allow_ephemeral => Ok(()),
            Some(filesystem) => Err(FileError::Filesystem {
                path: self.path.clone(),
                filesystem,
            }),
            None => Ok(()),
        }
    }

    /// The path of a file that SQLite keeps beside the database.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Whether changes wait in the write-ahead log.
    pub(super) fn has_wal(&self) -> bool {
        fs::metadata(self.beside("-wal")).is_ok_and(|wal| wal.len() > 0)
    }

    pub(super) fn fail(&self, source: impl Into<io::Error>) -> FileError {
        FileError::Open {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

/// The right to a file: other processes, and other parts of this one, are refused while it lives.
///
/// Closing any descriptor of a file drops the POSIX locks that SQLite itself takes in this process, so this must outlive
/// the connection.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock, or says that another has it.
    pub(super) fn take(file: File, place: &Place) -> Result<Self, FileError> {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(FileError::InUse {
                path: place.path.clone(),
            }),
            Err(error) => Err(place.fail(error)),
        }
    }

    /// The file locked.
    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it locked as long as a process that was just forked has not run its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Opens and locks the file without changing it.
pub(super) fn lock(place: &Place, options: &Options) -> Result<Lock, FileError> {
    let path = || place.path.clone();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32)
        .open(&place.path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => FileError::Missing { path: path() },
        Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => FileError::NotAFile { path: path() },
        _ => place.fail(error),
    })?;
    if !file
        .metadata()
        .map_err(|error| place.fail(error))?
        .is_file()
    {
        return Err(FileError::NotAFile { path: path() });
    }
    // The file itself may be a mount of its own.
    let found = rustix::fs::fstatfs(&file).map_err(|error| place.fail(error))?;
    place.check_filesystem(&found, options)?;
    Lock::take(file, place)
}

/// Whether this descriptor is still what the path names.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let named = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        named => named?,
    };
    let held = file.metadata()?;
    Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
}

/// Takes the rights of group and others away: a kubelet that applies an `fsGroup` adds them at every mount.
pub(super) fn restrict(path: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
    if mode == MODE {
        return Ok(());
    }
    tracing::warn!(
        ?path,
        mode = format!("{mode:04o}"),
        "others had rights on a file of the store"
    );
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
}

/// Refuses files that SQLite would roll back into the database.
pub(super) fn check_neighbours(place: &Place) -> Result<(), FileError> {
    let journal = place.beside("-journal");
    if fs::symlink_metadata(&journal).is_ok() {
        return Err(FileError::Stray { path: journal });
    }
    Ok(())
}
