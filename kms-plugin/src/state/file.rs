//! The file of the highest position: written to a second name, synced, renamed, and the folder synced, so that a kill
//! or a power cut at any moment leaves the old or the new one. One process at a time holds it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};
use strongroom_runtime::fault;

use super::HighWater;

const FILE_MODE: u32 = 0o600;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
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
    /// The file is not one of ours. It is not replaced: what it should say is unknown.
    #[error("the state {} is not readable as such", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Another process uses it.
    #[error("another process holds the state {}", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
}

impl StateError {
    /// Whether the folder is not there or closed to us, as the folder below a mount may be.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::System { source, .. } if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            )
        )
    }
}

/// The state on disk, held until it is dropped.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    folder: File,
    _lock: File,
}

impl StateFile {
    /// Takes the state and reads it; it is absent before the first contact.
    ///
    /// # Errors
    ///
    /// When the folder is missing, another process holds the state, or the file cannot be understood.
    pub fn open(path: &Path) -> Result<(Self, Option<HighWater>), StateError> {
        let parent = folder_of(path);
        let folder = File::open(parent).map_err(system("open the state's folder", parent))?;
        let lock = lock(path)?;
        let seen = load(path)?;
        Ok((
            Self {
                path: path.to_owned(),
                folder,
                _lock: lock,
            },
            seen,
        ))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether another folder is now where this one was: a volume was mounted over it. One that is gone covers nothing.
    pub fn is_covered(&self) -> bool {
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let held = self.folder.metadata().map(place);
        let there = fs::metadata(folder_of(&self.path)).map(place);
        matches!((held, there), (Ok(held), Ok(there)) if held != there)
    }

    /// Replaces what the file says; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// When a write or a sync fails; the file then says what it said before, or the new state.
    pub fn write(&self, seen: &HighWater) -> Result<(), StateError> {
        let temporary = sibling(&self.path, "~");
        let mut text = serde_json::to_vec_pretty(seen).map_err(|source| StateError::Malformed {
            path: self.path.clone(),
            source,
        })?;
        text.push(b'\n');
        write_synced(&temporary, &text).map_err(system("write", &temporary))?;
        fault::point!("plugin.state.before-rename");
        fs::rename(&temporary, &self.path).map_err(system("replace", &self.path))?;
        fault::point!("plugin.state.after-rename");
        self.folder
            .sync_all()
            .map_err(system("sync the folder of", &self.path))
    }
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::System { what, path, source }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Returns a hidden name beside a path.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
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

/// The lock is on a file of its own, since the state's inode changes with each write.
fn lock(path: &Path) -> Result<File, StateError> {
    let name = sibling(path, ".lock");
    let file = options().open(&name).map_err(system("open", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StateError::Held {
            path: path.to_owned(),
        }),
        Err(errno) => Err(system("lock", &name)(errno.into())),
    }
}

fn load(path: &Path) -> Result<Option<HighWater>, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| StateError::Malformed {
            path: path.to_owned(),
            source,
        })
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = options().truncate(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Snapshot, tests::answer};

    fn seen(seq: u64) -> HighWater {
        HighWater::first(&Snapshot::parse(answer(1, seq, 2)).unwrap())
    }

    #[test]
    fn what_was_written_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (file, before) = StateFile::open(&path).unwrap();
        assert_eq!(before, None);
        file.write(&seen(1)).unwrap();
        file.write(&seen(2)).unwrap();
        drop(file);
        assert_eq!(StateFile::open(&path).unwrap().1, Some(seen(2)));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_temporary_is_neither_read_nor_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(folder.path().join(".state.json~"), "{\"instanceId\": \"012").unwrap();
        let (file, before) = StateFile::open(&path).unwrap();
        assert_eq!(before, None);
        file.write(&seen(1)).unwrap();
        drop(file);
        assert_eq!(StateFile::open(&path).unwrap().1, Some(seen(1)));
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for text in ["", "{}", "precious"] {
            fs::write(&path, text).unwrap();
            let error = StateFile::open(&path).unwrap_err();
            assert!(matches!(error, StateError::Malformed { .. }), "{text:?}");
            assert!(!error.is_late());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let _first = StateFile::open(&path).unwrap();
        let error = StateFile::open(&path).unwrap_err();
        assert!(matches!(error, StateError::Held { .. }), "{error}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = StateFile::open(Path::new("/nonexistent/state.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the state's folder /nonexistent"
        );
        assert!(error.is_late());
    }
}
