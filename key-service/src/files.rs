//! The small files beside the store: what was pinned at init, and the mark of an init that is not finished.
//!
//! The pins lie outside the store, so that whoever can write the store cannot say which token to believe.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strongroom_core::InstanceId;

/// A file beside the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not what init wrote.
    #[error("{path} is not a file that init wrote")]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Others may read or write the folder.
    #[error("{path} has mode {mode:04o}; it must be 0700, since it holds the store")]
    Mode {
        /// Which.
        path: PathBuf,
        /// What it is.
        mode: u32,
    },
}

/// What was pinned at init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Pin {
    /// The instance, 32 hexadecimal digits.
    pub instance_id: String,
    /// Verifies KEK records: SubjectPublicKeyInfo in DER, hexadecimal.
    pub record_signing_key: String,
    /// Certifies checkpoint keys: SubjectPublicKeyInfo in DER, hexadecimal.
    pub checkpoint_certifying_key: String,
}

/// An init that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Intent {
    instance_id: String,
}

/// What a folder shows of an instance, before anything in it is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Whether there is a store.
    pub(crate) store: bool,
    /// What was pinned at init.
    pub(crate) pin: Option<Pin>,
    /// The instance of an init that was begun and not finished.
    pub(crate) intent: Option<InstanceId>,
}

impl Contents {
    /// Looks into a folder; `None` when it is not there or closed to us, as the folder below a mount may be.
    ///
    /// # Errors
    /// A file in it is there and not readable.
    pub(crate) fn look(folder: &Path, database: &Path) -> Result<Option<Self>, FileError> {
        match fs::read_dir(folder) {
            Err(error) if is_absence(&error) => return Ok(None),
            opened => opened.map(drop).map_err(at(folder))?,
        }
        let data = DataDir(folder.to_owned());
        // What init makes last is looked for first, and its mark, which it removes after all, last: so a look in the middle
        // of an init shows the mark, and one while a volume is being mounted shows less than is there, never more.
        Ok(Some(Self {
            store: database.exists(),
            pin: data.pin()?,
            intent: data.intent()?,
        }))
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

/// The folder of the store.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Takes a folder that is there and that nobody else may enter.
    ///
    /// # Errors
    /// It is missing, no folder, or open to others.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let metadata = fs::metadata(path).map_err(at(path))?;
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_dir() || mode & 0o077 != 0 {
            return Err(FileError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        Ok(Self(path.to_owned()))
    }

    /// What was pinned at init, if anything was.
    ///
    /// # Errors
    /// The file is there and not readable.
    pub(crate) fn pin(&self) -> Result<Option<Pin>, FileError> {
        read(&self.pin_path())
    }

    /// Pins.
    ///
    /// # Errors
    /// The file is not on disk.
    pub(crate) fn write_pin(&self, pin: &Pin) -> Result<(), FileError> {
        write(&self.0, &self.pin_path(), pin)
    }

    /// The instance that an unfinished init chose.
    ///
    /// # Errors
    /// The file is there and not readable.
    pub(crate) fn intent(&self) -> Result<Option<InstanceId>, FileError> {
        let path = self.intent_path();
        let Some(intent) = read::<Intent>(&path)? else {
            return Ok(None);
        };
        let invalid = |_| FileError::Io {
            path,
            source: io::ErrorKind::InvalidData.into(),
        };
        intent.instance_id.parse().map(Some).map_err(invalid)
    }

    /// Marks that init was begun.
    ///
    /// # Errors
    /// The file is not on disk.
    pub(crate) fn write_intent(&self, instance: InstanceId) -> Result<(), FileError> {
        write(
            &self.0,
            &self.intent_path(),
            &Intent {
                instance_id: instance.to_string(),
            },
        )
    }

    /// Marks that init is finished.
    ///
    /// # Errors
    /// The mark is still there.
    pub(crate) fn remove_intent(&self) -> Result<(), FileError> {
        let path = self.intent_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => sync(&self.0),
        }
    }

    fn pin_path(&self) -> PathBuf {
        self.0.join("pin.json")
    }

    fn intent_path(&self) -> PathBuf {
        self.0.join("init-intent.json")
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        path: path.clone(),
        source,
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, FileError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| FileError::Format {
                path: path.to_owned(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes all or nothing: a file beside, synced, then renamed, then the folder synced.
fn write(folder: &Path, path: &Path, content: &impl Serialize) -> Result<(), FileError> {
    let beside = path.with_extension("new");
    let mut text = serde_json::to_vec_pretty(content).map_err(|source| FileError::Format {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(at(&beside))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(at(&beside))?;
    fs::rename(&beside, path).map_err(at(path))?;
    sync(folder)
}

fn sync(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("is ours");
        folder
    }

    #[test]
    fn folder_that_others_may_enter_is_refused() {
        let folder = folder(0o750);
        assert!(matches!(
            DataDir::open(folder.path()),
            Err(FileError::Mode { mode: 0o750, .. })
        ));
    }

    #[test]
    fn pin_and_intent_read_back_what_was_written() {
        let folder = folder(0o700);
        let data = DataDir::open(folder.path()).expect("is ours alone");
        assert_eq!(data.pin().expect("nothing is no error"), None);
        let pin = Pin {
            instance_id: "00".repeat(16),
            record_signing_key: "aa".to_owned(),
            checkpoint_certifying_key: "bb".to_owned(),
        };
        data.write_pin(&pin).expect("can be written");
        assert_eq!(data.pin().expect("is readable"), Some(pin));

        let instance = InstanceId::from_bytes([7; 16]);
        data.write_intent(instance).expect("can be written");
        assert_eq!(data.intent().expect("is readable"), Some(instance));
        data.remove_intent().expect("can be removed");
        data.remove_intent().expect("twice is fine");
        assert_eq!(data.intent().expect("nothing is no error"), None);
    }

    #[test]
    fn look_shows_what_is_there_and_no_more() {
        let folder = folder(0o700);
        let database = folder.path().join("store.db");
        let look = || Contents::look(folder.path(), &database).expect("is readable");
        let mut expected = Contents {
            store: false,
            pin: None,
            intent: None,
        };
        assert_eq!(look().as_ref(), Some(&expected));

        let data = DataDir::open(folder.path()).expect("is ours alone");
        let instance = InstanceId::from_bytes([7; 16]);
        data.write_intent(instance).expect("can be written");
        expected.intent = Some(instance);
        assert_eq!(look().as_ref(), Some(&expected));
        fs::write(&database, "").expect("can be written");
        expected.store = true;
        assert_eq!(look().as_ref(), Some(&expected));

        let missing = folder.path().join("missing");
        assert_eq!(
            Contents::look(&missing, &missing.join("store.db")).expect("absence is no error"),
            None
        );
    }

    #[test]
    fn pin_with_another_field_is_refused() {
        let folder = folder(0o700);
        let data = DataDir::open(folder.path()).expect("is ours alone");
        fs::write(data.pin_path(), r#"{"instanceId":"x","other":1}"#).expect("can be written");
        assert!(matches!(data.pin(), Err(FileError::Format { .. })));
    }
}
