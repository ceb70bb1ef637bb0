//! `testdata/decode.py` reads what this crate writes: with both, neither can drift.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use strongroom_core::{KeyUse, StoreEpoch};
use strongroom_crypto::{RecordMacKey, WrappedMaterial, material, message, random};

use crate::vector::{MEMORY, Vector, document, testdata};

fn decode(document: &Value) -> Output {
    let mut python = Command::new("python3")
        .arg(testdata().join("decode.py"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed: it is the independent reader of the formats");
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(document.to_string().as_bytes()).unwrap();
    drop(stdin);
    python.wait_with_output().unwrap()
}

fn assert_agrees(document: &Value) {
    let output = decode(document);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn random_hex<const N: usize>() -> String {
    hex::encode(random::public_bytes::<N>())
}

fn fresh_message(key_use: KeyUse, plaintext_len: usize) -> Value {
    let mut plaintext = vec![0; plaintext_len];
    random::fill(&mut plaintext);
    let mut vector = json!({
        "use": key_use.name(),
        "key_id": random_hex::<16>(),
        "version": format!("{}.7", u32::from_be_bytes(random::public_bytes())),
        "material": random_hex::<32>(),
        "context": [["zone", random_hex::<5>()], ["app", ""]],
        "plaintext": hex::encode(&plaintext),
    });
    let fields = Vector(&vector);
    let (place, context) = (fields.message_place(), fields.context());
    let sealed = message::seal_verified(
        &fields.material(),
        &fields.material(),
        &place,
        &context,
        &plaintext,
    );
    vector["message"] = hex::encode(sealed.unwrap()).into();
    vector
}

fn fresh_kek() -> Value {
    json!({
        "kek": random_hex::<32>(),
        "instance": random_hex::<16>(),
        "ring": random_hex::<16>(),
        "generation": 3,
    })
}

fn fresh_material() -> Value {
    let mut vector = fresh_kek();
    vector["key"] = random_hex::<16>().into();
    vector["version"] = "2.5".into();
    vector["algorithm"] = "AES-256-GCM".into();
    vector["protection"] = "HSMWrapped".into();
    vector["purpose"] = "EncryptDecrypt".into();
    vector["created_ms"] = 1_795_305_600_123_u64.into();
    vector["material"] = random_hex::<32>().into();
    let fields = Vector(&vector);
    let (place, kek, second) = (fields.material_place(), fields.kek(), fields.kek());
    let wrapped = material::wrap_verified(&MEMORY, &kek, &second, &place, &fields.material());
    let WrappedMaterial { message, check } = wrapped.unwrap();
    vector["message"] = hex::encode(message).into();
    vector["check"] = hex::encode(check.as_bytes()).into();
    vector
}

fn fresh_root() -> Value {
    let mut vector = fresh_kek();
    let key = RecordMacKey::derive(&Vector(&vector).kek());
    let record = |path: &str, seq: u64| {
        let value = random::public_bytes::<40>();
        let mac = key.mac(path, seq, &value);
        json!({
            "path": path, "seq": seq,
            "value": hex::encode(value), "mac": hex::encode(mac.as_bytes()),
        })
    };
    vector["records"] = (0..20)
        .map(|seq| record(&format!("ver/{seq}"), seq))
        .collect();
    let root = key.root(StoreEpoch::FIRST, 20, &Vector(&vector).root_sum(&key));
    vector["epoch"] = 1.into();
    vector["seq"] = 20.into();
    vector["root"] = hex::encode(root.as_bytes()).into();
    vector
}

#[test]
fn the_decoder_reads_the_frozen_vectors() {
    let kinds = [
        "messages",
        "keks",
        "materials",
        "roots",
        "digests",
        "key-ids",
    ];
    let output = Command::new("python3")
        .arg(testdata().join("decode.py"))
        .arg("check")
        .args(kinds.map(|kind| testdata().join(kind).with_extension("json")))
        .output()
        .expect("python3 is installed: it is the independent reader of the formats");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), kinds.len(), "{said}");
}

#[test]
fn the_decoder_opens_fresh_messages_of_each_use() {
    let lens = [0, 1, 15, 16, 17, 32, 64, 255, 256];
    let vectors = KeyUse::ALL
        .into_iter()
        .zip(lens)
        .map(|(key_use, len)| fresh_message(key_use, len));
    assert_agrees(&document("messages", vectors.collect()));
}

#[test]
fn the_decoder_opens_freshly_wrapped_material() {
    assert_agrees(&document(
        "materials",
        vec![fresh_material(), fresh_material()],
    ));
}

#[test]
fn the_decoder_computes_fresh_roots() {
    assert_agrees(&document("roots", vec![fresh_root()]));
}

#[test]
fn the_decoder_refuses_what_was_changed() {
    let mut vector = fresh_message(KeyUse::Api, 10);
    let other = fresh_message(KeyUse::Api, 10);
    for field in [
        "material",
        "key_id",
        "version",
        "context",
        "plaintext",
        "message",
    ] {
        let kept = vector[field].clone();
        vector[field] = other[field].clone();
        let output = decode(&document("messages", vec![vector.clone()]));
        assert!(!output.status.success(), "another {field} went unnoticed");
        assert!(String::from_utf8_lossy(&output.stderr).contains("differs"));
        vector[field] = kept;
    }
}
