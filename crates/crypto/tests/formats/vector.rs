//! Reading and writing test vectors: JSON objects with hexadecimal fields.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use strongroom_core::{
    Algorithm, EncryptionContext, Generation, InstanceId, KekPlace, KeyUse, ProtectionLevel,
    Purpose, UnixMillis,
};
use strongroom_crypto::message::Place;
use strongroom_crypto::{
    Kek, LockedMemory, LockedMemorySize, Material, MaterialPlace, RecordMacKey, RootSum,
};

/// The reservation of this test program.
pub(crate) static MEMORY: LazyLock<LockedMemory> = LazyLock::new(|| {
    LockedMemory::reserve(LockedMemorySize {
        wanted: 65536,
        least: 65536,
    })
    .unwrap()
});

/// Where the vectors and the decoder lie.
pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// One vector; each accessor fails the test when its field is missing.
#[derive(Clone, Copy)]
pub(crate) struct Vector<'a>(pub(crate) &'a Value);

impl Vector<'_> {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field]
            .as_str()
            .unwrap_or_else(|| panic!("no text {field} in {}", self.0))
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.0[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {field} in {}", self.0))
    }

    pub(crate) fn small(&self, field: &str) -> u32 {
        self.number(field).try_into().unwrap()
    }

    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap()
    }

    fn key_bytes(&self, field: &str) -> [u8; 32] {
        self.bytes(field).try_into().unwrap()
    }

    pub(crate) fn material(&self) -> Material {
        Material::new(MEMORY.copy(&self.key_bytes("material")).unwrap())
    }

    pub(crate) fn kek(&self) -> Kek {
        let place = KekPlace {
            instance: self.instance(),
            ring: self.text("ring").parse().unwrap(),
            generation: Generation::new(self.small("generation")).unwrap(),
        };
        Kek::new(place, MEMORY.copy(&self.key_bytes("kek")).unwrap())
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.text("instance").parse().unwrap()
    }

    pub(crate) fn key_use(&self) -> KeyUse {
        KeyUse::ALL
            .into_iter()
            .find(|key_use| key_use.name() == self.text("use"))
            .unwrap()
    }

    pub(crate) fn message_place(&self) -> Place {
        Place {
            key_use: self.key_use(),
            key_id: self.text("key_id").parse().unwrap(),
            version: self.text("version").parse().unwrap(),
        }
    }

    pub(crate) fn context(&self) -> EncryptionContext {
        let pairs = self.0["context"].as_array().unwrap().iter();
        let pair = |pair: &Value| {
            let value = hex::decode(pair[1].as_str().unwrap()).unwrap();
            (pair[0].as_str().unwrap().to_owned(), value)
        };
        EncryptionContext::from_pairs(pairs.map(pair)).unwrap()
    }

    pub(crate) fn material_place(&self) -> MaterialPlace {
        assert_eq!(self.text("algorithm"), "AES-256-GCM");
        assert_eq!(self.text("protection"), "HSMWrapped");
        assert_eq!(self.text("purpose"), "EncryptDecrypt");
        MaterialPlace {
            key: self.text("key").parse().unwrap(),
            version: self.text("version").parse().unwrap(),
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            purpose: Purpose::EncryptDecrypt,
            created: UnixMillis::new(self.number("created_ms").try_into().unwrap()),
        }
    }

    pub(crate) fn records(&self) -> Vec<Vector<'_>> {
        self.0["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(Vector)
            .collect()
    }

    /// The sum over the records' MACs as this crate computes them.
    pub(crate) fn root_sum(&self, key: &RecordMacKey) -> RootSum {
        let mut sum = RootSum::EMPTY;
        for record in self.records() {
            let mac = key.mac(
                record.text("path"),
                record.number("seq"),
                &record.bytes("value"),
            );
            sum.add(key, &mac);
        }
        sum
    }
}

/// Makes a document of vectors as the decoder reads it.
pub(crate) fn document(kind: &str, vectors: Vec<Value>) -> Value {
    json!({ "kind": kind, "vectors": vectors })
}
