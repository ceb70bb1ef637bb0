//! Opening a log: reads it once from the start, checks the chain, and compares it with the last
//! checkpoint of the folder and with the one anchored elsewhere. Nothing is written before every
//! check has passed, so a refused log stays as evidence.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    chain::Chain,
    changes::{ChangeError, Changes},
    checkpoint::Checkpoint,
    hash::Hash,
    origin::Origin,
    proofs::{self, Entries},
    record::{Change, Kind},
    segment::{self, Lines, Segment},
};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Options that contradict each other.
    #[error("audit log options are wrong: {0}")]
    Options(&'static str),
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {path:?} of the audit log")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No log was begun in the folder: it is another one, or its disk is not mounted.
    #[error("no audit log was begun in {0:?}")]
    NotBegun(PathBuf),
    /// The folder says that it holds another log.
    #[error("audit log belongs to {found}, not to {expected}")]
    OtherLog {
        /// This log.
        expected: String,
        /// The folder's.
        found: String,
    },
    /// Another process writes this log.
    #[error("audit log {0:?} is in use by another process")]
    InUse(PathBuf),
    /// The folder holds something that a writer of this log never leaves.
    #[error("audit log is inconsistent at record {index} in {path:?}: {what}")]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// Index of the record, or of the entry in `checkpoints` or `certificates`.
        index: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The sequence of control-plane changes is broken.
    #[error("audit log has a wrong change at record {index} in {path:?}")]
    Change {
        /// The file.
        path: PathBuf,
        /// Index of the record.
        index: u64,
        /// What is wrong.
        #[source]
        source: ChangeError,
    },
    /// A checkpoint is about another log.
    #[error("checkpoint is about {found}, this log is {expected}")]
    OtherOrigin {
        /// This log.
        expected: String,
        /// The checkpoint's.
        found: String,
    },
    /// Records that the anchored checkpoint covers are missing or differ.
    #[error(
        "audit log of {log_size} records does not extend the anchored checkpoint of {anchor_size}"
    )]
    DoesNotExtendAnchor {
        /// Records that the anchor covers.
        anchor_size: u64,
        /// Records in the log.
        log_size: u64,
    },
    /// Records that the last checkpoint of the folder covers are missing or differ.
    #[error(
        "audit log of {log_size} records does not extend its own checkpoint of {checkpoint_size}"
    )]
    DoesNotExtendCheckpoint {
        /// Records that the checkpoint covers.
        checkpoint_size: u64,
        /// Records in the log.
        log_size: u64,
    },
    /// The file of checkpoints lost the one that was anchored.
    #[error("the anchored checkpoint of {anchor_size} records is missing from {path:?}")]
    AnchorNotRecorded {
        /// Records that the anchor covers.
        anchor_size: u64,
        /// The file.
        path: PathBuf,
    },
}

/// What a folder holds, found to be consistent.
pub(crate) struct Recovered {
    pub(crate) chain: Chain,
    pub(crate) changes: Changes,
    /// Bytes in all segments.
    pub(crate) used: u64,
    /// The last segment and its length without a torn line.
    pub(crate) tail: Option<(Segment, u64)>,
    /// Bytes of a line that a crash cut; they were never acknowledged.
    pub(crate) torn: u64,
    pub(crate) last_checkpoint: Option<Checkpoint>,
    /// Length of `checkpoints` and `certificates` without a torn entry.
    pub(crate) checkpoints_length: u64,
    pub(crate) certificates_length: u64,
}

/// Reads `dir` and refuses what a writer of `origin` never leaves or what `anchor` contradicts.
pub(crate) fn recover(
    dir: &Path,
    origin: &Origin,
    anchor: Option<&Checkpoint>,
) -> Result<Recovered, OpenError> {
    let checkpoints = read_checkpoints(dir, anchor)?;
    let certificates_length = read_certificates(dir)?;
    for checkpoint in anchor.into_iter().chain(&checkpoints.last) {
        if checkpoint.origin() != origin {
            let (expected, found) = (origin.to_string(), checkpoint.origin().to_string());
            return Err(OpenError::OtherOrigin { expected, found });
        }
    }
    let mut walk = Walk {
        chain: Chain::new(),
        changes: Changes::default(),
        used: 0,
        torn: 0,
        anchor: Expected::new(anchor),
        last: Expected::new(checkpoints.last.as_ref()),
    };
    let tail = walk.segments(dir)?;
    let log_size = walk.chain.next_index();
    if let Some(anchor_size) = walk.anchor.contradicted() {
        return Err(OpenError::DoesNotExtendAnchor {
            anchor_size,
            log_size,
        });
    }
    if let Some(checkpoint_size) = walk.last.contradicted() {
        return Err(OpenError::DoesNotExtendCheckpoint {
            checkpoint_size,
            log_size,
        });
    }
    if let (Some(anchor), false) = (anchor, checkpoints.has_anchor) {
        let path = dir.join(proofs::CHECKPOINTS);
        return Err(OpenError::AnchorNotRecorded {
            anchor_size: anchor.size(),
            path,
        });
    }
    Ok(Recovered {
        chain: walk.chain,
        changes: walk.changes,
        used: walk.used,
        tail,
        torn: walk.torn,
        last_checkpoint: checkpoints.last,
        checkpoints_length: checkpoints.length,
        certificates_length,
    })
}

struct CheckpointsRead {
    last: Option<Checkpoint>,
    has_anchor: bool,
    length: u64,
}

fn read_checkpoints(dir: &Path, anchor: Option<&Checkpoint>) -> Result<CheckpointsRead, OpenError> {
    let path = dir.join(proofs::CHECKPOINTS);
    let failed = |source| OpenError::File {
        path: path.clone(),
        source,
    };
    let mut entries = Entries::checkpoints(dir).map_err(failed)?;
    let (mut last, mut has_anchor) = (None, false);
    loop {
        match entries.next_checkpoint().map_err(failed)? {
            proofs::Next::Entry(checkpoint) => {
                has_anchor |= anchor == Some(&checkpoint);
                last = Some(checkpoint);
            }
            proofs::Next::Malformed => {
                let what = "not a checkpoint";
                return Err(OpenError::Inconsistent {
                    path,
                    index: entries.count,
                    what,
                });
            }
            proofs::Next::Torn(_) | proofs::Next::End => {
                return Ok(CheckpointsRead {
                    last,
                    has_anchor,
                    length: entries.offset,
                });
            }
        }
    }
}

fn read_certificates(dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join(proofs::CERTIFICATES);
    let failed = |source| OpenError::File {
        path: path.clone(),
        source,
    };
    let mut entries = Entries::certificates(dir).map_err(failed)?;
    loop {
        match entries.next_certificate().map_err(failed)? {
            proofs::Next::Entry(_) => {}
            proofs::Next::Malformed => {
                let what = "not a certificate";
                return Err(OpenError::Inconsistent {
                    path,
                    index: entries.count,
                    what,
                });
            }
            proofs::Next::Torn(_) | proofs::Next::End => return Ok(entries.offset),
        }
    }
}

/// A checkpoint that the walk has to meet.
struct Expected<'a> {
    checkpoint: Option<&'a Checkpoint>,
    met: bool,
}

impl<'a> Expected<'a> {
    fn new(checkpoint: Option<&'a Checkpoint>) -> Self {
        let met = checkpoint.is_none();
        let mut expected = Self { checkpoint, met };
        expected.compare(&Chain::new());
        expected
    }

    fn compare(&mut self, chain: &Chain) {
        if let Some(checkpoint) = self.checkpoint
            && checkpoint.size() == chain.next_index()
        {
            self.met = checkpoint.root() == chain.frontier.root();
        }
    }

    /// The size of the checkpoint that was not met.
    fn contradicted(&self) -> Option<u64> {
        self.checkpoint.filter(|_| !self.met).map(Checkpoint::size)
    }
}

/// The fields that opening needs; the verifier reads all of them.
#[derive(Deserialize)]
struct Header {
    index: u64,
    kind: Kind,
    #[serde(default)]
    change: Option<Change>,
    prev: Hash,
}

struct Walk<'a> {
    chain: Chain,
    changes: Changes,
    used: u64,
    torn: u64,
    anchor: Expected<'a>,
    last: Expected<'a>,
}

impl Walk<'_> {
    fn segments(&mut self, dir: &Path) -> Result<Option<(Segment, u64)>, OpenError> {
        let failed = |source| OpenError::File {
            path: dir.to_owned(),
            source,
        };
        let segments =
            segment::list(dir)
                .map_err(failed)?
                .map_err(|path| OpenError::Inconsistent {
                    path,
                    index: 0,
                    what: "not the name of a segment",
                })?;
        let mut tail = None;
        for segment in segments {
            if self.torn > 0 {
                let what = "ends within a line";
                return Err(self.inconsistent(&tail.map_or(segment, |(s, _)| s).path, what));
            }
            let length = self.segment(&segment)?;
            tail = Some((segment, length));
        }
        Ok(tail)
    }

    fn segment(&mut self, segment: &Segment) -> Result<u64, OpenError> {
        let path = &segment.path;
        if segment.first != self.chain.next_index() {
            return Err(self.inconsistent(path, "the segment before is missing or cut"));
        }
        let failed = |source| OpenError::File {
            path: path.clone(),
            source,
        };
        let mut lines = Lines::open(path).map_err(failed)?;
        let mut line = Vec::new();
        loop {
            match lines.next(&mut line).map_err(failed)? {
                segment::Next::Line => self.line(path, &line)?,
                segment::Next::TooLong => return Err(self.inconsistent(path, "too long")),
                segment::Next::Torn(bytes) => {
                    self.torn = bytes;
                    break;
                }
                segment::Next::End => break,
            }
        }
        self.used += lines.offset;
        Ok(lines.offset)
    }

    fn line(&mut self, path: &Path, line: &[u8]) -> Result<(), OpenError> {
        let Ok(header) = serde_json::from_slice::<Header>(line) else {
            return Err(self.inconsistent(path, "not a record"));
        };
        if header.index != self.chain.next_index() {
            return Err(self.inconsistent(path, "another index is written there"));
        }
        if header.prev != self.chain.last {
            return Err(self.inconsistent(path, "the record before is not the one it names"));
        }
        if header.kind == Kind::Gap {
            self.changes.begin_anew();
        }
        if let Some(change) = header.change {
            let (path, index) = (path.to_owned(), header.index);
            let wrong = |source| OpenError::Change {
                path,
                index,
                source,
            };
            self.changes.admit(change).map_err(wrong)?;
        }
        self.chain.push(line);
        self.anchor.compare(&self.chain);
        self.last.compare(&self.chain);
        Ok(())
    }

    fn inconsistent(&self, path: &Path, what: &'static str) -> OpenError {
        OpenError::Inconsistent {
            path: path.to_owned(),
            index: self.chain.next_index(),
            what,
        }
    }
}
