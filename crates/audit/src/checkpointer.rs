//! Makes checkpoints with a key that lives only in this process and that the HSM certified for
//! this log, from this size on.
//!
//! Each start appends a record that names the key, so no two certificates can honestly have the
//! same start: two that do are equivocation.

use std::{
    error::Error,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    certificate::{CertificateError, CheckpointCertificate, Statement},
    checkpoint::{Body, Checkpoint},
    hash::Hash,
    log::{AppendError, Log, Proofs, Shared},
    proofs::Appender,
    record::{Draft, Kind},
    reserve::is_full,
    shares::Share,
};

/// The entry of a start record's detail that names the checkpoint key.
pub(crate) const KEY_DETAIL: &str = "checkpoint_key";

/// What a certifier answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certification {
    /// The certifier's P-256 public key as SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
    /// Its ECDSA signature with SHA-256 over
    /// [`certificate_message`](crate::certificate_message): 64 bytes, r ‖ s.
    pub signature: Vec<u8>,
}

/// Why no checkpoints can be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log has a checkpointer.
    #[error("the audit log has a checkpointer already")]
    AlreadyStarted,
    /// No key could be made.
    #[error("no checkpoint key could be made")]
    Key,
    /// The record of the start could not be written.
    #[error("the start could not be recorded in the audit log")]
    Record(#[source] AppendError),
    /// The certifier did not sign.
    #[error("the checkpoint key was not certified")]
    Certify(#[source] Box<dyn Error + Send + Sync>),
    /// The certifier's answer proves nothing.
    #[error("the certificate of the checkpoint key is wrong")]
    Certificate(#[source] CertificateError),
    /// The certificate could not be written.
    #[error("cannot write {path:?} of the audit log")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a checkpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFailed {
    /// The key is certified for another epoch; start again.
    #[error("the checkpoint key is certified for epoch {certified}, not for {asked}")]
    OtherEpoch {
        /// The certificate's.
        certified: u32,
        /// The caller's.
        asked: u32,
    },
    /// The last checkpoint states a later state of the store.
    #[error("the store's counter is {asked}, the last checkpoint says {last}")]
    WentBack {
        /// The last checkpoint's.
        last: u64,
        /// The caller's.
        asked: u64,
    },
    /// The file could not be written; the next try may succeed.
    #[error("cannot write {path:?} of the audit log")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The runtime is going down.
    #[error("the process ends")]
    Ended,
}

/// Makes checkpoints of one log.
#[derive(Debug, Clone)]
pub struct Checkpointer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: Ed25519KeyPair,
    certificate: CheckpointCertificate,
    shared: Arc<Shared>,
    proofs: Mutex<Proofs>,
}

/// A key and the size of the log after the record that names it.
#[derive(Debug)]
pub(crate) struct Begun {
    key: Ed25519KeyPair,
    start: u64,
}

/// The log's files of proofs, given back unless they were taken for good.
struct Loan<'a> {
    log: &'a Log,
    proofs: Option<Proofs>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(proofs) = self.proofs.take() {
            *self.log.proofs() = Some(proofs);
        }
    }
}

impl Checkpointer {
    /// Makes a key, records the start as `record` (its kind and the key's entry in its detail are
    /// set here), has the key certified for `epoch` and writes the certificate beside the log.
    ///
    /// A log has one checkpointer. After an error, or when it was not waited for, this can be
    /// called again: a start that was recorded is then certified, not recorded once more.
    pub async fn start<C, F, E>(
        log: &Log,
        epoch: u32,
        record: Draft,
        certify: C,
    ) -> Result<Self, StartError>
    where
        C: FnOnce(Statement) -> F,
        F: Future<Output = Result<Certification, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let proofs = log.proofs().take();
        let mut loan = Loan { log, proofs };
        let proofs = loan.proofs.as_mut().ok_or(StartError::AlreadyStarted)?;
        let begun = match proofs.begun.take() {
            Some(begun) => begun,
            None => begin(log, record).await?,
        };
        let public_key = public_key(&begun.key);
        let statement = Statement {
            origin: log.origin().clone(),
            epoch,
            start: begun.start,
            previous: hash_of(proofs.last.as_ref()),
            public_key,
        };
        proofs.begun = Some(begun);
        let Certification { spki, signature } = certify(statement.clone())
            .await
            .map_err(|e| StartError::Certify(e.into()))?;
        let certificate = CheckpointCertificate::new(statement, spki, signature)
            .map_err(StartError::Certificate)?;
        let shared = log.shared();
        let written = write(&mut proofs.certificates, &certificate.to_line(), &shared);
        written.map_err(|source| StartError::Write {
            path: proofs.certificates.path().to_owned(),
            source,
        })?;
        let mut proofs = loan.proofs.take().ok_or(StartError::AlreadyStarted)?;
        let Begun { key, .. } = proofs.begun.take().ok_or(StartError::AlreadyStarted)?;
        let proofs = Mutex::new(proofs);
        Ok(Self {
            inner: Arc::new(Inner {
                key,
                certificate,
                shared,
                proofs,
            }),
        })
    }

    /// The certificate of the key that signs.
    pub fn certificate(&self) -> &CheckpointCertificate {
        &self.inner.certificate
    }

    /// States what is on disk now, together with the store's epoch, counter and root. The
    /// checkpoint is in the file and synced when this resolves; then it may be anchored.
    ///
    /// When nothing changed, the last checkpoint of this checkpointer is returned again.
    pub async fn checkpoint(
        &self,
        epoch: u32,
        seq: u64,
        store_root: [u8; 32],
    ) -> Result<Checkpoint, CheckpointFailed> {
        let inner = Arc::clone(&self.inner);
        let work = tokio::task::spawn_blocking(move || inner.checkpoint(epoch, seq, store_root));
        work.await.map_err(|_| CheckpointFailed::Ended)?
    }
}

impl Inner {
    fn checkpoint(
        &self,
        epoch: u32,
        seq: u64,
        store_root: [u8; 32],
    ) -> Result<Checkpoint, CheckpointFailed> {
        let Statement {
            origin,
            epoch: certified,
            public_key,
            ..
        } = self.certificate.statement();
        if epoch != *certified {
            return Err(CheckpointFailed::OtherEpoch {
                certified: *certified,
                asked: epoch,
            });
        }
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let Proofs {
            checkpoints,
            last,
            certificates: _,
            begun: _,
        } = &mut *proofs;
        let frontier = self.shared.frontier();
        if let Some(last) = last.as_ref().filter(|last| last.epoch() == epoch) {
            if seq < last.seq() {
                return Err(CheckpointFailed::WentBack {
                    last: last.seq(),
                    asked: seq,
                });
            }
            let same =
                (frontier.size(), seq, store_root) == (last.size(), last.seq(), last.store().0);
            if same && last.names_key(public_key) {
                return Ok(last.clone());
            }
        }
        let body = Body {
            origin: origin.clone(),
            size: frontier.size(),
            root: frontier.root(),
            epoch,
            seq,
            store: Hash(store_root),
            previous: hash_of(last.as_ref()),
        };
        let checkpoint = Checkpoint::sign(body, &self.key);
        let written = write(checkpoints, checkpoint.as_note(), &self.shared);
        written.map_err(|source| CheckpointFailed::Write {
            path: checkpoints.path().to_owned(),
            source,
        })?;
        *last = Some(checkpoint.clone());
        Ok(checkpoint)
    }
}

/// Makes a key and records the start that names it.
async fn begin(log: &Log, mut record: Draft) -> Result<Begun, StartError> {
    let key = Ed25519KeyPair::generate().map_err(|_| StartError::Key)?;
    record.kind = Kind::Start;
    record
        .detail
        .insert(KEY_DETAIL.to_owned(), STANDARD.encode(public_key(&key)));
    let receipt = log
        .append(record, Share::Reserve)
        .await
        .map_err(StartError::Record)?;
    Ok(Begun {
        key,
        start: receipt.index + 1,
    })
}

fn public_key(key: &Ed25519KeyPair) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.public_key().as_ref());
    bytes
}

/// Appends a proof; on a full disk in the space of the reserve.
fn write(file: &mut Appender, entry: &str, shared: &Shared) -> io::Result<()> {
    let written = file.append(entry.as_bytes());
    if !written.as_ref().is_err_and(is_full) {
        return written;
    }
    shared.reserve().give_up();
    file.append(entry.as_bytes())
}

fn hash_of(checkpoint: Option<&Checkpoint>) -> Hash {
    checkpoint.map_or(Hash::ZERO, Checkpoint::hash)
}
