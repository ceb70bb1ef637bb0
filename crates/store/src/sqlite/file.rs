//! The file around the database: where it may live, who owns it, and what its header says before SQLite touches it.
//!
//! SQLite creates, repairs and rolls back as it opens; a store must be refused before any of that happens.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::Options;
use super::schema::{APPLICATION_ID, FORMAT, PAGE_BYTES};

/// Owner only: the records are sealed, the names in their keys are not.
const MODE: u32 = 0o600;

/// A kind of file system on which a store is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// Its locks and syncs depend on a server: never accepted.
    Network(&'static str),
    /// It may vanish with the container or the machine's memory: accepted only by an explicit option.
    Ephemeral(&'static str),
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(name) => write!(f, "{name}, a network file system"),
            Self::Ephemeral(name) => write!(f, "{name}, which may not outlive the container"),
        }
    }
}

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
        let kind = rustix::fs::statfs(&place.directory)
            .map_err(|e| unusable(e.into()))?
            .f_type;
        match filesystem(kind) {
            Some(Filesystem::Ephemeral(_)) if options.danger_allow_ephemeral => Ok(place),
            Some(filesystem) => Err(FileError::Filesystem {
                path: place.path,
                filesystem,
            }),
            None => Ok(place),
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

    fn fail(&self, source: impl Into<io::Error>) -> FileError {
        FileError::Open {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

/// Recognizes file systems by the numbers of statfs(2).
fn filesystem(kind: rustix::fs::FsWord) -> Option<Filesystem> {
    use Filesystem::{Ephemeral, Network};
    // The number has 32 bits on every architecture; some sign-extend it.
    let found = match kind as u32 {
        0x6969 => Network("NFS"),
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => Network("SMB"),
        0x0102_1997 => Network("9P"),
        0x5346_414F | 0x6B41_4653 => Network("AFS"),
        0x00C3_6400 => Network("Ceph"),
        0x0BD0_0BD0 => Network("Lustre"),
        0x0116_1970 => Network("GFS2"),
        0x7461_636F => Network("OCFS2"),
        0x4750_4653 => Network("GPFS"),
        0x7375_7245 => Network("Coda"),
        0x564C => Network("NCP"),
        0x786F_4256 => Network("a VirtualBox shared folder"),
        0x794C_7630 => Ephemeral("overlay"),
        0x0102_1994 => Ephemeral("tmpfs"),
        0x8584_58F6 => Ephemeral("ramfs"),
        0x6573_5546 => Ephemeral("FUSE"),
        _ => return None,
    };
    Some(found)
}

/// Opens and locks the file without changing it. The lock lives as long as the returned file.
///
/// Closing any descriptor of the file drops the POSIX locks that SQLite itself takes in this process, so this one must
/// outlive the connection; `flock` belongs to the descriptor and excludes other owners in this process too.
pub(super) fn lock(place: &Place) -> Result<File, FileError> {
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
    exclude_others(&file, place)?;
    Ok(file)
}

/// Takes the lock or says who cannot have it.
pub(super) fn exclude_others(file: &File, place: &Place) -> Result<(), FileError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(FileError::InUse {
            path: place.path.clone(),
        }),
        Err(error) => Err(place.fail(error)),
    }
}

/// Whether this descriptor is still what the path names.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    let named = fs::symlink_metadata(path)?;
    Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
}

/// Takes the rights of group and others away: a kubelet that applies an `fsGroup` adds them at every mount.
pub(super) fn restrict(file: &File, place: &Place) -> Result<(), FileError> {
    let mode = file
        .metadata()
        .map_err(|error| place.fail(error))?
        .permissions()
        .mode()
        & 0o7777;
    if mode == MODE {
        return Ok(());
    }
    tracing::warn!(path = ?place.path, mode = format!("{mode:04o}"), "store file was readable by others");
    file.set_permissions(fs::Permissions::from_mode(MODE))
        .map_err(|error| place.fail(error))
}

/// Refuses files that SQLite would roll back into the database.
pub(super) fn check_neighbours(place: &Place) -> Result<(), FileError> {
    let journal = place.beside("-journal");
    if fs::symlink_metadata(&journal).is_ok() {
        return Err(FileError::Stray { path: journal });
    }
    Ok(())
}

/// Checks that the header is one that we wrote, of a version that we know, over a file that is all there.
pub(super) fn check_header(file: &File, place: &Place) -> Result<(), FileError> {
    let path = || place.path.clone();
    let found = file.metadata().map_err(|error| place.fail(error))?.len();
    let mut bytes = [0; 100];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(FileError::NotADatabase { path: path() });
        }
        Err(error) => return Err(place.fail(error)),
    }
    let header = Header(bytes);
    if !header.is_sqlite() {
        return Err(FileError::NotADatabase { path: path() });
    }
    let application_id = header.number(68);
    if application_id != APPLICATION_ID {
        return Err(FileError::Foreign {
            path: path(),
            application_id,
        });
    }
    if header.number(60) != FORMAT {
        return Err(FileError::Format {
            path: path(),
            found: header.number(60),
        });
    }
    if let Some(what) = header.change() {
        return Err(FileError::Header { path: path(), what });
    }
    // A crash in a checkpoint leaves a short file behind a new header; the rest is then still in the log.
    let expected = u64::from(header.number(28)) * u64::from(PAGE_BYTES);
    if found < expected && !place.has_wal() {
        return Err(FileError::Truncated {
            path: path(),
            found,
            expected,
        });
    }
    Ok(())
}

/// The first bytes of a database: <https://sqlite.org/fileformat2.html#the_database_header>.
struct Header([u8; 100]);

impl Header {
    fn is_sqlite(&self) -> bool {
        self.0.starts_with(b"SQLite format 3\0")
    }

    fn number(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_be_bytes(bytes)
    }

    /// What differs from the headers that we write.
    fn change(&self) -> Option<&'static str> {
        const WAL: [u8; 2] = [2, 2];
        if self.0[18..20] != WAL {
            return Some("it is not in write-ahead mode");
        }
        if u32::from(u16::from_be_bytes([self.0[16], self.0[17]])) != PAGE_BYTES {
            return Some("its page size is another");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_ephemeral_and_local_ones() {
        assert_eq!(filesystem(0x6969), Some(Filesystem::Network("NFS")));
        assert_eq!(filesystem(0xFF53_4D42), Some(Filesystem::Network("SMB")));
        assert_eq!(
            filesystem(0x794C_7630),
            Some(Filesystem::Ephemeral("overlay"))
        );
        assert_eq!(filesystem(0xEF53), None);
    }
}
