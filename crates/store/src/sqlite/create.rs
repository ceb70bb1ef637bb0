//! Making a store: complete and synced under a working name, then renamed without replacing anything.
//!
//! A crash on the way leaves only the working file, which the next attempt takes over.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;

use super::file::{self, FileError, Lock, Place};
use super::{Options, schema};

/// Why a store was not made. Nothing that was there before was changed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The place cannot hold a store.
    #[error(transparent)]
    File(#[from] FileError),

    /// Something is there already, be it a store or what remains of one.
    #[error("{path:?} exists already")]
    Exists {
        /// What exists.
        path: PathBuf,
    },

    /// A system call failed.
    #[error("the new store {path:?} cannot be written")]
    Write {
        /// The path of the working file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// SQLite failed.
    #[error("the new store {path:?} cannot be filled")]
    Engine {
        /// The path of the working file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

pub(super) fn create(path: &Path, options: &Options) -> Result<(), CreateError> {
    let place = Place::find(path, options)?;
    check_nothing_there(&place)?;
    let work = Place {
        path: place.beside(".new"),
        directory: place.directory.clone(),
    };
    let write_error = |source| CreateError::Write {
        path: work.path.clone(),
        source,
    };

    let lock = claim(&work)?;
    fill(&work.path).map_err(|source| CreateError::Engine {
        path: work.path.clone(),
        source,
    })?;
    lock.file().sync_all().map_err(write_error)?;
    publish(&work, &place)?;
    place.sync_directory().map_err(write_error)
}

/// A log without its database would be replayed into the new one, so every remainder counts.
fn check_nothing_there(place: &Place) -> Result<(), CreateError> {
    for suffix in ["", "-wal", "-journal", "-shm"] {
        let path = place.beside(suffix);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(CreateError::Exists { path });
        }
    }
    Ok(())
}

/// Takes the working file for this process and empties it.
fn claim(work: &Place) -> Result<Lock, CreateError> {
    let write_error = |source| CreateError::Write {
        path: work.path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32)
        .open(&work.path)
        .map_err(write_error)?;
    let lock = Lock::take(file, work)?;
    // Another process may have finished, and renamed this very file into a store, before we had the lock.
    if !file::is_at(lock.file(), &work.path).map_err(write_error)? {
        return Err(FileError::InUse {
            path: work.path.clone(),
        }
        .into());
    }
    lock.file().set_len(0).map_err(write_error)?;
    file::restrict(&work.path).map_err(write_error)?;
    for suffix in ["-wal", "-journal", "-shm"] {
        remove_if_there(&work.beside(suffix)).map_err(write_error)?;
    }
    Ok(lock)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Writes an empty store and moves all of it out of the log, which SQLite then removes.
fn fill(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    connection.pragma_update(None, "page_size", schema::PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    schema::create(&connection)?;
    // Closing would do the same, but keep an error to itself.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)
}

fn publish(work: &Place, place: &Place) -> Result<(), CreateError> {
    let write_error = |source| CreateError::Write {
        path: work.path.clone(),
        source,
    };
    let renamed =
        rustix::fs::renameat_with(CWD, &work.path, CWD, &place.path, RenameFlags::NOREPLACE);
    match renamed {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            remove_if_there(&work.path).map_err(write_error)?;
            Err(CreateError::Exists {
                path: place.path.clone(),
            })
        }
        Err(error) => Err(write_error(error.into())),
    }
}
