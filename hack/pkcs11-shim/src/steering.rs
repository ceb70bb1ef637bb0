//! The test's side: makes the shared file, reads the counts, sets delays and answers while the module runs.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, fchown},
    path::Path,
    time::Duration,
};

use crate::state::{self, Call, Field};

/// Steers the module at one path. What is set counts for the next call, in whatever process.
#[derive(Debug)]
pub struct Steering {
    file: File,
}

impl Steering {
    /// Makes the shared file of a module, which passes everything on to the real module. The user id is the one of the
    /// process that will load it.
    ///
    /// # Errors
    /// When the file exists or cannot be made, or the path is longer than 1,023 bytes.
    pub fn make(module: &Path, real: &Path, uid: u32) -> io::Result<Self> {
        let content = state::content(real).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the module's path is too long")
        })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(state::path(module))?;
        file.write_all(&content)?;
        fchown(&file, Some(uid), Some(uid))?;
        Ok(Self { file })
    }

    /// How often the module was called so, refused calls among them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self, call: Call) -> io::Result<u64> {
        let mut number = [0; 8];
        self.file
            .read_exact_at(&mut number, state::offset(call, Field::Count) as u64)?;
        Ok(u64::from_le_bytes(number))
    }

    /// Makes a call wait before it does anything; in whole milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delay(&self, call: Call, by: Duration) -> io::Result<()> {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.set(call, Field::Delay, millis)
    }

    /// Makes a call answer with a return value of PKCS#11 instead of asking the real module; 0 asks again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn answer(&self, call: Call, value: u64) -> io::Result<()> {
        self.set(call, Field::Answer, value)
    }

    fn set(&self, call: Call, field: Field, number: u64) -> io::Result<()> {
        let at = state::offset(call, field) as u64;
        self.file.write_all_at(&number.to_le_bytes(), at)
    }
}
