//! One writer for each folder, by `flock`. The lock is given back explicitly: a descriptor that a
//! process being forked holds for a moment would keep it otherwise.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

pub(crate) const NAME: &str = "lock";

/// Holds the lock of a folder until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock; `None` when another writer has it.
    pub(crate) fn take(dir: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(NAME))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An error leaves the lock to the closing of the file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
