//! Keys in locked memory: KEKs that the token unwrapped, material that they open, and what is sealed and opened with it.
//!
//! Of each KEK there are two copies, unwrapped by the token one after the other, and each opens a copy of the material by
//! itself: what one copy sealed is opened with the other before it leaves, so that a flipped bit in memory destroys no data.

mod cache;

use std::{sync::Arc, time::Duration};

use strongroom_core::{
    Clock, EncryptionContext, Generation, InstanceId, KekPlace, KeyHead, KeyUse, RingId,
    SecretBytes, UnixMillis, VersionId,
};
use strongroom_crypto::{
    CheckValue, FullError, KEY_LEN, Kek, LockedMemory, LockedMemoryStats, Material, MaterialPlace,
    P256PublicKey, WrappedMaterial,
    material::{UnwrapError, WrapError, unwrap, wrap_verified},
    message::{self, Message, OpenError, Place, SealError, seal_verified},
};
use strongroom_hsm::{Hsm, HsmError, KekRecord, SignedKekRecord};

pub use self::cache::KekPair;
use self::cache::{Cache, KeyCopy};
use crate::registry::{StoredMaterial, WrappedVersion};

/// Why a key cannot be used now, or what it was used on does not open.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The KEK is not in memory, or was there for longer than the bound, and the token does not give it.
    #[error("the key cannot be unwrapped: the HSM is not available")]
    Hsm(#[source] HsmError),
    /// Record, signature or check value do not fit: the store was changed.
    #[error("a wrapped key in the store was changed or belongs elsewhere")]
    Corrupt,
    /// The message does not open. One text for every reason.
    #[error("the ciphertext cannot be opened")]
    DoesNotOpen,
    /// What was sealed did not open with the second copy. Nothing was released, and both copies were dropped.
    #[error("a key in memory was damaged; nothing was released, and it is loaded again")]
    MemoryCorrupted,
    /// The library refused.
    #[error("the cryptographic library refused the operation")]
    Refused,
    /// There is no locked memory left.
    #[error("the locked memory is full")]
    Full(#[source] FullError),
}

impl From<HsmError> for KeyringError {
    fn from(error: HsmError) -> Self {
        match error {
            HsmError::Corrupt { .. } => Self::Corrupt,
            HsmError::Unavailable { .. } | HsmError::NotReady { .. } | HsmError::Refused { .. } => {
                Self::Hsm(error)
            }
        }
    }
}

impl From<FullError> for KeyringError {
    fn from(error: FullError) -> Self {
        Self::Full(error)
    }
}

impl From<SealError> for KeyringError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Refused => Self::Refused,
            SealError::Corrupted => Self::MemoryCorrupted,
        }
    }
}

impl From<UnwrapError> for KeyringError {
    fn from(error: UnwrapError) -> Self {
        match error {
            UnwrapError::Refused => Self::Corrupt,
            UnwrapError::Full(full) => Self::Full(full),
        }
    }
}

impl From<WrapError> for KeyringError {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Seal(error) => error.into(),
            WrapError::Full(full) => Self::Full(full),
        }
    }
}

impl From<OpenError> for KeyringError {
    fn from(OpenError: OpenError) -> Self {
        Self::DoesNotOpen
    }
}

/// One version of a key with what the store holds of it.
#[derive(Clone, Copy, Debug)]
pub struct VersionRef<'a> {
    /// The key.
    pub head: &'a KeyHead,
    /// Which version.
    pub version: VersionId,
    /// Its wrapped material.
    pub stored: &'a StoredMaterial,
}

impl VersionRef<'_> {
    fn material_place(&self) -> MaterialPlace {
        material_place(self.head, self.version, self.stored.wrapped.created)
    }

    fn message_place(&self, key_use: KeyUse) -> Place {
        Place {
            key_use,
            key_id: self.head.id,
            version: self.version,
        }
    }
}

fn material_place(head: &KeyHead, version: VersionId, created: UnixMillis) -> MaterialPlace {
    MaterialPlace {
        key: head.id,
        version,
        algorithm: head.algorithm,
        protection: head.protection,
        purpose: head.purpose,
        created,
    }
}

/// Unwraps, caches and uses keys.
pub struct Keyring {
    hsm: Arc<dyn Hsm>,
    verifier: RecordVerifier,
    memory: LockedMemory,
    cache: Cache,
    /// One load of a KEK at a time: a burst of calls after an outage asks the token once.
    loading: tokio::sync::Mutex<()>,
    missed: tokio::sync::Notify,
}

/// Checks the token's signature of KEK records against the key that was pinned at init, outside the store.
#[derive(Clone, Debug)]
pub struct RecordVerifier {
    record_signing_key: P256PublicKey,
}

impl RecordVerifier {
    /// Takes the pinned public key .
    #[must_use]
    pub const fn new(record_signing_key: P256PublicKey) -> Self {
        Self { record_signing_key }
    }

    /// Says whether the record is one that our token signed.
    #[must_use]
    pub fn accepts(&self, signed: &SignedKekRecord) -> bool {
        let statement = signed.record.signed_bytes();
        self.record_signing_key
            .verify_fixed(&statement, signed.signature.as_bytes())
            .is_ok()
    }
}

impl Keyring {
    /// A keyring over a token. A KEK is used without the token for at most `bound` after the token last gave it.
    #[must_use]
    pub fn new(
        hsm: Arc<dyn Hsm>,
        verifier: RecordVerifier,
        memory: LockedMemory,
        clock: Arc<dyn Clock>,
        bound: Duration,
    ) -> Self {
        Self {
            hsm,
            verifier,
            memory,
            cache: Cache::new(clock, bound),
            loading: tokio::sync::Mutex::new(()),
            missed: tokio::sync::Notify::new(),
        }
    }

    /// Whether our token signed this record.
    #[must_use]
    pub fn accepts(&self, signed: &SignedKekRecord) -> bool {
        self.verifier.accepts(signed)
    }

    /// How much locked memory there is and is used.
    #[must_use]
    pub fn memory(&self) -> LockedMemoryStats {
        self.memory.stats()
    }

    /// Makes a KEK with random bytes of both AWS-LC and the token, and has it wrapped and signed.
    ///
    /// # Errors
    /// When the token does not, or what it gives back is not the KEK.
    pub async fn create_kek(
        &self,
        instance: InstanceId,
        ring: RingId,
        generation: Generation,
    ) -> Result<SignedKekRecord, KeyringError> {
        let place = KekPlace {
            instance,
            ring,
            generation,
        };
        let from_token = self.hsm.random(KEY_LEN).await?;
        let from_token: &[u8; KEY_LEN] = from_token
            .expose()
            .try_into()
            .map_err(|_| KeyringError::Refused)?;
        let kek = Kek::generate(&self.memory, place, from_token)?;
        let plain = kek.expose(|bytes| SecretBytes::copy_from(bytes));
        let envelope = self.hsm.wrap_kek(place, &plain).await?;
        let record = KekRecord::new(place, vec![envelope], *kek.check_value().as_bytes())
            .map_err(|_| KeyringError::Refused)?;
        let signed = self.hsm.sign_kek_record(record).await?;
        // Proves that the record opens to the same KEK before anything is wrapped under it.
        self.load(&signed).await?;
        Ok(signed)
    }

    /// Makes material for a version and wraps it under its ring's KEK.
    ///
    /// # Errors
    /// When the KEK cannot be used.
    pub async fn create_material(
        &self,
        head: &KeyHead,
        version: VersionId,
        kek: &SignedKekRecord,
        created: UnixMillis,
    ) -> Result<WrappedVersion, KeyringError> {
        let pair = self.pair(kek).await?;
        let place = material_place(head, version, created);
        let material = Material::generate(&self.memory)?;
        let wrapped = wrap_verified(&self.memory, &pair.first, &pair.second, &place, &material)?;
        Ok(WrappedVersion {
            kek_generation: kek.record.place().generation,
            wrapped: wrapped.message,
            check_value: *wrapped.check.as_bytes(),
            created,
        })
    }

    /// Seals under a version, and opens the result with the second copy before it is returned.
    ///
    /// # Errors
    /// When the key cannot be used, or is damaged in memory.
    pub async fn seal(
        &self,
        version: VersionRef<'_>,
        key_use: KeyUse,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyringError> {
        let pair = self.pair(&version.stored.kek).await?;
        let first = self.material(&pair, KeyCopy::First, version)?;
        let second = self.material(&pair, KeyCopy::Second, version)?;
        let sealed = seal_verified(
            &first,
            &second,
            &version.message_place(key_use),
            context,
            plaintext,
        );
        if let Err(SealError::Corrupted) = sealed {
            self.cache.forget(
                version.head.id,
                version.version,
                version.stored.kek.record.place(),
            );
        }
        Ok(sealed?)
    }

    /// Opens what `seal` gave for the same version, use and context.
    ///
    /// # Errors
    /// `DoesNotOpen` for everything that is wrong with the message; others when the key cannot be used.
    pub async fn open(
        &self,
        version: VersionRef<'_>,
        key_use: KeyUse,
        context: &EncryptionContext,
        message: &Message<'_>,
    ) -> Result<SecretBytes, KeyringError> {
        let pair = self.pair(&version.stored.kek).await?;
        let material = self.material(&pair, KeyCopy::First, version)?;
        Ok(message::open(&material, key_use, message, context)?)
    }

    /// Lends the KEK of a ring, for the instance's own small secrets and MAC keys.
    ///
    /// # Errors
    /// When the KEK cannot be used.
    pub async fn pair(&self, signed: &SignedKekRecord) -> Result<Arc<KekPair>, KeyringError> {
        if let Some(pair) = self.cache.kek(signed.record.place()) {
            return Ok(pair);
        }
        let _one_at_a_time = self.loading.lock().await;
        match self.cache.kek(signed.record.place()) {
            Some(pair) => Ok(pair),
            None => {
                let loaded = self.load(signed).await;
                if loaded.is_err() {
                    self.missed.notify_one();
                }
                loaded
            }
        }
    }

    /// Waits until a call needed a KEK that the token did not give.
    pub async fn missed(&self) {
        self.missed.notified().await;
    }

    /// Asks the token for every cached KEK again, so that the bound starts anew.
    ///
    /// # Errors
    /// The first failure; the other KEKs were tried too.
    pub async fn refresh(
        &self,
        record: impl Fn(RingId, Generation) -> Option<Arc<SignedKekRecord>>,
    ) -> Result<(), KeyringError> {
        let mut outcome = Ok(());
        for place in self.cache.places() {
            let Some(signed) = record(place.ring, place.generation) else {
                continue;
            };
            if let Err(error) = self.load(&signed).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    /// Drops cached material of a version, so that a version that may not be used leaves memory.
    pub fn forget(&self, head: &KeyHead, version: VersionId) {
        self.cache.forget_material(head.id, version);
    }

    /// Has a KEK unwrapped twice and caches both copies.
    async fn load(&self, signed: &SignedKekRecord) -> Result<Arc<KekPair>, KeyringError> {
        if !self.verifier.accepts(signed) {
            return Err(KeyringError::Corrupt);
        }
        let first = self.load_copy(signed).await?;
        let second = self.load_copy(signed).await?;
        Ok(self
            .cache
            .keep(signed.record.place(), KekPair { first, second }))
    }

    async fn load_copy(&self, signed: &SignedKekRecord) -> Result<Kek, KeyringError> {
        let plain = self.hsm.unwrap_kek(signed).await?;
        let bytes: &[u8; KEY_LEN] = plain
            .expose()
            .try_into()
            .map_err(|_| KeyringError::Corrupt)?;
        let kek = Kek::new(signed.record.place(), self.memory.copy(bytes)?);
        let expected = CheckValue::from_bytes(*signed.record.check_value());
        if kek.check_value().matches(&expected) {
            Ok(kek)
        } else {
            Err(KeyringError::Corrupt)
        }
    }

    /// A copy of material from the cache, or unwrapped with the same copy of the KEK.
    fn material(
        &self,
        pair: &KekPair,
        copy: KeyCopy,
        version: VersionRef<'_>,
    ) -> Result<Arc<Material>, KeyringError> {
        let id = (version.head.id, version.version, copy);
        if let Some(material) = self.cache.material(id) {
            return Ok(material);
        }
        let material = Arc::new(self.unwrap(pair.copy(copy), version)?);
        self.cache.keep_material(id, &material);
        Ok(material)
    }

    fn unwrap(&self, kek: &Kek, version: VersionRef<'_>) -> Result<Material, KeyringError> {
        let wrapped = WrappedMaterial {
            message: version.stored.wrapped.wrapped.clone(),
            check: CheckValue::from_bytes(version.stored.wrapped.check_value),
        };
        match unwrap(&self.memory, kek, &version.material_place(), &wrapped) {
            Err(UnwrapError::Full(_)) => {
                // Cached material can be unwrapped again at any time.
                self.cache.forget_all_material();
                Ok(unwrap(
                    &self.memory,
                    kek,
                    &version.material_place(),
                    &wrapped,
                )?)
            }
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests;
