//! C2SP signed notes with exactly one Ed25519 signature: <https://c2sp.org/signed-note>.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::hash::Hash;

/// The signature type byte of Ed25519.
const ED25519_TYPE: u8 = 1;
const SIGNATURE_LINE: &str = "\u{2014} ";

/// The first four bytes of SHA-256 over name, newline, type and public key.
fn key_id(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let hash = Hash::of_parts(&[name.as_bytes(), b"\n", &[ED25519_TYPE], public_key]);
    let [a, b, c, d, ..] = hash.0;
    [a, b, c, d]
}

/// Returns `text` with its signature by `key`, which is called `name`.
///
/// `text` ends in a newline; `name` holds neither space nor plus (origins never do).
pub(crate) fn sign(text: &str, name: &str, key: &Ed25519KeyPair) -> String {
    let mut public_key = [0; 32];
    public_key.copy_from_slice(key.public_key().as_ref());
    let mut blob = key_id(name, &public_key).to_vec();
    blob.extend_from_slice(key.sign(text.as_bytes()).as_ref());
    format!("{text}\n{SIGNATURE_LINE}{name} {}\n", STANDARD.encode(blob))
}

/// A note taken apart; its signature is not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note<'a> {
    /// The signed text, its last newline included.
    pub(crate) text: &'a str,
    name: &'a str,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Takes a note with one signature line apart.
    pub(crate) fn parse(note: &'a str) -> Option<Self> {
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return None;
        }
        let split = note.rfind("\n\n")?;
        let (text, rest) = note.split_at(split + 1);
        let line = rest.strip_prefix('\n')?.strip_suffix('\n')?;
        let (name, blob) = line.strip_prefix(SIGNATURE_LINE)?.split_once(' ')?;
        let blob = STANDARD.decode(blob).ok()?;
        let (key_id, signature) = blob.split_first_chunk()?;
        Some(Self {
            text,
            name,
            key_id: *key_id,
            signature: signature.to_vec(),
        })
    }

    /// Whether the signature claims to be by `public_key` under `name`.
    pub(crate) fn names(&self, name: &str, public_key: &[u8; 32]) -> bool {
        self.name == name && self.key_id == key_id(name, public_key)
    }

    /// Whether the signature is by `public_key` under `name`.
    pub(crate) fn verifies(&self, name: &str, public_key: &[u8; 32]) -> bool {
        self.names(name, public_key)
            && UnparsedPublicKey::new(&ED25519, public_key)
                .verify(self.text.as_bytes(), &self.signature)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of golang.org/x/mod/sumdb/note, which C2SP's format comes from.
    const SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNED: &str = "\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const KEY: &str = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn public_key() -> [u8; 32] {
        let typed = STANDARD.decode(KEY).unwrap();
        assert_eq!(typed[0], ED25519_TYPE);
        typed[1..].try_into().unwrap()
    }

    #[test]
    fn the_published_example_verifies() {
        let note = format!("{TEXT}{SIGNED}");
        let parsed = Note::parse(&note).unwrap();
        assert_eq!(parsed.text, TEXT);
        assert_eq!(hex::encode(parsed.key_id), "c74f20a3");
        assert!(parsed.verifies("PeterNeumann", &public_key()));
        assert!(!parsed.verifies("PeterNewmann", &public_key()));
        assert!(!parsed.verifies("PeterNeumann", &[7; 32]));
    }

    #[test]
    fn signing_the_published_text_gives_the_published_note() {
        let key = Ed25519KeyPair::from_seed_unchecked(&STANDARD.decode(SEED).unwrap()).unwrap();
        assert_eq!(sign(TEXT, "PeterNeumann", &key), format!("{TEXT}{SIGNED}"));
    }

    #[test]
    fn every_changed_byte_of_the_example_is_found() {
        let note = format!("{TEXT}{SIGNED}").into_bytes();
        for at in 0..note.len() {
            let mut changed = note.clone();
            changed[at] ^= 1;
            let verifies = str::from_utf8(&changed)
                .ok()
                .and_then(Note::parse)
                .is_some_and(|n| n.verifies("PeterNeumann", &public_key()));
            assert!(!verifies, "byte {at}");
        }
    }
}
