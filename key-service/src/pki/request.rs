//! Reads the one thing that counts in a certificate request: a public key whose private half its sender has.
//!
//! Names and extensions in it are wishes of the sender; nothing of them is ever looked at.

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer, public_key::PublicKey, x509,
};

use super::PkiError;

/// More than a request with the largest key and many extensions.
pub(super) const LEN_MAX: usize = 16 * 1024;

/// A checked request of a node, with the digest by which its key is known again.
pub struct NodeRequest {
    pub(super) key: SubjectPublicKeyInfo,
    pub(super) digest: [u8; 32],
}

impl NodeRequest {
    /// Checks a request (PKCS#10, PEM).
    ///
    /// # Errors
    /// See `PkiError`.
    pub fn parse(pem: &str) -> Result<Self, PkiError> {
        let key = public_key(pem)?;
        let digest = sha256(&key.subject_public_key_info());
        Ok(Self { key, digest })
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub const fn key_digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Checks a request and returns its key.
pub(super) fn public_key(pem: &str) -> Result<SubjectPublicKeyInfo, PkiError> {
    if pem.len() > LEN_MAX {
        return Err(PkiError::RequestLength);
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| PkiError::RequestForm)?;
    let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
        return Err(PkiError::RequestForm);
    };
    let key = accepted(&request.certification_request_info.subject_pki)?;
    check_signature(&request)?;
    Ok(key)
}

fn accepted(key: &x509::SubjectPublicKeyInfo<'_>) -> Result<SubjectPublicKeyInfo, PkiError> {
    let info = SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| PkiError::RequestKey)?;
    let algorithm = info.algorithm();
    let curves = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ];
    let accepted = if algorithm == &PKCS_RSA_SHA256 {
        matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if (2048..=8192).contains(&rsa.key_size()))
    } else {
        curves.contains(&algorithm)
    };
    if accepted {
        Ok(info)
    } else {
        Err(PkiError::RequestKey)
    }
}

/// The parser would also take SHA-1, which rcgen does not know.
fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), PkiError> {
    let algorithm: Vec<u64> = request
        .signature_algorithm
        .algorithm
        .iter()
        .map(Iterator::collect)
        .unwrap_or_default();
    SignatureAlgorithm::from_oid(&algorithm).map_err(|_| PkiError::RequestSignature)?;
    request
        .verify_signature()
        .map_err(|_| PkiError::RequestSignature)
}
