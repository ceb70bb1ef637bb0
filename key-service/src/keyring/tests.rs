//! A KEK record that is not genuine stops its own ring and no other, whatever the store says of it.

mod copies;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use strongroom_core::{Generation, InstanceId, RingId, SecretBytes};
use strongroom_crypto::LockedMemorySize;
use strongroom_hsm::{
    CaCertificateRequest, CheckpointKeyStatement, KekRecord, Reason, RootEnvelope, RootId,
    SignedKekRecord, TokenDescription, TokenSignature,
};
use strongroom_runtime::SystemClock;
use tonic::async_trait;

use super::*;

const OURS: RingId = RingId::from_bytes([1; 16]);
const OTHERS: RingId = RingId::from_bytes([2; 16]);
const BOUND: Duration = Duration::from_secs(60);

/// A token that opens whatever it is shown, so that nothing but the keyring's own checks can refuse.
#[derive(Default)]
struct Credulous {
    keks: HashMap<RingId, [u8; KEY_LEN]>,
    asked: AtomicUsize,
}

#[async_trait]
impl Hsm for Credulous {
    async fn describe(&self) -> Result<TokenDescription, HsmError> {
        Err(beside_the_point())
    }

    async fn initialize(&self, _: InstanceId) -> Result<TokenDescription, HsmError> {
        Err(beside_the_point())
    }

    async fn random(&self, _: usize) -> Result<SecretBytes, HsmError> {
        Err(beside_the_point())
    }

    async fn wrap_kek(&self, _: KekPlace, _: &SecretBytes) -> Result<RootEnvelope, HsmError> {
        Err(beside_the_point())
    }

    async fn sign_kek_record(&self, _: KekRecord) -> Result<SignedKekRecord, HsmError> {
        Err(beside_the_point())
    }

    async fn unwrap_kek(&self, record: &SignedKekRecord) -> Result<SecretBytes, HsmError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let kek = self.keks.get(&record.record.place().ring);
        Ok(SecretBytes::copy_from(kek.ok_or_else(beside_the_point)?))
    }

    async fn certify_checkpoint_key(
        &self,
        _: &CheckpointKeyStatement,
    ) -> Result<TokenSignature, HsmError> {
        Err(beside_the_point())
    }

    async fn sign_ca_certificate(&self, _: &CaCertificateRequest) -> Result<Vec<u8>, HsmError> {
        Err(beside_the_point())
    }
}

fn beside_the_point() -> HsmError {
    HsmError::new(Reason::InvalidRequest, "no test asks for it")
}

struct Place {
    signing_key: EcdsaKeyPair,
    memory: LockedMemory,
    token: Arc<Credulous>,
    keyring: Keyring,
}

impl Place {
    fn new() -> Self {
        Self::at(Arc::new(SystemClock))
    }

    fn at(clock: Arc<dyn Clock>) -> Self {
        let signing_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = signing_key.public_key().as_der().unwrap();
        let public = P256PublicKey::from_spki(spki.as_ref()).unwrap();
        let size = LockedMemorySize {
            wanted: 64 * 1024,
            least: 4096,
        };
        let memory = LockedMemory::reserve(size).unwrap();
        let keks = HashMap::from([(OURS, [3; KEY_LEN]), (OTHERS, [4; KEY_LEN])]);
        let token = Arc::new(Credulous {
            keks,
            ..Credulous::default()
        });
        let keyring = Keyring::new(
            token.clone(),
            RecordVerifier::new(public),
            memory.clone(),
            clock,
            BOUND,
        );
        Self {
            signing_key,
            memory,
            token,
            keyring,
        }
    }

    /// A record with the envelope, and the check value of this KEK, signed.
    fn signed(&self, ring: RingId, envelope: u8, kek: [u8; KEY_LEN]) -> SignedKekRecord {
        let place = KekPlace {
            instance: InstanceId::from_bytes([9; 16]),
            ring,
            generation: Generation::FIRST,
        };
        let kek = Kek::new(place, self.memory.copy(&kek).unwrap());
        let envelope = RootEnvelope::AesGcmHostIv {
            root: RootId::from_bytes([7; 16]),
            iv: [envelope; 12],
            sealed: [envelope; 48],
        };
        let check = *kek.check_value().as_bytes();
        let record = KekRecord::new(place, vec![envelope], check).unwrap();
        let statement = record.signed_bytes();
        let signature = self.signing_key.sign(&SystemRandom::new(), &statement);
        let signature = signature.unwrap().as_ref().try_into().unwrap();
        SignedKekRecord {
            record,
            signature: TokenSignature::from_bytes(signature),
        }
    }

    fn genuine(&self, ring: RingId) -> SignedKekRecord {
        self.signed(ring, 5, self.token.keks[&ring])
    }

    async fn check_refused(&self, forged: &SignedKekRecord, asked: usize) {
        let before = self.token.asked.load(Ordering::Relaxed);
        let refusal = self.keyring.pair(forged).await.unwrap_err();
        assert!(matches!(refusal, KeyringError::Corrupt), "{refusal}");
        assert_eq!(self.token.asked.load(Ordering::Relaxed) - before, asked);
        // The other ring goes on.
        let other = self.keyring.pair(&self.genuine(OTHERS)).await.unwrap();
        other.first.expose(|kek| assert_eq!(*kek, [4; KEY_LEN]));
    }
}

#[tokio::test]
async fn record_that_the_token_did_not_sign_is_refused_without_asking_it() {
    let place = Place::new();
    let ours = place.genuine(OURS);
    let with_record = |record: KekRecord| SignedKekRecord {
        record,
        signature: ours.signature,
    };
    let mut changed = *ours.signature.as_bytes();
    changed[40] ^= 1;
    let forgeries = [
        SignedKekRecord {
            record: ours.record.clone(),
            signature: TokenSignature::from_bytes(changed),
        },
        with_record(place.signed(OURS, 6, [3; KEY_LEN]).record),
        with_record(place.signed(OURS, 5, [8; KEY_LEN]).record),
        SignedKekRecord {
            record: ours.record.clone(),
            signature: place.genuine(OTHERS).signature,
        },
    ];
    for forged in &forgeries {
        place.check_refused(forged, 0).await;
    }
    place.keyring.pair(&ours).await.unwrap();
}

#[tokio::test]
async fn signed_record_that_opens_to_another_kek_is_refused() {
    let place = Place::new();
    let other_kek = place.signed(OURS, 5, [8; KEY_LEN]);
    place.check_refused(&other_kek, 1).await;
}
