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

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    fn statement() -> Statement {
        let origin = "strongroom.dev/000102030405060708090a0b0c0d0e0f/key-service-0";
        Statement {
            origin: origin.parse().unwrap(),
            epoch: 7,
            start: 4242,
            previous: Hash([0x11; 32]),
            public_key: [0x22; 32],
        }
    }

    fn certificate() -> CheckpointCertificate {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let message = certificate_message(&statement());
        let signature = key.sign(&SystemRandom::new(), &message).unwrap();
        let (spki, signature) = (spki.as_ref().to_vec(), signature.as_ref().to_vec());
        CheckpointCertificate::new(statement(), spki, signature).unwrap()
    }

    /// The example of `docs/design/20261122-audit.md`, which hsm-agent pins too.
    #[test]
    fn the_signed_bytes_are_those_of_the_design_note() {
        let message = certificate_message(&statement());
        let expected = [
            "00000024",
            "7374726f6e67726f6f6d2f636865636b706f696e742d63657274696669636174652f7631",
            "00000010",
            "000102030405060708090a0b0c0d0e0f",
            "0000000d",
            "6b65792d736572766963652d30",
            "00000004",
            "00000007",
            "00000008",
            "0000000000001092",
            "00000020",
            "1111111111111111111111111111111111111111111111111111111111111111",
            "00000020",
            "2222222222222222222222222222222222222222222222222222222222222222",
        ];
        assert_eq!(hex::encode(&message), expected.concat());
        assert_eq!(
            Hash::of(&message).to_string(),
            "c79bdd1ab5273d3efcfe2d1ff399ba2f017f73a94f3715f9544875f0f8199acb"
        );
    }

    #[test]
    fn a_signature_over_another_statement_is_refused() {
        let certificate = certificate();
        let changes: [fn(&mut Statement); 5] = [
            |s| s.origin = Origin::new([9; 16], "key-service-0").unwrap(),
            |s| s.epoch += 1,
            |s| s.start += 1,
            |s| s.previous = Hash::ZERO,
            |s| s.public_key = [0; 32],
        ];
        for change in changes {
            let mut changed = certificate.clone();
            change(&mut changed.statement);
            assert_eq!(changed.verify(), Err(CertificateError::Signature));
        }
    }

    #[test]
    fn a_certificates_line_reads_back_and_has_one_spelling() {
        let certificate = certificate();
        let line = certificate.to_line();
        assert_eq!(
            CheckpointCertificate::parse_line(line.as_bytes()),
            Some(certificate)
        );
        let spaced = line.replacen(':', ": ", 1);
        assert_eq!(CheckpointCertificate::parse_line(spaced.as_bytes()), None);
    }
}
