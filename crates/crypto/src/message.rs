//! The message format: what `Encrypt` gives out, what stored secrets, etcd seeds and wrapped material lie in.
//!
//! Each message has a key of its own, so a key version has no limit on messages. Callers limit plaintexts (the API to
//! 64 KiB); the format itself ends at GCM's 64 GiB. The bytes are in `docs/design/20261122-formats.md`.

mod format;

use std::ptr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, RandomizedNonceKey, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use strongroom_core::{EncryptionContext, KeyUse, SecretBytes};
use zeroize::{Zeroize, Zeroizing};

use crate::derive::{Label, derive, sha256};
use crate::locked::LockedKey;
use crate::material::Material;
use crate::random;

use format::{BODY_OFFSET, COMMITMENT_LEN, DERIVED_FROM, HEAD_LEN, IV, IV_LEN, SALT_LEN};
pub use format::{Message, OVERHEAD, Place};

/// A message does not open. Always the same words: whether key, use, context or a byte was wrong is nobody's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be opened")]
pub struct OpenError;

/// Why nothing was sealed. Never the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The cryptographic library refused.
    #[error("the message could not be sealed")]
    Refused,
    /// What was sealed did not open to the same bytes with the second copy of the key.
    #[error("a key in memory is corrupted: what it sealed does not open with a second copy")]
    Corrupted,
}

/// Seals a plaintext for one place and context.
///
/// The result must not leave before it was opened with another copy of the material: [`seal_verified`] does both.
pub fn seal(
    material: &Material,
    place: &Place,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_under(material.key(), place, &context.canonical(), plaintext)
}

/// Seals with one copy of the material, opens with another and compares; on a difference nothing is released.
///
/// # Assumptions
/// `second` was unwrapped from the store by itself; a copy of `first` would share its flipped bits.
///
/// # Panics
/// When both are the same handle: then nothing would be verified.
pub fn seal_verified(
    first: &Material,
    second: &Material,
    place: &Place,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_verified_under(
        first.key(),
        second.key(),
        place,
        &context.canonical(),
        plaintext,
    )
}

/// Opens a message that claims the expected use. The caller found `material` by [`Message::place`].
pub fn open(
    material: &Material,
    expected: KeyUse,
    message: &Message<'_>,
    context: &EncryptionContext,
) -> Result<SecretBytes, OpenError> {
    if message.place().key_use != expected {
        return Err(OpenError);
    }
    open_under(material.key(), message, &context.canonical())
}

pub(crate) fn seal_under(
    key: &LockedKey,
    place: &Place,
    canonical: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut salt = [0; SALT_LEN];
    random::fill(&mut salt);
    let head = format::head(place, &salt);
    let mut derived = Zeroizing::new([0; DERIVED_LEN]);
    let keys = MessageKeys::derive(key, &head, canonical, &mut derived);

    // The right capacity at once: growing would leave the plaintext behind in freed memory.
    let mut bytes = Vec::with_capacity(plaintext.len() + OVERHEAD);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&[0; IV_LEN]);
    bytes.extend_from_slice(keys.commitment);
    bytes.extend_from_slice(plaintext);

    let aad = Aad::from(keys.associated_data(&head, canonical));
    let sealed = RandomizedNonceKey::new(&AES_256_GCM, keys.encryption)
        .and_then(|key| key.seal_in_place_separate_tag(aad, &mut bytes[BODY_OFFSET..]));
    let Ok((iv, tag)) = sealed else {
        bytes.zeroize();
        return Err(SealError::Refused);
    };
    bytes[IV].copy_from_slice(iv.as_ref());
    bytes.extend_from_slice(tag.as_ref());
    Ok(bytes)
}

pub(crate) fn seal_verified_under(
    first: &LockedKey,
    second: &LockedKey,
    place: &Place,
    canonical: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    // Two handles are two slots: keys in locked memory cannot be cloned.
    assert!(
        !ptr::eq(first, second),
        "the second copy of a key is not the first"
    );
    let bytes = seal_under(first, place, canonical, plaintext)?;
    verify_opens(second, &bytes, canonical, plaintext)?;
    Ok(bytes)
}

fn verify_opens(
    second: &LockedKey,
    bytes: &[u8],
    canonical: &[u8],
    plaintext: &[u8],
) -> Result<(), SealError> {
    let opened = Message::parse(bytes).and_then(|message| open_under(second, &message, canonical));
    let opened = opened.map_err(|OpenError| SealError::Corrupted)?;
    verify_slices_are_equal(opened.expose(), plaintext).map_err(|_| SealError::Corrupted)
}

pub(crate) fn open_under(
    key: &LockedKey,
    message: &Message<'_>,
    canonical: &[u8],
) -> Result<SecretBytes, OpenError> {
    let mut plaintext = vec![0; message.ciphertext().len()];
    open_into(key, message, canonical, &mut plaintext)?;
    Ok(SecretBytes::new(plaintext))
}

/// Opens into a buffer of exactly the plaintext's length. When that fails nothing of the plaintext is left in it.
pub(crate) fn open_into(
    key: &LockedKey,
    message: &Message<'_>,
    canonical: &[u8],
    plaintext: &mut [u8],
) -> Result<(), OpenError> {
    let head = message.head();
    let mut derived = Zeroizing::new([0; DERIVED_LEN]);
    let keys = MessageKeys::derive(key, head, canonical, &mut derived);
    verify_slices_are_equal(keys.commitment, message.commitment()).map_err(|_| OpenError)?;
    let key = UnboundKey::new(&AES_256_GCM, keys.encryption).map_err(|_| OpenError)?;
    let iv = Nonce::assume_unique_for_key(*message.iv());
    let aad = Aad::from(keys.associated_data(head, canonical));
    LessSafeKey::new(key)
        .open_separate_gather(iv, aad, message.ciphertext(), message.tag(), plaintext)
        .map_err(|_| {
            // The library leaves open what a failure leaves behind.
            plaintext.zeroize();
            OpenError
        })
}

const ENCRYPTION_KEY_LEN: usize = 32;
const DERIVED_LEN: usize = ENCRYPTION_KEY_LEN + COMMITMENT_LEN;

/// What KBKDF gives for one message: its encryption key and the commitment to it.
///
/// GCM alone lets one ciphertext open under two keys; with the commitment, which also covers the context, it cannot.
struct MessageKeys<'a> {
    encryption: &'a [u8],
    commitment: &'a [u8],
}

impl<'a> MessageKeys<'a> {
    fn derive(
        key: &LockedKey,
        head: &[u8; HEAD_LEN],
        canonical: &[u8],
        derived: &'a mut [u8; DERIVED_LEN],
    ) -> Self {
        derive(
            key,
            Label::Message,
            &[&head[DERIVED_FROM..], &sha256(canonical)],
            derived,
        );
        let (encryption, commitment) = derived.split_at(ENCRYPTION_KEY_LEN);
        Self {
            encryption,
            commitment,
        }
    }

    /// The IV is left out: the module makes it while sealing, and GCM authenticates it anyway.
    fn associated_data(&self, head: &[u8; HEAD_LEN], canonical: &[u8]) -> Vec<u8> {
        [head, self.commitment, canonical].concat()
    }
}

#[cfg(test)]
mod tests;
