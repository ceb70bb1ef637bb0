//! The PIN file, and the memory of a PIN that was refused. A token locks itself after a few wrong PINs, so a refused one
//! is not tried again until its file is replaced: inode and time are remembered, never a hash.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files;

/// No module takes a longer PIN.
const PIN_MAX: u64 = 255;
const READABLE_BY_OTHERS: u32 = 0o007;

/// Why there is no PIN to try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// The file cannot be read.
    #[error("the PIN file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Everybody can read the file.
    #[error("the PIN file {} has mode {mode:04o}, so that everybody can read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds no PIN.
    #[error("the PIN file {} does not hold 1 to {PIN_MAX} bytes", path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// The token refused this very file.
    #[error(
        "the token refused the PIN in {}; it is not tried again until that file is replaced",
        path.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// It is not known whether the token refused this file.
    #[error("the record of a refused PIN, {}, cannot be used; remove it to try the PIN once", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Which file it was. A file that is replaced or written to is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileIdentity {
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// A PIN with the file that it came from.
pub(crate) struct Pin {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    identity: FileIdentity,
}

/// Where the PIN is, and where a refusal is remembered.
#[derive(Debug, Clone)]
pub(crate) struct PinFile {
    path: PathBuf,
    refused: PathBuf,
}

impl PinFile {
    pub(crate) const fn new(path: PathBuf, refused: PathBuf) -> Self {
        Self { path, refused }
    }

    /// Reads the PIN unless the token refused this file before.
    pub(crate) fn read(&self) -> Result<Pin, PinError> {
        let failed = |source| PinError::Read {
            path: self.path.clone(),
            source,
        };
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & READABLE_BY_OTHERS != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(PinError::Exposed {
                path: self.path.clone(),
                mode,
            });
        }
        let identity = FileIdentity {
            inode: metadata.ino(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        };
        if self.refused()? == Some(identity) {
            return Err(PinError::Refused {
                path: self.path.clone(),
            });
        }
        let bytes = read_pin(file).map_err(failed)?;
        if bytes.is_empty() || bytes.len() as u64 > PIN_MAX {
            return Err(PinError::Length {
                path: self.path.clone(),
            });
        }
        Ok(Pin { bytes, identity })
    }

    /// Prepares the record of a refusal before the PIN is tried: on a full disk a refusal would be forgotten, and the
    /// token would lock itself after a few more tries.
    pub(crate) fn prepare(&self, pin: &Pin) -> Result<Refusal<'_>, PinError> {
        let next = files::next_to(&self.refused);
        let record = serde_json::to_vec(&pin.identity)
            .map_err(io::Error::from)
            .and_then(|record| files::write_anew(&next, &record, 0o600));
        record.map_err(self.failed())?;
        Ok(Refusal { file: self, next })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> PinError {
        let path = self.refused.clone();
        move |source| PinError::Record { path, source }
    }

    fn refused(&self) -> Result<Option<FileIdentity>, PinError> {
        let failed = |source| PinError::Record {
            path: self.refused.clone(),
            source,
        };
        match std::fs::read(&self.refused) {
            Ok(record) => serde_json::from_slice(&record)
                .map(Some)
                .map_err(|e| failed(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// A refusal that is on disk, and does not count yet.
pub(crate) struct Refusal<'a> {
    file: &'a PinFile,
    next: PathBuf,
}

impl Refusal<'_> {
    /// The token refused the PIN: the file is not tried again.
    pub(crate) fn happened(self) -> Result<(), PinError> {
        files::rename(&self.next, &self.file.refused).map_err(self.file.failed())
    }

    /// The token took the PIN, or failed for another reason.
    pub(crate) fn did_not_happen(self) -> Result<(), PinError> {
        files::remove_if_there(&self.next).map_err(self.file.failed())
    }
}

/// Reads a PIN without the newline that editors leave, into a buffer that never grows.
fn read_pin(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PIN_MAX as usize + 2));
    file.take(PIN_MAX + 2).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn place(pin: &str, mode: u32) -> (tempfile::TempDir, PinFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        fs::write(&path, pin).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = PinFile::new(path, folder.path().join("pin-refused"));
        (folder, file)
    }

    #[test]
    fn an_editors_newline_is_not_part_of_the_pin() {
        let (_folder, file) = place("1234\n", 0o400);
        assert_eq!(file.read().map(|pin| pin.bytes.to_vec()).unwrap(), b"1234");
    }

    #[test]
    fn a_refused_pin_is_not_given_again_until_the_file_is_replaced() {
        let (folder, file) = place("1234", 0o400);
        file.prepare(&file.read().unwrap())
            .unwrap()
            .happened()
            .unwrap();
        assert!(matches!(file.read(), Err(PinError::Refused { .. })));

        let next = folder.path().join("next");
        fs::write(&next, "5678").unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o400)).unwrap();
        fs::rename(next, folder.path().join("pin")).unwrap();
        assert_eq!(file.read().map(|pin| pin.bytes.to_vec()).unwrap(), b"5678");
    }

    #[test]
    fn a_pin_that_was_taken_leaves_no_record() {
        let (folder, file) = place("1234", 0o400);
        let left_by_a_crash = file.prepare(&file.read().unwrap()).unwrap();
        drop(left_by_a_crash);
        file.prepare(&file.read().unwrap())
            .unwrap()
            .did_not_happen()
            .unwrap();
        assert!(file.read().is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_pin_is_not_tried_when_its_refusal_could_not_be_kept() {
        let (folder, file) = place("1234", 0o400);
        fs::create_dir(folder.path().join("pin-refused.next")).unwrap();
        let refusal = file.prepare(&file.read().unwrap());
        assert!(matches!(refusal, Err(PinError::Record { .. })));
    }

    #[test]
    fn a_pin_that_everybody_can_read_is_refused() {
        let (_folder, file) = place("1234", 0o444);
        assert!(matches!(
            file.read(),
            Err(PinError::Exposed { mode: 0o444, .. })
        ));
    }

    #[test]
    fn a_record_that_cannot_be_read_stops_the_login() {
        let (folder, file) = place("1234", 0o400);
        fs::write(folder.path().join("pin-refused"), "{").unwrap();
        assert!(matches!(file.read(), Err(PinError::Record { .. })));
    }

    #[test]
    fn an_empty_or_endless_file_holds_no_pin() {
        for pin in ["", "\n", &"x".repeat(300)] {
            let (_folder, file) = place(pin, 0o400);
            assert!(
                matches!(file.read(), Err(PinError::Length { .. })),
                "{pin:?}"
            );
        }
    }
}
