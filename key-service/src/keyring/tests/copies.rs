//! Two copies of everything: what one sealed the other opens, and neither outlives what it came from.

use std::sync::atomic::AtomicU64;

use strongroom_core::{
    Algorithm, KeyId, KeyRole, NewKey, ProtectionLevel, Purpose, StoreEpoch, VersionNumber,
};

use super::*;
use crate::keyring::cache::MATERIAL_MAX;

const CREATED: UnixMillis = UnixMillis::new(1_795_305_600_000);
/// Copies of the ring's KEK.
const KEKS: usize = 2;

/// Says the seconds that the test wants.
#[derive(Default)]
struct Seconds(AtomicU64);

impl Clock for Seconds {
    fn now(&self) -> UnixMillis {
        CREATED
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// A keyring with one key.
struct OneKey {
    clock: Arc<Seconds>,
    place: Place,
    head: KeyHead,
    stored: StoredMaterial,
}

impl OneKey {
    async fn new() -> Self {
        let clock = Arc::new(Seconds::default());
        let place = Place::at(clock.clone());
        let head = KeyHead::new(NewKey {
            id: KeyId::from_bytes([7; 16]),
            ring: OURS,
            name: "orders".parse().unwrap(),
            purpose: Purpose::EncryptDecrypt,
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            role: KeyRole::Api,
            epoch: StoreEpoch::FIRST,
            now: CREATED,
        });
        let kek = Arc::new(place.genuine(OURS));
        let version = head.primary().version;
        let wrapped = place
            .keyring
            .create_material(&head, version, &kek, CREATED)
            .await;
        let wrapped = Arc::new(wrapped.unwrap());
        Self {
            clock,
            place,
            head,
            stored: StoredMaterial { wrapped, kek },
        }
    }

    fn version(&self) -> VersionRef<'_> {
        VersionRef {
            head: &self.head,
            version: self.head.primary().version,
            stored: &self.stored,
        }
    }

    async fn seal(&self) -> Result<Vec<u8>, KeyringError> {
        let context = EncryptionContext::new();
        let keyring = &self.place.keyring;
        keyring
            .seal(self.version(), KeyUse::Api, &context, b"plain")
            .await
    }

    async fn open(&self, sealed: &[u8]) -> Result<SecretBytes, KeyringError> {
        let message = Message::parse(sealed).unwrap();
        let context = EncryptionContext::new();
        let keyring = &self.place.keyring;
        keyring
            .open(self.version(), KeyUse::Api, &context, &message)
            .await
    }

    async fn check_opens(&self, sealed: &[u8]) {
        assert_eq!(self.open(sealed).await.unwrap().expose(), b"plain");
    }

    fn kept(&self, copy: KeyCopy) -> Option<Arc<Material>> {
        let id = (self.head.id, self.version().version, copy);
        self.place.keyring.cache.material(id)
    }

    /// Puts other bytes where a copy of the material lies.
    fn damage(&self, copy: KeyCopy) {
        assert!(self.kept(copy).is_some(), "nothing to damage");
        let id = (self.head.id, self.version().version, copy);
        let other = Material::generate(&self.place.memory).unwrap();
        let cache = &self.place.keyring.cache;
        cache.keep_material(id, &Arc::new(other));
    }

    fn forget(&self) {
        let keyring = &self.place.keyring;
        keyring.forget(&self.head, self.version().version);
    }

    fn keys_in_memory(&self) -> usize {
        self.place.memory.stats().used
    }
}

fn version(number: u32) -> VersionId {
    VersionId {
        epoch: StoreEpoch::FIRST,
        number: VersionNumber::new(number).unwrap(),
    }
}

#[tokio::test]
async fn both_copies_are_unwrapped_once_and_kept() {
    let key = OneKey::new().await;
    assert_eq!(key.keys_in_memory(), KEKS);
    key.seal().await.unwrap();
    let first = key.kept(KeyCopy::First).unwrap();
    let second = key.kept(KeyCopy::Second).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    let sealed = key.seal().await.unwrap();
    key.check_opens(&sealed).await;
    assert!(Arc::ptr_eq(&first, &key.kept(KeyCopy::First).unwrap()));
    assert!(Arc::ptr_eq(&second, &key.kept(KeyCopy::Second).unwrap()));
    assert_eq!(key.keys_in_memory(), KEKS + 2);
}

#[tokio::test]
async fn opening_loads_one_copy_only() {
    let key = OneKey::new().await;
    let sealed = key.seal().await.unwrap();
    key.forget();
    key.check_opens(&sealed).await;
    assert_eq!(key.keys_in_memory(), KEKS + 1);
}

#[tokio::test]
async fn nothing_leaves_when_a_kept_copy_is_damaged_and_both_are_loaded_again() {
    for copy in [KeyCopy::First, KeyCopy::Second] {
        let key = OneKey::new().await;
        key.seal().await.unwrap();
        key.damage(copy);
        let refused = key.seal().await.unwrap_err();
        assert!(
            matches!(refused, KeyringError::MemoryCorrupted),
            "{copy:?}: {refused}"
        );
        assert_eq!(key.keys_in_memory(), 0, "{copy:?}");
        let sealed = key.seal().await.unwrap();
        key.check_opens(&sealed).await;
    }
}

#[tokio::test]
async fn version_that_may_not_be_used_leaves_memory_in_both_copies() {
    let key = OneKey::new().await;
    key.seal().await.unwrap();
    key.forget();
    assert_eq!(key.keys_in_memory(), KEKS);
}

#[tokio::test]
async fn no_copy_of_material_outlives_the_bound_of_its_kek() {
    let key = OneKey::new().await;
    key.seal().await.unwrap();
    let kek = key.stored.kek.record.place();
    key.clock.0.store(BOUND.as_secs(), Ordering::Relaxed);
    assert!(key.place.keyring.cache.kek(kek).is_some());
    assert_eq!(key.keys_in_memory(), KEKS + 2);
    key.clock.0.fetch_add(1, Ordering::Relaxed);
    assert!(key.place.keyring.cache.kek(kek).is_none());
    assert_eq!(key.keys_in_memory(), 0);
}

#[tokio::test]
async fn full_memory_makes_room_for_both_copies() {
    let key = OneKey::new().await;
    let mut number = 1;
    while let Ok(material) = Material::generate(&key.place.memory) {
        number += 1;
        let id = (key.head.id, version(number), KeyCopy::First);
        let cache = &key.place.keyring.cache;
        cache.keep_material(id, &Arc::new(material));
    }
    let sealed = key.seal().await.unwrap();
    key.check_opens(&sealed).await;
    assert_eq!(key.keys_in_memory(), KEKS + 2);
}

#[test]
fn copies_of_material_have_a_bound() {
    let memory = LockedMemory::reserve(LockedMemorySize::default()).unwrap();
    let cache = Cache::new(Arc::new(Seconds::default()), BOUND);
    for number in 1..=10_000 {
        let id = (KeyId::from_bytes([7; 16]), version(number), KeyCopy::Second);
        cache.keep_material(id, &Arc::new(Material::generate(&memory).unwrap()));
    }
    assert_eq!(memory.stats().used, MATERIAL_MAX);
}
