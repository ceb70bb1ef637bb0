//! Whatever is changed, cut, relabelled or offered to another opener does not open.

use proptest::collection::vec;
use proptest::prelude::*;
use strongroom_core::{KeyId, StoreEpoch, VersionId, VersionNumber};

use super::*;
use crate::testing;

fn place(key_use: KeyUse) -> Place {
    let number = VersionNumber::new(3).unwrap();
    let version = VersionId {
        epoch: StoreEpoch::FIRST,
        number,
    };
    Place {
        key_use,
        key_id: KeyId::from_bytes([7; 16]),
        version,
    }
}

fn context(pod: &str) -> EncryptionContext {
    EncryptionContext::from_pairs([("pod", pod)]).unwrap()
}

fn sealed(material: &Material, key_use: KeyUse, plaintext: &[u8]) -> Vec<u8> {
    seal(material, &place(key_use), &context("a"), plaintext).unwrap()
}

fn opened(
    material: &Material,
    key_use: KeyUse,
    pod: &str,
    bytes: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let message = Message::parse(bytes)?;
    open(material, key_use, &message, &context(pod)).map(|secret| secret.expose().to_vec())
}

proptest! {
    #[test]
    fn what_is_sealed_opens(secret: [u8; 32], plaintext in vec(any::<u8>(), 0..300)) {
        let material = testing::material(secret);
        let bytes = sealed(&material, KeyUse::Api, &plaintext);
        prop_assert_eq!(bytes.len(), plaintext.len() + OVERHEAD);
        prop_assert_eq!(opened(&material, KeyUse::Api, "a", &bytes), Ok(plaintext));
    }

    #[test]
    fn one_changed_bit_anywhere_does_not_open(at: prop::sample::Index, bit in 0..8u8) {
        let material = testing::material([1; 32]);
        let mut bytes = sealed(&material, KeyUse::Api, b"plaintext");
        bytes[at.index(OVERHEAD + 9)] ^= 1 << bit;
        prop_assert_eq!(opened(&material, KeyUse::Api, "a", &bytes), Err(OpenError));
    }

    #[test]
    fn a_cut_message_does_not_open(len in 0..OVERHEAD + 9) {
        let material = testing::material([1; 32]);
        let bytes = sealed(&material, KeyUse::Api, b"plaintext");
        prop_assert_eq!(opened(&material, KeyUse::Api, "a", &bytes[..len]), Err(OpenError));
    }

    #[test]
    fn any_bytes_parse_or_fail_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let framed = [b"SRM1\x01\x01", &bytes[..]].concat();
        let _ = opened(&testing::material([1; 32]), KeyUse::Api, "a", &bytes);
        prop_assert_eq!(opened(&testing::material([1; 32]), KeyUse::Api, "a", &framed), Err(OpenError));
    }
}

#[test]
fn a_message_of_one_use_opens_for_no_other() {
    let material = testing::material([1; 32]);
    for sealed_for in KeyUse::ALL {
        let bytes = sealed(&material, sealed_for, b"plaintext");
        for opened_for in KeyUse::ALL {
            let expected = if sealed_for == opened_for {
                Ok(b"plaintext".to_vec())
            } else {
                Err(OpenError)
            };
            assert_eq!(
                opened(&material, opened_for, "a", &bytes),
                expected,
                "{sealed_for} as {opened_for}"
            );
        }
    }
}

/// Without the check of the header, the derivation and the associated data must still refuse.
#[test]
fn a_relabelled_message_opens_for_no_use() {
    let material = testing::material([1; 32]);
    let bytes = sealed(&material, KeyUse::KmsV2, b"plaintext");
    for key_use in KeyUse::ALL
        .into_iter()
        .filter(|key_use| *key_use != KeyUse::KmsV2)
    {
        let mut relabelled = bytes.clone();
        relabelled[5] = key_use.byte();
        assert_eq!(
            opened(&material, key_use, "a", &relabelled),
            Err(OpenError),
            "{key_use}"
        );
    }
}

#[test]
fn another_context_does_not_open_it() {
    let material = testing::material([1; 32]);
    let bytes = sealed(&material, KeyUse::Api, b"plaintext");
    assert_eq!(opened(&material, KeyUse::Api, "b", &bytes), Err(OpenError));
}

#[test]
fn other_material_does_not_open_it() {
    let bytes = sealed(&testing::material([1; 32]), KeyUse::Api, b"plaintext");
    assert_eq!(
        opened(&testing::material([2; 32]), KeyUse::Api, "a", &bytes),
        Err(OpenError)
    );
}

#[test]
fn a_message_tells_its_place() {
    let bytes = sealed(&testing::material([1; 32]), KeyUse::Secret, b"");
    assert_eq!(
        *Message::parse(&bytes).unwrap().place(),
        place(KeyUse::Secret)
    );
}

#[test]
fn two_messages_of_one_plaintext_share_no_field_that_is_random() {
    let material = testing::material([1; 32]);
    let (one, other) = (
        sealed(&material, KeyUse::Api, b"same"),
        sealed(&material, KeyUse::Api, b"same"),
    );
    assert_eq!(one[..30], other[..30]);
    for field in [30..46, 46..58, 58..90, 90..94, 94..110] {
        assert_ne!(one[field.clone()], other[field.clone()], "{field:?}");
    }
}

#[test]
fn every_failure_has_the_same_words() {
    let material = testing::material([1; 32]);
    let bytes = sealed(&material, KeyUse::Api, b"plaintext");
    let mut forged = bytes.clone();
    forged[100] ^= 1;
    let failures = [
        opened(&material, KeyUse::Api, "a", b"garbage"),
        opened(&material, KeyUse::Api, "a", &forged),
        opened(&material, KeyUse::Api, "b", &bytes),
        opened(&material, KeyUse::Secret, "a", &bytes),
        opened(&testing::material([2; 32]), KeyUse::Api, "a", &bytes),
    ];
    for failure in failures {
        assert_eq!(
            failure.unwrap_err().to_string(),
            "the message cannot be opened"
        );
    }
}

#[test]
fn only_known_forms_parse() {
    let bytes = sealed(&testing::material([1; 32]), KeyUse::Api, b"plaintext");
    for (offset, value) in [(0, b'X'), (3, b'2'), (4, 0), (4, 2), (5, 0), (5, 10)] {
        let mut unknown = bytes.clone();
        unknown[offset] = value;
        assert!(Message::parse(&unknown).is_err(), "{value} at {offset}");
    }
    let mut version_zero = bytes;
    version_zero[26..30].fill(0);
    assert!(Message::parse(&version_zero).is_err());
}

#[test]
fn what_opens_to_other_bytes_is_not_released() {
    let material = testing::material([1; 32]);
    let bytes = sealed(&material, KeyUse::Api, b"plaintext");
    let verify = |plaintext: &[u8]| {
        verify_opens(material.key(), &bytes, &context("a").canonical(), plaintext)
    };
    assert_eq!(verify(b"plaintext"), Ok(()));
    assert_eq!(verify(b"plaintexT"), Err(SealError::Corrupted));
}

#[test]
fn a_flipped_bit_in_the_first_copy_releases_nothing() {
    let (mut first, second) = (testing::material([1; 32]), testing::material([1; 32]));
    let seal = |first: &Material| {
        seal_verified(
            first,
            &second,
            &place(KeyUse::Api),
            &context("a"),
            b"plaintext",
        )
    };
    assert!(seal(&first).is_ok());
    first.key_mut().flip_a_bit();
    assert_eq!(seal(&first), Err(SealError::Corrupted));
}

#[test]
fn a_verified_message_opens_with_either_copy() {
    let (first, second) = (testing::material([1; 32]), testing::material([1; 32]));
    let bytes = seal_verified(
        &first,
        &second,
        &place(KeyUse::Api),
        &context("a"),
        b"plaintext",
    )
    .unwrap();
    for material in [&first, &second] {
        assert_eq!(
            opened(material, KeyUse::Api, "a", &bytes),
            Ok(b"plaintext".to_vec())
        );
    }
}

#[test]
#[should_panic = "the second copy of a key is not the first"]
fn one_copy_does_not_verify_itself() {
    let material = testing::material([1; 32]);
    let _ = seal_verified(
        &material,
        &material,
        &place(KeyUse::Api),
        &context("a"),
        b"plaintext",
    );
}
