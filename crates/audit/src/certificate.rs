//! Certificates of checkpoint keys: which bytes the HSM signs, and how a certificate is written.
//!
//! hsm-agent builds the same bytes with code of its own, since it does not link this crate; the
//! golden test here and `docs/design/20261122-audit.md` hold the two together.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{hash::Hash, origin::Origin};

/// Separates these signatures from all others by the same kind of key.
const DOMAIN: &str = "strongroom/checkpoint-certificate/v1";

/// The SubjectPublicKeyInfo of a P-256 key, up to its uncompressed point.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What the certifier states about a checkpoint key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The log whose checkpoints the key signs.
    pub origin: Origin,
    /// The store's epoch in which it signs.
    pub epoch: u32,
    /// Size of the log when the key was made.
    pub start: u64,
    /// Hash of the last checkpoint before; zero if there was none.
    pub previous: Hash,
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
}

/// Returns the bytes that the HSM signs with ECDSA P-256 and SHA-256: seven fields, each after its
/// length as four bytes, big-endian: domain, instance (16 bytes), replica (text), epoch (4 bytes),
/// start (8 bytes), previous (32 bytes), public key (32 bytes).
pub fn certificate_message(statement: &Statement) -> Vec<u8> {
    let Statement {
        origin,
        epoch,
        start,
        previous,
        public_key,
    } = statement;
    let mut message = Vec::with_capacity(256);
    for field in [
        DOMAIN.as_bytes(),
        &origin.instance(),
        origin.replica().as_bytes(),
        &epoch.to_be_bytes(),
        &start.to_be_bytes(),
        &previous.0,
        public_key,
    ] {
        // No field is longer than a replica's name.
        message.extend_from_slice(&(field.len() as u32).to_be_bytes());
        message.extend_from_slice(field);
    }
    message
}

/// Returns the fingerprint that `init` prints and [`Trust`](crate::Trust) holds: SHA-256 of the
/// certifier's SubjectPublicKeyInfo in DER.
pub fn spki_fingerprint(spki: &[u8]) -> Hash {
    Hash::of(spki)
}

/// A statement with the certifier's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointCertificate {
    pub(crate) statement: Statement,
    pub(crate) spki: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// A certificate that proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// The certifier's key has another form.
    #[error("the certifier's public key is not a P-256 key in DER")]
    Key,
    /// The signature is not by this key over this statement.
    #[error("the certifier's signature does not fit the checkpoint key")]
    Signature,
}

impl CheckpointCertificate {
    /// Joins a statement with the certifier's key (SubjectPublicKeyInfo, DER) and its signature
    /// (64 bytes, r ‖ s), after checking them.
    pub fn new(
        statement: Statement,
        spki: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Self, CertificateError> {
        let certificate = Self {
            statement,
            spki,
            signature,
        };
        certificate.verify()?;
        Ok(certificate)
    }

    /// What is certified.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Fingerprint of the key that signed.
    pub fn certifier(&self) -> Hash {
        spki_fingerprint(&self.spki)
    }

    pub(crate) fn verify(&self) -> Result<(), CertificateError> {
        let point = self
            .spki
            .strip_prefix(&P256_SPKI_PREFIX)
            .ok_or(CertificateError::Key)?;
        if point.len() != 65 {
            return Err(CertificateError::Key);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(&certificate_message(&self.statement), &self.signature)
            .map_err(|_| CertificateError::Signature)
    }

    /// The certificate as a line of the file `certificates`.
    pub(crate) fn to_line(&self) -> String {
        let Statement {
            origin,
            epoch,
            start,
            previous,
            public_key,
        } = &self.statement;
        let line = Line {
            origin: origin.to_string(),
            epoch: *epoch,
            start: *start,
            previous: *previous,
            key: STANDARD.encode(public_key),
            certifier: STANDARD.encode(&self.spki),
            signature: STANDARD.encode(&self.signature),
        };
        // Cannot fail: strings and integers only.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Parses the one spelling that `to_line` gives; the signature is not checked.
    pub(crate) fn parse_line(text: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(text).ok()?;
        let certificate = Self {
            statement: Statement {
                origin: line.origin.parse().ok()?,
                epoch: line.epoch,
                start: line.start,
                previous: line.previous,
                public_key: STANDARD.decode(line.key).ok()?.try_into().ok()?,
            },
            spki: STANDARD.decode(line.certifier).ok()?,
            signature: STANDARD.decode(line.signature).ok()?,
        };
        (certificate.to_line().as_bytes() == text).then_some(certificate)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    origin: String,
    epoch: u32,
    start: u64,
    previous: Hash,
    key: String,
    certifier: String,
    signature: String,
}
