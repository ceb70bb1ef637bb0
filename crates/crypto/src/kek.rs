//! A ring's KEK: the key under which the ring's version material and the instance's own small secrets lie.
//!
//! It knows its place, so that nothing is wrapped for one ring and recorded for another.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use strongroom_core::{
    EncryptionContext, KekPlace, KeyId, KeyUse, SecretBytes, StoreEpoch, VersionId, VersionNumber,
};

use crate::derive::{Label, derive_hmac_key, hmac};
use crate::locked::{FullError, KEY_LEN, LockedKey, LockedMemory};
use crate::message::{self, Message, OpenError, Place, SealError};
use crate::random;

fn place_bytes(place: KekPlace) -> [u8; 36] {
    let KekPlace {
        instance,
        ring,
        generation,
    } = place;
    let mut bytes = [0; 36];
    bytes[..16].copy_from_slice(instance.as_bytes());
    bytes[16..32].copy_from_slice(ring.as_bytes());
    bytes[32..].copy_from_slice(&generation.get().to_be_bytes());
    bytes
}

/// Shows whether a key was unwrapped as it was wrapped, at its place. An HMAC under a key derived from the wrapping key:
/// it tells nothing about the key to whoever lacks the wrapping key, unlike a block encrypted under the key itself.
#[derive(Debug, Clone, Copy)]
pub struct CheckValue([u8; Self::LEN]);

impl CheckValue {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// Takes a check value that was read back.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Gives the bytes, as records hold them.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(crate) fn truncate(mac: [u8; 32]) -> Self {
        let (value, _) = mac.split_first_chunk().expect("16 is less than 32");
        Self(*value)
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A key-encryption key in locked memory.
#[derive(Debug)]
pub struct Kek {
    place: KekPlace,
    key: LockedKey,
}

impl Kek {
    /// Makes a new KEK: AWS-LC's random bytes xor the token's, so that either source alone is enough.
    pub fn generate(
        memory: &LockedMemory,
        place: KekPlace,
        from_token: &[u8; KEY_LEN],
    ) -> Result<Self, FullError> {
        let key = memory.key(|bytes| fill_from_both(bytes, random::fill, from_token))?;
        Ok(Self { place, key })
    }

    /// Takes a KEK that the token unwrapped.
    pub const fn new(place: KekPlace, key: LockedKey) -> Self {
        Self { place, key }
    }

    /// Tells where it belongs.
    pub const fn place(&self) -> KekPlace {
        self.place
    }

    /// Lends the key to `read`, which wraps it under the root.
    pub fn expose<R>(&self, read: impl FnOnce(&[u8; KEY_LEN]) -> R) -> R {
        self.key.expose(read)
    }

    /// Computes the check value that its record holds.
    pub fn check_value(&self) -> CheckValue {
        let place = place_bytes(self.place);
        let key = derive_hmac_key(&self.key, Label::KekCheck, KeyUse::Kcv, &[]);
        CheckValue::truncate(hmac(&key, &[&place]))
    }

    /// Seals something small of the instance's own, opens it with a second copy of this KEK and compares.
    pub fn seal_verified(
        &self,
        second: &Self,
        key_use: KeyUse,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let place = self.message_place(key_use);
        message::seal_verified_under(
            &self.key,
            &second.key,
            &place,
            &context.canonical(),
            plaintext,
        )
    }

    /// Opens what [`Self::seal_verified`] gave for the same use and context.
    pub fn open(
        &self,
        key_use: KeyUse,
        context: &EncryptionContext,
        bytes: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        message::open_under(
            &self.key,
            &self.parse(key_use, bytes)?,
            &context.canonical(),
        )
    }

    /// Parses a message and refuses it unless it claims to be of this KEK and use.
    pub(crate) fn parse<'a>(
        &self,
        key_use: KeyUse,
        bytes: &'a [u8],
    ) -> Result<Message<'a>, OpenError> {
        let message = Message::parse(bytes)?;
        if *message.place() == self.message_place(key_use) {
            Ok(message)
        } else {
            Err(OpenError)
        }
    }

    /// The place of a message under this KEK. Generations are not counted per store epoch, so the epoch is 0.
    pub(crate) fn message_place(&self, key_use: KeyUse) -> Place {
        let KekPlace {
            ring, generation, ..
        } = self.place;
        let number = VersionNumber::new(generation.get()).expect("generations start at 1");
        Place {
            key_use,
            key_id: KeyId::from_bytes(*ring.as_bytes()),
            version: VersionId {
                epoch: StoreEpoch::new(0),
                number,
            },
        }
    }

    pub(crate) const fn key(&self) -> &LockedKey {
        &self.key
    }

    #[cfg(test)]
    pub(crate) const fn key_mut(&mut self) -> &mut LockedKey {
        &mut self.key
    }
}

fn fill_from_both(
    bytes: &mut [u8; KEY_LEN],
    ours: impl FnOnce(&mut [u8]),
    from_token: &[u8; KEY_LEN],
) {
    ours(bytes);
    for (byte, other) in bytes.iter_mut().zip(from_token) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::RingId;

    use super::*;
    use crate::testing;

    fn context() -> EncryptionContext {
        EncryptionContext::from_pairs([("what", "sentinel")]).unwrap()
    }

    #[test]
    fn both_sources_decide_a_new_kek() {
        let mut bytes = [0; KEY_LEN];
        fill_from_both(&mut bytes, |bytes| bytes.fill(0x0f), &[0x3c; KEY_LEN]);
        assert_eq!(bytes, [0x33; KEY_LEN]);
    }

    #[test]
    fn the_token_alone_does_not_decide_a_new_kek() {
        let place = testing::kek(1, [1; KEY_LEN]).place();
        let new = || Kek::generate(&testing::MEMORY, place, &[5; KEY_LEN]).unwrap();
        assert_ne!(new().expose(|bytes| *bytes), new().expose(|bytes| *bytes));
    }

    #[test]
    fn a_check_value_depends_on_key_and_place() {
        let value = |instance, key| testing::kek(instance, [key; 32]).check_value();
        assert!(value(1, 1).matches(&value(1, 1)));
        assert!(!value(1, 1).matches(&value(1, 2)));
        assert!(!value(1, 1).matches(&value(2, 1)));
        let mut next = testing::kek(1, [1; 32]);
        next.place.generation = next.place.generation.next().unwrap();
        assert!(!value(1, 1).matches(&next.check_value()));
    }

    #[test]
    fn what_a_kek_seals_opens_for_the_same_ring_and_use_alone() {
        let (first, second) = (testing::kek(1, [1; 32]), testing::kek(1, [1; 32]));
        let bytes = first
            .seal_verified(&second, KeyUse::Record, &context(), b"secret")
            .unwrap();
        let open = |kek: &Kek, key_use| {
            kek.open(key_use, &context(), &bytes)
                .map(|secret| secret.expose().to_vec())
        };
        assert_eq!(open(&second, KeyUse::Record), Ok(b"secret".to_vec()));
        assert_eq!(open(&second, KeyUse::Backup), Err(OpenError));
        let mut elsewhere = testing::kek(1, [1; 32]);
        elsewhere.place.ring = RingId::from_bytes([8; 16]);
        assert_eq!(open(&elsewhere, KeyUse::Record), Err(OpenError));
    }

    #[test]
    fn a_flipped_bit_in_the_kek_releases_nothing() {
        let (mut first, second) = (testing::kek(1, [1; 32]), testing::kek(1, [1; 32]));
        first.key.flip_a_bit();
        let sealed = first.seal_verified(&second, KeyUse::Record, &context(), b"secret");
        assert_eq!(sealed, Err(SealError::Corrupted));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", testing::kek(1, [0xab; 32]));
        assert!(shown.contains("key: LockedKey(redacted)"), "{shown}");
    }
}
