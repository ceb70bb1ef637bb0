//! Verification of a folder, offline and in bounded memory: one pass over the records, with the
//! certificates and checkpoints beside them. It names the first place that does not fit.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    chain::Chain,
    changes::Changes,
    hash::Hash,
    proof_walk::{ProofWalk, Stop, tampered},
    reader::Records,
    record::{Kind, Record},
    report::{Report, Status, Trust},
    segment::{self, Lines, Next, Segment},
};

/// Why nothing could be said about a log.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path:?}")]
pub struct VerifyError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Verifies the log in `dir`. Reads only, needs no service.
///
/// # Errors
///
/// Only when a file cannot be read. What does not fit is in the report.
pub fn verify(dir: &Path, trust: &Trust) -> Result<Report, VerifyError> {
    let mut report = Report::new(trust);
    match Walk::run(dir, trust, &mut report) {
        Ok(()) if trust.witness.is_some() => report.status = Status::Complete,
        Ok(()) => report.status = Status::TailUnproven,
        Err(Stop::Tampered(tampering)) => {
            report.status = Status::Tampered;
            report.tampering = Some(tampering);
        }
        Err(Stop::Unreadable(file, source)) => {
            return Err(VerifyError {
                path: dir.join(file),
                source,
            });
        }
    }
    Ok(report)
}

struct Walk<'a> {
    dir: &'a Path,
    /// The segments read so far.
    segments: Vec<Segment>,
    proofs: ProofWalk<'a>,
    report: &'a mut Report,
    chain: Chain,
    changes: Changes,
}

impl<'a> Walk<'a> {
    fn run(dir: &'a Path, trust: &'a Trust, report: &'a mut Report) -> Result<(), Stop> {
        // First the proofs: whatever they cover is in the records when these are read.
        let proofs = ProofWalk::open(dir, trust)?;
        let listed = segment::list(dir)
            .map_err(|source| Stop::Unreadable(String::new(), source))?
            .map_err(|path| tampered(&name(&path), 0, "not the name of a segment"))?;
        let mut walk = Self {
            dir,
            segments: Vec::new(),
            proofs,
            report,
            chain: Chain::new(),
            changes: Changes::default(),
        };
        let walked = walk.all(&listed);
        walk.report.origin = walk.proofs.origin.as_ref().map(ToString::to_string);
        walk.report.certificates = walk.proofs.certificates.len() as u64;
        walk.report.checkpoints = walk.proofs.count;
        walk.report.covered_records = walk.proofs.covered();
        walk.report.torn_bytes += walk.proofs.torn_bytes;
        walked
    }

    fn all(&mut self, listed: &[Segment]) -> Result<(), Stop> {
        while let Some(segment) = self.next_segment()? {
            self.segments.push(segment.clone());
            self.segment(&segment)?;
        }
        self.all_read(listed)?;
        self.proofs.size_reached(&self.chain)?;
        let last = self.file_of(u64::MAX);
        self.proofs.finish(&last, self.chain.next_index())?;
        match self.changes.missing() {
            None => Ok(()),
            Some(missing) => {
                let what = format!(
                    "change {} of epoch {} is missing",
                    missing.seq, missing.epoch
                );
                Err(tampered(&last, self.chain.next_index(), what))
            }
        }
    }

    /// Checks that no segment of the list was left out.
    fn all_read(&self, listed: &[Segment]) -> Result<(), Stop> {
        let is_read = |s: &&Segment| self.segments.binary_search_by_key(&s.first, |r| r.first);
        let Some(unread) = listed.iter().find(|s| is_read(s).is_err()) else {
            return Ok(());
        };
        let index = self.chain.next_index();
        if self.report.torn_bytes > 0 {
            return Err(tampered(
                &self.file_of(index),
                index,
                "the file ends in a line",
            ));
        }
        let what = format!("the file begins with record {}", unread.first);
        Err(tampered(&name(&unread.path), index, what))
    }

    /// The segment that begins with the next record. Looked up by name: a list that is made while
    /// segments are added may hold a later one without the one before it.
    fn next_segment(&self) -> Result<Option<Segment>, Stop> {
        let first = self.chain.next_index();
        let path = segment::path(self.dir, first);
        let is_read = self.segments.last().is_some_and(|s| s.first == first);
        let exists = !is_read
            && path
                .try_exists()
                .map_err(|source| Stop::Unreadable(name(&path), source))?;
        Ok(exists.then_some(Segment { first, path }))
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), Stop> {
        let file = name(&segment.path);
        let unreadable = |source| Stop::Unreadable(file.clone(), source);
        let mut lines = Lines::open(&segment.path).map_err(unreadable)?;
        let mut line = Vec::new();
        loop {
            let index = self.chain.next_index();
            match lines.next(&mut line).map_err(unreadable)? {
                Next::Line => {}
                Next::TooLong => return Err(tampered(&file, index, "the line is too long")),
                Next::Torn(bytes) => {
                    self.report.torn_bytes += bytes;
                    break;
                }
                Next::End => break,
            }
            let record = self.record(&file, &line)?;
            if record.prev != self.chain.last {
                return Err(self.broken_chain(&line));
            }
            // Only now: had the record before been changed, the chain tells it more exactly.
            self.proofs.size_reached(&self.chain)?;
            self.take(&file, &record, &line)?;
        }
        self.report.segments += 1;
        self.report.bytes += lines.offset;
        Ok(())
    }

    /// Parses a line and checks its place.
    fn record(&self, file: &str, line: &[u8]) -> Result<Record, Stop> {
        let expected = self.chain.next_index();
        let Some(record) = Record::parse_line(line) else {
            return Err(tampered(
                file,
                expected,
                "not a record as the log writes it",
            ));
        };
        let what = match record.index.cmp(&expected) {
            std::cmp::Ordering::Equal => return Ok(record),
            _ if record.prev == self.chain.last => "its index was changed".to_owned(),
            std::cmp::Ordering::Greater => {
                format!("records {expected} to {} are missing", record.index - 1)
            }
            std::cmp::Ordering::Less => {
                format!("record {} stands here: added or reordered", record.index)
            }
        };
        Err(tampered(file, expected, what))
    }

    /// Says which of two records was changed: the one that `line` does not name, or `line`
    /// itself. The record after knows: it names `line` if that is as it was written.
    fn broken_chain(&self, line: &[u8]) -> Stop {
        let index = self.chain.next_index();
        let after = Records::open(self.dir, index + 1, index + 2).ok();
        let after = after.and_then(|mut records| records.next()?.ok());
        let (place, what) = match (after, index.checked_sub(1)) {
            (Some(after), Some(before)) if after.prev == Hash::of(line) => (
                before,
                format!("not the record that record {index} was written after"),
            ),
            (None, Some(before)) => (
                index,
                format!("does not name record {before}: one of the two was changed"),
            ),
            _ => (index, "does not name the record before it".to_owned()),
        };
        tampered(&self.file_of(place), place, what)
    }

    /// Name of the file that holds, or should hold, a record.
    fn file_of(&self, index: u64) -> String {
        let segment = self.segments.iter().rev().find(|s| s.first <= index);
        segment.map_or_else(|| "log".to_owned(), |s| name(&s.path))
    }

    fn take(&mut self, file: &str, record: &Record, line: &[u8]) -> Result<(), Stop> {
        let index = record.index;
        if record.kind == Kind::Gap {
            self.report.gaps += 1;
            self.changes.begin_anew();
        }
        if let Some(change) = record.change {
            self.report.changes += 1;
            let admitted = self.changes.admit(change);
            admitted.map_err(|error| tampered(file, index, error.to_string()))?;
        }
        self.proofs.record(file, record)?;
        self.chain.push(line);
        self.report.records += 1;
        self.report.first_time = self.report.first_time.or(Some(record.time));
        self.report.last_time = Some(record.time);
        Ok(())
    }
}

/// A file's name for people.
fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
