//! Tamper-evident log: hash chain, RFC 6962 tree, signed checkpoints, verifier.
//!
//! A receipt means that the record is on disk. Nothing here knows the store, the HSM or the
//! network, so the command line verifies a copied folder offline with the same code.
#![forbid(unsafe_code)]

mod certificate;
mod chain;
mod changes;
mod checkpoint;
mod checkpointer;
mod folder;
mod hash;
mod home;
mod lock;
mod log;
mod merkle;
mod note;
mod origin;
mod proof_walk;
mod proofs;
mod reader;
mod record;
mod recovery;
mod report;
mod reserve;
mod segment;
mod shares;
mod verify;
mod writer;

pub use certificate::{
    CertificateError, CheckpointCertificate, Statement, certificate_message, spki_fingerprint,
};
pub use changes::{ChangeError, Changes};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use checkpointer::{Certification, CheckpointFailed, Checkpointer, StartError};
pub use folder::{Fold, Folder, Observed};
pub use hash::Hash;
pub use home::BeginError;
pub use log::{AppendError, Log, Options, Receipt, Usage};
pub use merkle::{Frontier, leaf_hash};
pub use origin::{InvalidOrigin, Origin};
pub use reader::{ReadError, Records};
pub use record::{Change, Draft, Folded, Item, Kind, MAX_RECORD_BYTES, Outcome, Record};
pub use recovery::OpenError;
pub use report::{Report, Status, Tampering, Trust};
pub use shares::Share;
pub use verify::{VerifyError, verify};
