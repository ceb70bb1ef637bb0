//! The header of the file, read before SQLite touches it: SQLite creates, repairs and rolls back as it opens, and a
//! store must be refused before any of that happens.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::file::{FileError, Place};
use super::schema::{APPLICATION_ID, FORMAT, PAGE_BYTES};

/// Checks that the header is one that we wrote, of a version that we know, over a file that is all there.
pub(super) fn check(file: &File, place: &Place) -> Result<(), FileError> {
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
