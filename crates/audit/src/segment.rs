//! Segment files `log-<index of the first record, 20 digits>.jsonl`: names, and lines in bounded
//! memory.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use crate::record::MAX_RECORD_BYTES;

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of its first record, as its name says.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

/// The path of the segment that begins with `first`.
pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("log-{first:020}.jsonl"))
}

/// The segments of a folder by their first index. Other names are not looked at, except names
/// that begin like a segment's: they are returned as the error.
pub(crate) fn list(dir: &Path) -> io::Result<Result<Vec<Segment>, PathBuf>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let Some(rest) = name.strip_prefix("log-") else {
            continue;
        };
        let digits = rest.strip_suffix(".jsonl").filter(|d| d.len() == 20);
        let first = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        match first.and_then(|d| d.parse().ok()) {
            Some(first) => segments.push(Segment { first, path }),
            None => return Ok(Err(path)),
        }
    }
    segments.sort_by_key(|s| s.first);
    Ok(Ok(segments))
}

/// What `Lines::next` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line is in the buffer, its newline included.
    Line,
    /// The file ends with these many bytes and no newline.
    Torn(u64),
    /// A line is longer than a record may be.
    TooLong,
    /// The file ends.
    End,
}

/// Reads a file line by line; no line is longer than a record may be.
pub(crate) struct Lines {
    input: BufReader<File>,
    /// Bytes of whole lines so far.
    pub(crate) offset: u64,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            input: BufReader::with_capacity(1 << 18, File::open(path)?),
            offset: 0,
        })
    }

    /// Replaces `line` with the next one.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        line.clear();
        let read = (&mut self.input)
            .take(MAX_RECORD_BYTES as u64)
            .read_until(b'\n', line)?;
        if read == 0 {
            return Ok(Next::End);
        }
        if line.last() == Some(&b'\n') {
            self.offset += read as u64;
            return Ok(Next::Line);
        }
        Ok(if read == MAX_RECORD_BYTES {
            Next::TooLong
        } else {
            Next::Torn(read as u64)
        })
    }
}
