//! P-256 keys of intermediates and servers. rcgen's own key pairs would leave the private key in memory.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use strongroom_core::SecretBytes;

use super::PkiError;

/// The key pair of a new intermediate.
#[derive(Debug)]
pub struct IntermediateKey {
    pkcs8: SecretBytes,
    spki: Vec<u8>,
}

impl IntermediateKey {
    /// Draws a P-256 key.
    ///
    /// # Errors
    /// `PkiError::Generate`.
    pub fn generate() -> Result<Self, PkiError> {
        let (signer, pkcs8) = Signer::generate()?;
        Ok(Self {
            pkcs8,
            spki: signer.subject_public_key_info(),
        })
    }

    /// The public half as SubjectPublicKeyInfo in DER, for the token to certify.
    #[must_use]
    pub fn public_key_spki(&self) -> &[u8] {
        &self.spki
    }

    /// The private half as PKCS#8 in DER, to be sealed.
    #[must_use]
    pub const fn pkcs8(&self) -> &SecretBytes {
        &self.pkcs8
    }
}

/// A private key that signs certificates.
pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(super) fn generate() -> Result<(Self, SecretBytes), PkiError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| PkiError::Generate)?;
        let pkcs8 = SecretBytes::copy_from(pkcs8.as_ref());
        let signer = Self::from_pkcs8(&pkcs8).ok_or(PkiError::Generate)?;
        Ok((signer, pkcs8))
    }

    pub(super) fn from_pkcs8(pkcs8: &SecretBytes) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose())
            .ok()
            .map(Self)
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        signature
            .map(|it| it.as_ref().to_vec())
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
