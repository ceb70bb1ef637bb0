//! Raw values of etcd as kube-apiserver's envelope encryption writes them.

use anyhow::{Context, Result};
use prost::Message;
use strongroom_api::kubernetes::envelope::v2::EncryptedObject;

/// What stands before every value that our plugin encrypts.
pub const PREFIX: &[u8] = b"k8s:enc:kms:v2:strongroom:";

/// Parses a raw value.
///
/// # Errors
/// When it does not carry the prefix, or is no envelope.
pub fn parse(raw: &[u8]) -> Result<EncryptedObject> {
    let bytes = raw
        .strip_prefix(PREFIX)
        .context("the value does not carry the prefix")?;
    Ok(EncryptedObject::decode(bytes)?)
}

/// A key id as kube-apiserver's metrics show it: `sha256:` and the digest in hexadecimal.
#[must_use]
pub fn key_id_hash(key_id: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key_id.as_bytes());
    format!("sha256:{}", hex::encode(digest))
}
