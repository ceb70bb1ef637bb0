//! The key id that API servers see and etcd stores: derived, so that all nodes agree without talking, and never used twice.

use aws_lc_rs::hmac as aws;
use strongroom_core::{InstanceId, KeyId, VersionId};

use crate::derive::{Label, hmac};

const PREFIX: &str = "sr1-";
/// 160 bits: ids of different activations never meet by chance.
const DIGEST_LEN: usize = 20;

/// Derives the KMS v2 key id of one activation of a version of the etcd key.
///
/// Not a secret: it comes from public ids under a public label, and may be logged. It is opaque so that nobody parses it.
/// The activation counts how often a version became primary, so an old version that returns gets a new id.
pub fn etcd_key_id(
    instance: InstanceId,
    key: KeyId,
    version: VersionId,
    activation: u32,
) -> String {
    let label = aws::Key::new(aws::HMAC_SHA256, Label::EtcdKeyId.text().as_bytes());
    let digest = hmac(
        &label,
        &[
            instance.as_bytes(),
            key.as_bytes(),
            &version.epoch.get().to_be_bytes(),
            &version.number.get().to_be_bytes(),
            &activation.to_be_bytes(),
        ],
    );
    let digits = digest[..DIGEST_LEN]
        .iter()
        .map(|byte| format!("{byte:02x}"));
    digits.fold(PREFIX.to_owned(), |id, digits| id + &digits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(instance: u8, key: u8, version: &str, activation: u32) -> String {
        etcd_key_id(
            InstanceId::from_bytes([instance; 16]),
            KeyId::from_bytes([key; 16]),
            version.parse().unwrap(),
            activation,
        )
    }

    #[test]
    fn each_part_changes_the_id() {
        let ids = BTreeSet::from([
            id(1, 1, "1.1", 1),
            id(2, 1, "1.1", 1),
            id(1, 2, "1.1", 1),
            id(1, 1, "2.1", 1),
            id(1, 1, "1.2", 1),
            id(1, 1, "1.1", 2),
        ]);
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn the_id_is_short_and_plain() {
        let id = id(1, 2, "3.4", 5);
        let digits = id.strip_prefix("sr1-").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(
            digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        );
    }
}
