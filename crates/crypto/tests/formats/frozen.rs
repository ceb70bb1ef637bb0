//! Vectors that the decoder made once. A change that breaks one of these makes stored data unreadable.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use strongroom_core::{EncryptionContext, KeyId, KeyUse, StoreEpoch};
use strongroom_crypto::message::{self, Message, Place};
use strongroom_crypto::{
    CheckValue, DigestKey, Material, RecordMacKey, Subject, WrappedMaterial, etcd_key_id, material,
};

use crate::vector::{MEMORY, Vector, testdata};

fn for_each(kind: &str, check: impl FnMut(Vector<'_>)) {
    let text = fs::read_to_string(testdata().join(kind).with_extension("json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let vectors = document["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    vectors.iter().map(Vector).for_each(check);
}

#[test]
fn frozen_messages_open() {
    for_each("messages", |vector| {
        let bytes = vector.bytes("message");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(*message.place(), vector.message_place());
        let opened = message::open(
            &vector.material(),
            vector.key_use(),
            &message,
            &vector.context(),
        );
        assert_eq!(opened.unwrap().expose(), vector.bytes("plaintext"));
    });
}

#[test]
fn every_use_has_a_frozen_message() {
    let mut uses = BTreeSet::new();
    for_each("messages", |vector| {
        uses.insert(vector.key_use());
    });
    assert_eq!(uses, BTreeSet::from(KeyUse::ALL));
}

#[test]
fn frozen_kek_check_values_are_computed() {
    for_each("keks", |vector| {
        assert_eq!(
            vector.kek().check_value().as_bytes()[..],
            vector.bytes("check")
        );
    });
}

#[test]
fn frozen_material_unwraps() {
    for_each("materials", |vector| {
        let check = CheckValue::from_bytes(vector.bytes("check").try_into().unwrap());
        let wrapped = WrappedMaterial {
            message: vector.bytes("message"),
            check,
        };
        let place = vector.material_place();
        let unwrapped = material::unwrap(&MEMORY, &vector.kek(), &place, &wrapped).unwrap();
        assert!(are_equal(&unwrapped, &vector.material()));
    });
}

/// Material cannot be read, so the test asks whether one seals what the other opens.
fn are_equal(one: &Material, other: &Material) -> bool {
    let place = Place {
        key_use: KeyUse::Api,
        key_id: KeyId::from_bytes([1; 16]),
        version: "1.1".parse().unwrap(),
    };
    message::seal_verified(one, other, &place, &EncryptionContext::new(), b"the same?").is_ok()
}

#[test]
fn frozen_records_and_roots_are_computed() {
    for_each("roots", |vector| {
        let key = RecordMacKey::derive(&vector.kek());
        for record in vector.records() {
            let mac = key.mac(
                record.text("path"),
                record.number("seq"),
                &record.bytes("value"),
            );
            assert_eq!(mac.as_bytes()[..], record.bytes("mac"));
        }
        let epoch = StoreEpoch::new(vector.small("epoch"));
        let root = key.root(epoch, vector.number("seq"), &vector.root_sum(&key));
        assert_eq!(root.as_bytes()[..], vector.bytes("root"));
    });
}

#[test]
fn frozen_digests_are_computed() {
    for_each("digests", |vector| {
        let subject = match vector.text("subject") {
            "context" => Subject::Context,
            "request" => Subject::Request,
            other => panic!("unknown subject {other}"),
        };
        let digest = DigestKey::derive(&vector.kek()).digest(subject, &vector.bytes("bytes"));
        assert_eq!(digest[..], vector.bytes("digest"));
    });
}

#[test]
fn frozen_key_ids_are_derived() {
    for_each("key-ids", |vector| {
        let (key, version) = (vector.text("key"), vector.text("version"));
        let id = etcd_key_id(
            vector.instance(),
            key.parse().unwrap(),
            version.parse().unwrap(),
            vector.small("activation"),
        );
        assert_eq!(id, vector.text("id"));
    });
}
