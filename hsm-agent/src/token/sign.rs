//! Signing in the token. Every signature is verified before it leaves: a fault in the token must not become a statement.
#![forbid(unsafe_code)]

use aws_lc_rs::digest::{SHA256, digest};
use strongroom_hsm::TokenSignature;

use super::keys::SigningKey;
use crate::pkcs11::{CallError, Session};

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// The token made a signature that does not verify.
    #[error("the token made a signature that does not verify")]
    Faulty,
    /// The token failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Signs a message with ECDSA P-256 and SHA-256.
pub(crate) fn sign(
    session: &Session,
    key: &SigningKey,
    message: &[u8],
) -> Result<TokenSignature, SignError> {
    let signature = raw(session, key, message)?;
    match key.public.verify_fixed(message, &signature) {
        Ok(()) => Ok(TokenSignature::from_bytes(signature)),
        Err(_) => Err(SignError::Faulty),
    }
}

/// Tells whether the two halves of a key belong together.
pub(crate) fn prove(session: &Session, key: &SigningKey) -> Result<bool, CallError> {
    let challenge: [u8; 32] = strongroom_crypto::random::public_bytes();
    // No statement of ours begins like this, so the proof can never stand for one.
    let message = [b"strongroom/key-proof/v1\0".as_slice(), &challenge].concat();
    let signature = raw(session, key, &message)?;
    Ok(key.public.verify_fixed(&message, &signature).is_ok())
}

fn raw(session: &Session, key: &SigningKey, message: &[u8]) -> Result<[u8; 64], CallError> {
    let digest = digest(&SHA256, message);
    let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    session.sign_p256(key.private, digest)
}
