//! The file `origin`, by which a folder says whose log it holds. It is there before the first record: without it, the
//! folder below a disk that is mounted late would look like a log that has no records yet.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    origin::Origin,
    proofs::{CERTIFICATES, CHECKPOINTS},
    recovery::OpenError,
};

const NAME: &str = "origin";
/// Where it is written before it gets its name.
const WORKING_NAME: &str = "origin.new";

/// Why no log was begun in a folder. What was there is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {path:?} of the audit log")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another log is there, or records that say nothing of their log.
    #[error("{dir:?} holds an audit log already, {found}")]
    Taken {
        /// The folder.
        dir: PathBuf,
        /// Whose log.
        found: String,
    },
}

/// What a folder shows of a log.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    /// Nothing: it is new, or it is the folder below a disk that is not mounted.
    Nothing,
    /// Files of a log that was begun when there was no `origin` yet.
    Files,
    /// What `origin` says.
    Origin(String),
}

/// Begins the log of `origin` in a folder, which is made if it is not there. Again for the same log it changes nothing.
pub(crate) fn begin(dir: &Path, origin: &Origin) -> Result<(), BeginError> {
    let failed = |source| BeginError::File {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let found = match look(dir).map_err(failed)? {
        Sight::Nothing => return write(dir, origin).map_err(failed),
        Sight::Origin(found) if found == origin.to_string() => return Ok(()),
        Sight::Origin(found) => found,
        Sight::Files => "of which instance it does not say".to_owned(),
    };
    Err(BeginError::Taken {
        dir: dir.to_owned(),
        found,
    })
}

/// Refuses a folder in which the log of `origin` was not begun; writes nothing.
pub(crate) fn check(dir: &Path, origin: &Origin) -> Result<(), OpenError> {
    match look(dir) {
        Ok(Sight::Files) => Ok(()),
        Ok(Sight::Origin(found)) if found == origin.to_string() => Ok(()),
        Ok(Sight::Origin(found)) => Err(OpenError::OtherLog {
            expected: origin.to_string(),
            found,
        }),
        Ok(Sight::Nothing) => Err(OpenError::NotBegun(dir.to_owned())),
        // The folder below a mount may be closed to us, or not be there.
        Err(error) if is_absence(&error) => Err(OpenError::NotBegun(dir.to_owned())),
        Err(source) => Err(OpenError::File {
            path: dir.to_owned(),
            source,
        }),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

fn look(dir: &Path) -> io::Result<Sight> {
    let mut has_files = false;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        has_files |= name.starts_with("log-") || name == CHECKPOINTS || name == CERTIFICATES;
    }
    match fs::read(dir.join(NAME)) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(Sight::Origin(text.trim_end().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_files => Ok(Sight::Files),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Sight::Nothing),
        Err(error) => Err(error),
    }
}

/// Writes all or nothing: a file beside, synced, then renamed, then the folder synced.
fn write(dir: &Path, origin: &Origin) -> io::Result<()> {
    let beside = dir.join(WORKING_NAME);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(&beside)?;
    writeln!(file, "{origin}")?;
    file.sync_all()?;
    fs::rename(&beside, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(replica: &str) -> Origin {
        Origin::new([7; 16], replica).unwrap()
    }

    #[test]
    fn log_is_begun_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("audit");
        begin(&folder, &origin("one")).unwrap();
        let text = fs::read_to_string(folder.join(NAME)).unwrap();
        assert_eq!(
            text,
            "strongroom.dev/07070707070707070707070707070707/one\n"
        );
        begin(&folder, &origin("one")).unwrap();
        check(&folder, &origin("one")).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn folder_of_another_log_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path(), &origin("one")).unwrap();
        let error = begin(dir.path(), &origin("two")).unwrap_err();
        assert!(matches!(error, BeginError::Taken { .. }), "{error}");
        assert!(error.to_string().ends_with("/one"), "{error}");
        let error = check(dir.path(), &origin("two")).unwrap_err();
        assert!(matches!(error, OpenError::OtherLog { .. }), "{error}");
    }

    #[test]
    fn folder_below_a_mount_is_no_log_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        for folder in [dir.path().to_owned(), dir.path().join("missing")] {
            let error = check(&folder, &origin("one")).unwrap_err();
            assert!(matches!(error, OpenError::NotBegun(_)), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_of_a_log_without_an_origin_are_gone_on_with_but_not_begun_anew() {
        for name in ["log-00000000000000000000.jsonl", CHECKPOINTS, CERTIFICATES] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "").unwrap();
            check(dir.path(), &origin("one")).unwrap();
            let error = begin(dir.path(), &origin("one")).unwrap_err();
            assert!(matches!(error, BeginError::Taken { .. }), "{error}");
        }
    }
}
