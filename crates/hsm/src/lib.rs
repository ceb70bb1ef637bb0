//! What Strongroom asks of a hardware security module: the port, its types and the client of hsm-agent's socket.
//!
//! No PKCS#11 here: only hsm-agent loads a module, and nothing in this vocabulary names a handle or a mechanism.
#![forbid(unsafe_code)]

mod canonical;
mod certificate;
mod checkpoint;
mod client;
mod envelope;
mod error;
mod port;
mod record;
mod signature;
mod token;
pub mod wire;

pub use certificate::{CaCertificateRequest, CaSubject, Validity, ValidityError};
pub use checkpoint::{CheckpointKeyStatement, ReplicaNameError, check_replica_name};
pub use client::AgentClient;
pub use envelope::{RootEnvelope, RootId};
pub use error::{HsmError, Reason};
pub use port::Hsm;
pub use record::{KekRecord, KekRecordError, SignedKekRecord, envelope_context};
pub use signature::TokenSignature;
pub use strongroom_core::KekPlace;
pub use token::{TokenDescription, TokenKeys, TokenState};

/// Length of a KEK in bytes.
pub const KEK_LEN: usize = 32;

/// The most random bytes that one call gives.
pub const RANDOM_MAX_LEN: usize = 1024;
