//! Reading records back, for replay and for people. The chain was checked when the log was opened
//! and is not checked again here.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    record::Record,
    segment::{self, Lines, Next, Segment},
};

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {path:?} of the audit log")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no record or stands in the wrong place.
    #[error("record {index} of the audit log is damaged in {path:?}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Index of the record.
        index: u64,
    },
}

/// An iterator over records; ends after the first error.
pub struct Records {
    segments: std::vec::IntoIter<Segment>,
    current: Option<(Segment, Lines)>,
    /// Index of the next line.
    index: u64,
    /// The first record wanted.
    from: u64,
    /// One after the last record wanted.
    end: u64,
    line: Vec<u8>,
}

impl Records {
    pub(crate) fn open(dir: &Path, from: u64, end: u64) -> Result<Self, ReadError> {
        let failed = |source| ReadError::File {
            path: dir.to_owned(),
            source,
        };
        let mut segments = segment::list(dir)
            .map_err(failed)?
            .map_err(|path| ReadError::Damaged { path, index: from })?;
        let skipped = segments
            .partition_point(|s| s.first <= from)
            .saturating_sub(1);
        segments.drain(..skipped);
        let index = segments.first().map_or(0, |s| s.first);
        let segments = segments.into_iter();
        Ok(Self {
            segments,
            current: None,
            index,
            from,
            end,
            line: Vec::new(),
        })
    }

    fn read(&mut self) -> Result<Option<Record>, ReadError> {
        while self.index < self.end {
            let Some((segment, lines)) = &mut self.current else {
                let Some(segment) = self.segments.next() else {
                    return Ok(None);
                };
                let lines = Lines::open(&segment.path).map_err(|e| failed(&segment, e))?;
                self.current = Some((segment, lines));
                continue;
            };
            match lines.next(&mut self.line).map_err(|e| failed(segment, e))? {
                Next::Line => {
                    let index = self.index;
                    self.index += 1;
                    if index < self.from {
                        continue;
                    }
                    let record = Record::parse_line(&self.line).filter(|r| r.index == index);
                    let path = segment.path.clone();
                    return record.map(Some).ok_or(ReadError::Damaged { path, index });
                }
                Next::End => self.current = None,
                Next::Torn(_) | Next::TooLong => {
                    let path = segment.path.clone();
                    return Err(ReadError::Damaged {
                        path,
                        index: self.index,
                    });
                }
            }
        }
        Ok(None)
    }
}

fn failed(segment: &Segment, source: io::Error) -> ReadError {
    ReadError::File {
        path: segment.path.clone(),
        source,
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.end = 0;
        }
        read.transpose()
    }
}
