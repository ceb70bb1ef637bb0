//! The two files beside the segments: `certificates` (one JSON line each) and `checkpoints` (notes
//! one after the other, each of a fixed number of lines). Both only grow and are synced before
//! what they hold is used.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Take, Write},
    path::{Path, PathBuf},
};

use crate::{
    certificate::CheckpointCertificate,
    checkpoint::{self, Checkpoint},
};

pub(crate) const CERTIFICATES: &str = "certificates";
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Longer than any line of either file.
const LINE_MAX: u64 = 4096;

/// What the readers of these files found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// An entry.
    Entry(T),
    /// Bytes that are no entry.
    Malformed,
    /// The file ends within an entry, after these many bytes of it.
    Torn(u64),
    /// The file ends.
    End,
}

/// Reads entries of a fixed number of lines, in bounded memory, up to where the file ended when it
/// was opened: a writer may go on, and what it proves later is not in the records read before.
/// A missing file is an empty one.
pub(crate) struct Entries {
    input: Option<BufReader<Take<File>>>,
    lines: usize,
    entry: Vec<u8>,
    /// Entries so far.
    pub(crate) count: u64,
    /// Bytes of whole entries so far.
    pub(crate) offset: u64,
}

impl Entries {
    pub(crate) fn checkpoints(dir: &Path) -> io::Result<Self> {
        Self::open(&dir.join(CHECKPOINTS), checkpoint::LINES)
    }

    pub(crate) fn certificates(dir: &Path) -> io::Result<Self> {
        Self::open(&dir.join(CERTIFICATES), 1)
    }

    fn open(path: &Path, lines: usize) -> io::Result<Self> {
        let input = match File::open(path) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Some(BufReader::new(file.take(length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            input,
            lines,
            entry: Vec::new(),
            count: 0,
            offset: 0,
        })
    }

    /// Reads the next entry and parses it with `parse`.
    pub(crate) fn next<T>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> io::Result<Next<T>> {
        let Some(input) = &mut self.input else {
            return Ok(Next::End);
        };
        self.entry.clear();
        for _ in 0..self.lines {
            let read = input.take(LINE_MAX).read_until(b'\n', &mut self.entry)?;
            if read as u64 == LINE_MAX {
                return Ok(Next::Malformed);
            }
            if self.entry.last() != Some(&b'\n') || read == 0 {
                let torn = self.entry.len() as u64;
                return Ok(if torn == 0 {
                    Next::End
                } else {
                    Next::Torn(torn)
                });
            }
        }
        let Some(entry) = parse(&self.entry) else {
            return Ok(Next::Malformed);
        };
        self.count += 1;
        self.offset += self.entry.len() as u64;
        Ok(Next::Entry(entry))
    }

    pub(crate) fn next_certificate(&mut self) -> io::Result<Next<CheckpointCertificate>> {
        self.next(CheckpointCertificate::parse_line)
    }

    pub(crate) fn next_checkpoint(&mut self) -> io::Result<Next<Checkpoint>> {
        self.next(|bytes| Checkpoint::parse(str::from_utf8(bytes).ok()?).ok())
    }
}

/// Appends entries to one file, each synced before `append` returns.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    file: File,
    length: u64,
    /// Set when the file's end is no longer known.
    broken: bool,
}

impl Appender {
    /// Opens or creates the file and cuts what follows `length`, the end of its last entry.
    pub(crate) fn open(path: PathBuf, length: u64) -> io::Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(Self {
            path,
            file,
            length,
            broken: false,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an entry. After an error nothing of it is in the file.
    pub(crate) fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier write left the file's end unknown",
            ));
        }
        if let Err(error) = self.file.write_all(entry) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        // After a failed sync the kernel may have dropped the pages: their state is unknown.
        self.file.sync_data().inspect_err(|_| self.broken = true)?;
        self.length += entry.len() as u64;
        Ok(())
    }
}
