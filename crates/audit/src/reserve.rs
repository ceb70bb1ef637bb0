//! The reserve: a preallocated file that is given up when the disk is really full, so that the few
//! calls that must not fail still find room for their records.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

pub(crate) const NAME: &str = "reserve";

/// Whether an error says that the disk or the quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The reserve file.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    file: File,
    size: u64,
    held: bool,
}

impl Reserve {
    /// Opens or creates the reserve; on a full disk it is not held.
    pub(crate) fn open(dir: &Path, size: u64) -> io::Result<Self> {
        let path = dir.join(NAME);
        let options = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .clone();
        let file = options.open(&path)?;
        let mut reserve = Self {
            path,
            file,
            size,
            held: false,
        };
        reserve.establish()?;
        Ok(reserve)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the space is held, trying to take it back when it was given up.
    pub(crate) fn is_whole(&mut self) -> bool {
        if !self.held && self.establish().unwrap_or(false) {
            tracing::info!(path = ?self.path, "audit reserve is whole again");
        }
        self.held
    }

    /// Gives the space up, for records and proofs that must not fail.
    pub(crate) fn give_up(&mut self) {
        if self.held {
            tracing::error!(path = ?self.path, "disk is full: audit reserve given up");
        }
        if let Err(error) = self.release() {
            tracing::error!(path = ?self.path, %error, "audit reserve cannot be given up");
        }
    }

    /// Takes the space if it is free; returns whether it is held.
    fn establish(&mut self) -> io::Result<bool> {
        if self.is_allocated()? {
            self.held = true;
        } else if self.has_room()? {
            self.held = self.allocate()?;
        }
        Ok(self.held)
    }

    fn release(&mut self) -> io::Result<()> {
        self.held = false;
        self.file.set_len(0)?;
        // Journaling file systems hand freed blocks out only after the commit.
        self.file.sync_all()
    }

    fn is_allocated(&self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        Ok(metadata.len() == self.size && metadata.blocks() * 512 >= self.size)
    }

    fn has_room(&self) -> io::Result<bool> {
        let fs = fstatvfs(&self.file)?;
        let held = self.file.metadata()?.blocks() * 512;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize).saturating_add(held) > self.size)
    }

    fn allocate(&mut self) -> io::Result<bool> {
        self.file.set_len(0)?;
        if self.size > 0 {
            match fallocate(&self.file, FallocateFlags::empty(), 0, self.size) {
                Ok(()) => {}
                Err(error) if is_full(&error.into()) => {
                    self.file.set_len(0)?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.file.sync_all()?;
        Ok(true)
    }
}
