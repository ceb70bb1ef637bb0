//! What a process holds, as the kernel tells it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

/// Memory and descriptors at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory.
    pub mib: u64,
    /// The same, more finely.
    pub kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(id: i32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{id}"));
        let status = fs::read_to_string(folder.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("the kernel tells it")?
            .parse()?;
        Ok(Self {
            mib: kib / 1024,
            kib,
            descriptors: fs::read_dir(folder.join("fd"))?.count(),
        })
    }
}
