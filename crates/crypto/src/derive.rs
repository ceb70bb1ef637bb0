//! The one key derivation function, KBKDF-CTR-HMAC-SHA256, and the closed list of its labels.
//!
//! A label always derives the same number of bytes, so the length needs no place in the input.

use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use aws_lc_rs::{digest, hmac};
use strongroom_core::KeyUse;
use zeroize::Zeroizing;

use crate::locked::LockedKey;

/// What is derived. The texts are part of stored formats.
#[derive(Clone, Copy)]
pub(crate) enum Label {
    Message,
    MaterialCheck,
    KekCheck,
    RecordMac,
    RootElement,
    RootMac,
    Digest,
    EtcdKeyId,
}

impl Label {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Message => "strongroom/message/v1",
            Self::MaterialCheck => "strongroom/material-check/v1",
            Self::KekCheck => "strongroom/kek-check/v1",
            Self::RecordMac => "strongroom/record-mac/v1",
            Self::RootElement => "strongroom/root-element/v1",
            Self::RootMac => "strongroom/root-mac/v1",
            Self::Digest => "strongroom/digest/v1",
            Self::EtcdKeyId => "strongroom/etcd-key-id/v1",
        }
    }
}

/// Derives `output` from a key in locked memory, a label and what the label is followed by.
///
/// It writes in place: a secret that is returned by value can leave a copy on the stack.
pub(crate) fn derive(key: &LockedKey, label: Label, parts: &[&[u8]], output: &mut [u8]) {
    let label = label.text().as_bytes();
    let len = parts
        .iter()
        .fold(label.len() + 1, |len, part| len + part.len());
    let mut info = Vec::with_capacity(len);
    info.extend_from_slice(label);
    info.push(0);
    for part in parts {
        info.extend_from_slice(part);
    }
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256)
        .expect("aws-lc-rs has this algorithm in every build");
    key.expose(|secret| kbkdf_ctr_hmac(algorithm, secret, &info, output))
        .expect("the lengths are valid, and without memory the process ends anyway");
}

/// Derives an HMAC key for one use at one place.
pub(crate) fn derive_hmac_key(
    key: &LockedKey,
    label: Label,
    key_use: KeyUse,
    place: &[u8],
) -> hmac::Key {
    let mut derived = Zeroizing::new([0; 32]);
    derive(
        key,
        label,
        &[&[key_use.byte()], place],
        derived.as_mut_slice(),
    );
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_slice())
}

/// HMAC-SHA256 over the parts, one after the other. Callers make the parts unambiguous.
pub(crate) fn hmac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    context
        .sign()
        .as_ref()
        .try_into()
        .expect("HMAC-SHA256 gives 32 bytes")
}

/// SHA-256 of public bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 gives 32 bytes")
}
