//! Certificates and checkpoints, walked in step with the records. A certificate names the last
//! checkpoint before it and a checkpoint the one before it, so both files are one chain.

use std::{collections::VecDeque, io, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    certificate::CheckpointCertificate,
    chain::Chain,
    checkpoint::Checkpoint,
    checkpointer::KEY_DETAIL,
    hash::Hash,
    origin::Origin,
    proofs::{CERTIFICATES, CHECKPOINTS, Entries, Next},
    record::{Kind, Record},
    report::{Tampering, Trust},
};

/// Why a walk ends early.
pub(crate) enum Stop {
    /// Something does not fit.
    Tampered(Tampering),
    /// A file cannot be read.
    Unreadable(String, io::Error),
}

/// Makes the stop for a place that does not fit.
pub(crate) fn tampered(file: &str, index: u64, what: impl Into<String>) -> Stop {
    Stop::Tampered(Tampering {
        file: file.to_owned(),
        index,
        what: what.into(),
    })
}

/// The state of the walk over both files.
pub(crate) struct ProofWalk<'a> {
    witness: Option<&'a Checkpoint>,
    pub(crate) origin: Option<Origin>,
    pub(crate) certificates: Vec<CheckpointCertificate>,
    /// Certificates whose start the records have not reached.
    unstarted: VecDeque<usize>,
    /// Number of certificates that a checkpoint or a later certificate confirmed.
    entered: usize,
    entries: Entries,
    next: Option<Checkpoint>,
    last: Option<Checkpoint>,
    /// Number of checkpoints that fit.
    pub(crate) count: u64,
    witness_seen: bool,
    pub(crate) torn_bytes: u64,
}

impl<'a> ProofWalk<'a> {
    pub(crate) fn open(dir: &Path, trust: &'a Trust) -> Result<Self, Stop> {
        let unreadable = |source| Stop::Unreadable(CHECKPOINTS.to_owned(), source);
        let mut walk = Self {
            witness: trust.witness.as_ref(),
            origin: trust.origin.clone(),
            certificates: Vec::new(),
            unstarted: VecDeque::new(),
            entered: 0,
            entries: Entries::checkpoints(dir).map_err(unreadable)?,
            next: None,
            last: None,
            count: 0,
            witness_seen: false,
            torn_bytes: 0,
        };
        walk.read_certificates(dir, trust)?;
        walk.advance()?;
        Ok(walk)
    }

    /// Number of records that the last checkpoint so far covers.
    pub(crate) fn covered(&self) -> u64 {
        self.last.as_ref().map_or(0, Checkpoint::size)
    }

    fn read_certificates(&mut self, dir: &Path, trust: &Trust) -> Result<(), Stop> {
        let unreadable = |source| Stop::Unreadable(CERTIFICATES.to_owned(), source);
        let mut entries = Entries::certificates(dir).map_err(unreadable)?;
        loop {
            let index = entries.count;
            match entries.next_certificate().map_err(unreadable)? {
                Next::Entry(certificate) => {
                    let checked = self.check_certificate(&certificate, trust);
                    checked.map_err(|what| tampered(CERTIFICATES, index, what))?;
                    self.unstarted.push_back(self.certificates.len());
                    self.certificates.push(certificate);
                }
                Next::Malformed => return Err(tampered(CERTIFICATES, index, "not a certificate")),
                Next::Torn(bytes) => {
                    self.torn_bytes += bytes;
                    return Ok(());
                }
                Next::End => return Ok(()),
            }
        }
    }

    fn check_certificate(
        &mut self,
        certificate: &CheckpointCertificate,
        trust: &Trust,
    ) -> Result<(), String> {
        if certificate.certifier() != trust.certifier {
            return Err(format!(
                "signed by another certifier, {}",
                certificate.certifier()
            ));
        }
        certificate.verify().map_err(|error| error.to_string())?;
        let statement = certificate.statement();
        let origin = self.origin.get_or_insert_with(|| statement.origin.clone());
        if statement.origin != *origin {
            return Err(format!("is about {}, not {origin}", statement.origin));
        }
        let Some(before) = self
            .certificates
            .last()
            .map(CheckpointCertificate::statement)
        else {
            return Ok(());
        };
        if statement.start == before.start {
            return Err(format!(
                "equivocation: a second key is certified from record {} on",
                statement.start
            ));
        }
        if statement.start < before.start {
            return Err("starts before the certificate before it: the log was forked".to_owned());
        }
        Ok(())
    }

    /// Compares a record with the certificates whose start it may be.
    pub(crate) fn record(&mut self, file: &str, record: &Record) -> Result<(), Stop> {
        let Some(&at) = self.unstarted.front() else {
            return Ok(());
        };
        let statement = self.certificates[at].statement();
        if record.index + 1 != statement.start {
            return Ok(());
        }
        let key = STANDARD.encode(statement.public_key);
        if record.kind != Kind::Start || record.detail.get(KEY_DETAIL) != Some(&key) {
            let what = format!("not the start that certificate {at} names");
            return Err(tampered(file, record.index, what));
        }
        self.unstarted.pop_front();
        Ok(())
    }

    /// Compares all checkpoints of the chain's present size.
    pub(crate) fn size_reached(&mut self, chain: &Chain) -> Result<(), Stop> {
        while let Some(checkpoint) = self.next.take_if(|c| c.size() <= chain.next_index()) {
            let checked = self.check_checkpoint(&checkpoint, chain);
            checked.map_err(|what| tampered(CHECKPOINTS, self.count, what))?;
            self.witness_seen |= self.witness == Some(&checkpoint);
            self.count += 1;
            self.last = Some(checkpoint);
            self.advance()?;
        }
        Ok(())
    }

    fn check_checkpoint(&mut self, checkpoint: &Checkpoint, chain: &Chain) -> Result<(), String> {
        let previous = self.last_hash();
        if checkpoint.previous() != previous {
            return Err("does not name the checkpoint before it".to_owned());
        }
        let at = self.certificate_of(checkpoint)?;
        let statement = self.certificates[at].statement();
        if !checkpoint.verifies(&statement.public_key) {
            return Err("wrong signature".to_owned());
        }
        if checkpoint.origin() != &statement.origin || checkpoint.epoch() != statement.epoch {
            return Err(format!("its log or epoch is not that of certificate {at}"));
        }
        if checkpoint.size() != chain.next_index() || checkpoint.size() < statement.start {
            return Err("covers fewer records than one before it".to_owned());
        }
        let state = |c: &Checkpoint| (c.epoch(), c.seq());
        if self
            .last
            .as_ref()
            .is_some_and(|last| state(checkpoint) < state(last))
        {
            return Err("states an older store than the one before it".to_owned());
        }
        if checkpoint.root() != chain.frontier.root() {
            return Err(format!(
                "records {} to {} are not those that it covers",
                self.covered(),
                checkpoint.size() - 1
            ));
        }
        Ok(())
    }

    /// The certificate of the checkpoint's key: the one in use or one after it.
    fn certificate_of(&mut self, checkpoint: &Checkpoint) -> Result<usize, String> {
        loop {
            if let Some(at) = self.entered.checked_sub(1)
                && checkpoint.names_key(&self.certificates[at].statement().public_key)
            {
                return Ok(at);
            }
            if self.entered == self.certificates.len() {
                return Err("signed by a key without a certificate".to_owned());
            }
            self.enter()?;
        }
    }

    /// Goes on to the next certificate, which must name the last checkpoint.
    fn enter(&mut self) -> Result<(), String> {
        let at = self.entered;
        if self.certificates[at].statement().previous != self.last_hash() {
            return Err(format!(
                "certificate {at} names another checkpoint as the one before"
            ));
        }
        self.entered += 1;
        Ok(())
    }

    fn last_hash(&self) -> Hash {
        self.last.as_ref().map_or(Hash::ZERO, Checkpoint::hash)
    }

    fn advance(&mut self) -> Result<(), Stop> {
        let unreadable = |source| Stop::Unreadable(CHECKPOINTS.to_owned(), source);
        match self.entries.next_checkpoint().map_err(unreadable)? {
            Next::Entry(checkpoint) => self.next = Some(checkpoint),
            Next::Malformed => {
                return Err(tampered(
                    CHECKPOINTS,
                    self.entries.count,
                    "not a checkpoint",
                ));
            }
            Next::Torn(bytes) => self.torn_bytes += bytes,
            Next::End => {}
        }
        Ok(())
    }

    /// Compares what is left when the records have ended, `size` of them, in `file`.
    pub(crate) fn finish(&mut self, file: &str, size: u64) -> Result<(), Stop> {
        let cut = |proof: &str, covered: u64| {
            tampered(
                file,
                size,
                format!("the log was cut: {proof} covers {covered} records"),
            )
        };
        if let Some(next) = &self.next {
            return Err(cut("a checkpoint", next.size()));
        }
        if let Some(&at) = self.unstarted.front() {
            return Err(cut(
                "a certificate",
                self.certificates[at].statement().start,
            ));
        }
        while self.entered < self.certificates.len() {
            let at = self.entered as u64;
            self.enter()
                .map_err(|what| tampered(CERTIFICATES, at, what))?;
        }
        let Some(witness) = self.witness else {
            return Ok(());
        };
        if self
            .origin
            .as_ref()
            .is_some_and(|origin| origin != witness.origin())
        {
            let what = format!("the witness is about {}", witness.origin());
            return Err(tampered(CHECKPOINTS, 0, what));
        }
        if witness.size() > size {
            return Err(cut("the witness", witness.size()));
        }
        if !self.witness_seen {
            return Err(tampered(
                CHECKPOINTS,
                self.count,
                "the witness's checkpoint is missing",
            ));
        }
        Ok(())
    }
}
