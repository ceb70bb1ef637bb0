//! Version material: the 32 random bytes from which a key version derives a key for each message.
//!
//! In the store it lies wrapped under its ring's KEK, bound to everything that says what it is.

use std::ptr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use strongroom_core::{
    Algorithm, EncryptionContext, KeyId, KeyUse, ProtectionLevel, Purpose, UnixMillis, VersionId,
};

use crate::derive::{Label, derive_hmac_key, hmac};
use crate::kek::{CheckValue, Kek};
use crate::locked::{FullError, LockedKey, LockedMemory};
use crate::message::{self, OpenError, SealError};
use crate::random;

/// Material of one key version, in locked memory.
#[derive(Debug)]
pub struct Material(LockedKey);

impl Material {
    /// Makes new material.
    pub fn generate(memory: &LockedMemory) -> Result<Self, FullError> {
        memory.key(|bytes| random::fill(bytes)).map(Self)
    }

    /// Takes material that came from elsewhere.
    pub const fn new(key: LockedKey) -> Self {
        Self(key)
    }

    pub(crate) const fn key(&self) -> &LockedKey {
        &self.0
    }

    #[cfg(test)]
    pub(crate) const fn key_mut(&mut self) -> &mut LockedKey {
        &mut self.0
    }
}

/// What a key version is. Wrapped material opens only under exactly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaterialPlace {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: VersionId,
    /// How the key does what it does.
    pub algorithm: Algorithm,
    /// Where the material may be in clear.
    pub protection: ProtectionLevel,
    /// What the key is for.
    pub purpose: Purpose,
    /// When the version was made.
    pub created: UnixMillis,
}

impl MaterialPlace {
    /// The context of the wrapping message; instance and ring come from the KEK.
    fn canonical(&self, kek: &Kek) -> Vec<u8> {
        let Self {
            key,
            version,
            algorithm,
            protection,
            purpose,
            created,
        } = self;
        EncryptionContext::from_pairs([
            ("instance", kek.place().instance.to_string()),
            ("ring", kek.place().ring.to_string()),
            ("key", key.to_string()),
            ("version", version.to_string()),
            ("algorithm", algorithm_text(*algorithm).into()),
            ("protection", protection_text(*protection).into()),
            ("purpose", purpose_text(*purpose).into()),
            ("created", created.as_i64().to_string()),
        ])
        .expect("the keys differ and the values are short")
        .canonical()
    }
}

const fn algorithm_text(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Aes256Gcm => "AES-256-GCM",
    }
}

const fn protection_text(protection: ProtectionLevel) -> &'static str {
    match protection {
        ProtectionLevel::HsmWrapped => "HSMWrapped",
    }
}

const fn purpose_text(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::EncryptDecrypt => "EncryptDecrypt",
    }
}

/// Material as the store holds it.
#[derive(Debug, Clone)]
pub struct WrappedMaterial {
    /// A message with use `wrap` under the ring's KEK.
    pub message: Vec<u8>,
    /// Shows that unwrapping gave what was wrapped.
    pub check: CheckValue,
}

/// Why material could not be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The wrapped material, its place or its check value is not what was stored.
    #[error("the wrapped material does not open at this place")]
    Refused,
    /// There is no locked memory for it.
    #[error(transparent)]
    Full(#[from] FullError),
}

impl From<OpenError> for UnwrapError {
    fn from(OpenError: OpenError) -> Self {
        Self::Refused
    }
}

/// Why material could not be wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// It could not be sealed, or not opened again.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no locked memory for the comparison.
    #[error(transparent)]
    Full(#[from] FullError),
}

/// Wraps material under its ring's KEK, unwraps it with a second copy of the KEK and compares.
///
/// # Assumptions
/// `second` was unwrapped by the token by itself.
///
/// # Panics
/// When both are the same handle: then nothing would be verified.
pub fn wrap_verified(
    memory: &LockedMemory,
    first: &Kek,
    second: &Kek,
    place: &MaterialPlace,
    material: &Material,
) -> Result<WrappedMaterial, WrapError> {
    assert!(
        !ptr::eq(first, second),
        "the second copy of a KEK is not the first"
    );
    let wrapped = wrap(first, place, material)?;
    verify_unwraps(memory, second, place, &wrapped, material)?;
    Ok(wrapped)
}

fn verify_unwraps(
    memory: &LockedMemory,
    second: &Kek,
    place: &MaterialPlace,
    wrapped: &WrappedMaterial,
    material: &Material,
) -> Result<(), WrapError> {
    let again = unwrap(memory, second, place, wrapped).map_err(|error| match error {
        UnwrapError::Refused => WrapError::Seal(SealError::Corrupted),
        UnwrapError::Full(full) => WrapError::Full(full),
    })?;
    let equal = material
        .0
        .expose(|one| again.0.expose(|other| verify_slices_are_equal(one, other)));
    Ok(equal.map_err(|_| SealError::Corrupted)?)
}

fn wrap(
    kek: &Kek,
    place: &MaterialPlace,
    material: &Material,
) -> Result<WrappedMaterial, SealError> {
    let canonical = place.canonical(kek);
    let message_place = kek.message_place(KeyUse::Wrap);
    let message = material
        .0
        .expose(|bytes| message::seal_under(kek.key(), &message_place, &canonical, bytes))?;
    Ok(WrappedMaterial {
        message,
        check: check_value(kek, &canonical, material),
    })
}

/// Unwraps material straight into locked memory.
pub fn unwrap(
    memory: &LockedMemory,
    kek: &Kek,
    place: &MaterialPlace,
    wrapped: &WrappedMaterial,
) -> Result<Material, UnwrapError> {
    let WrappedMaterial { message, check } = wrapped;
    let canonical = place.canonical(kek);
    let message = kek.parse(KeyUse::Wrap, message)?;
    let material = memory.try_key::<UnwrapError>(|bytes| {
        Ok(message::open_into(kek.key(), &message, &canonical, bytes)?)
    })?;
    let material = Material(material);
    if check_value(kek, &canonical, &material).matches(check) {
        Ok(material)
    } else {
        Err(UnwrapError::Refused)
    }
}

fn check_value(kek: &Kek, canonical: &[u8], material: &Material) -> CheckValue {
    let key = derive_hmac_key(kek.key(), Label::MaterialCheck, KeyUse::Kcv, &[]);
    let len = u32::try_from(canonical.len())
        .expect("a context is at most 8 KiB")
        .to_be_bytes();
    CheckValue::truncate(
        material
            .0
            .expose(|bytes| hmac(&key, &[&len, canonical, bytes])),
    )
}

#[cfg(test)]
mod tests {
    use strongroom_core::{KekPlace, RingId, StoreEpoch, VersionNumber};

    use super::*;
    use crate::testing::{self, MEMORY};

    fn place() -> MaterialPlace {
        MaterialPlace {
            key: KeyId::from_bytes([7; 16]),
            version: VersionId {
                epoch: StoreEpoch::FIRST,
                number: VersionNumber::FIRST,
            },
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            purpose: Purpose::EncryptDecrypt,
            created: UnixMillis::new(1_795_305_600_000),
        }
    }

    fn kek() -> Kek {
        testing::kek(1, [1; 32])
    }

    fn wrapped(material: &Material) -> WrappedMaterial {
        wrap_verified(&MEMORY, &kek(), &kek(), &place(), material).unwrap()
    }

    fn unwrapped(
        kek: &Kek,
        place: &MaterialPlace,
        wrapped: &WrappedMaterial,
    ) -> Result<[u8; 32], UnwrapError> {
        unwrap(&MEMORY, kek, place, wrapped).map(|material| material.0.expose(|bytes| *bytes))
    }

    #[test]
    fn what_is_wrapped_unwraps() {
        let wrapped = wrapped(&testing::material([6; 32]));
        assert_eq!(unwrapped(&kek(), &place(), &wrapped), Ok([6; 32]));
    }

    #[test]
    fn new_material_is_random() {
        let bytes = || {
            Material::generate(&MEMORY)
                .unwrap()
                .0
                .expose(|bytes| *bytes)
        };
        assert_ne!(bytes(), bytes());
    }

    #[test]
    fn another_place_does_not_unwrap_it() {
        let wrapped = wrapped(&testing::material([6; 32]));
        let version = VersionId {
            number: VersionNumber::new(2).unwrap(),
            ..place().version
        };
        let elsewhere = [
            MaterialPlace {
                key: KeyId::from_bytes([8; 16]),
                ..place()
            },
            MaterialPlace { version, ..place() },
            MaterialPlace {
                created: UnixMillis::new(1),
                ..place()
            },
        ];
        for place in elsewhere {
            assert_eq!(
                unwrapped(&kek(), &place, &wrapped),
                Err(UnwrapError::Refused),
                "{place:?}"
            );
        }
    }

    #[test]
    fn another_kek_ring_generation_or_instance_does_not_unwrap_it() {
        let wrapped = wrapped(&testing::material([6; 32]));
        let at = |place: KekPlace, bytes| Kek::new(place, testing::key([bytes; 32]));
        let here = kek().place();
        let keks = [
            at(here, 2),
            at(
                KekPlace {
                    ring: RingId::from_bytes([8; 16]),
                    ..here
                },
                1,
            ),
            at(
                KekPlace {
                    generation: here.generation.next().unwrap(),
                    ..here
                },
                1,
            ),
            testing::kek(2, [1; 32]),
        ];
        for kek in keks {
            assert_eq!(
                unwrapped(&kek, &place(), &wrapped),
                Err(UnwrapError::Refused),
                "{kek:?}"
            );
        }
    }

    #[test]
    fn a_wrong_check_value_refuses_what_opens() {
        let mut wrapped = wrapped(&testing::material([6; 32]));
        let mut check = *wrapped.check.as_bytes();
        check[15] ^= 1;
        wrapped.check = CheckValue::from_bytes(check);
        assert_eq!(
            unwrapped(&kek(), &place(), &wrapped),
            Err(UnwrapError::Refused)
        );
    }

    #[test]
    fn a_check_value_of_one_version_does_not_pass_for_another() {
        let material = testing::material([6; 32]);
        let next = MaterialPlace {
            created: UnixMillis::new(1),
            ..place()
        };
        let one = check_value(&kek(), &place().canonical(&kek()), &material);
        let other = check_value(&kek(), &next.canonical(&kek()), &material);
        assert!(!one.matches(&other));
    }

    #[test]
    fn a_message_of_another_use_is_no_wrapped_material() {
        let wrapped = wrapped(&testing::material([6; 32]));
        let place_in_record = kek().message_place(KeyUse::Record);
        let canonical = place().canonical(&kek());
        let message =
            message::seal_under(kek().key(), &place_in_record, &canonical, &[6; 32]).unwrap();
        let offered = WrappedMaterial { message, ..wrapped };
        assert_eq!(
            unwrapped(&kek(), &place(), &offered),
            Err(UnwrapError::Refused)
        );
    }

    #[test]
    fn wrapped_material_has_the_length_of_a_key() {
        let wrapped = wrapped(&testing::material([6; 32]));
        for plaintext in [&[6; 31][..], &[6; 33], &[]] {
            let message = message::seal_under(
                kek().key(),
                &kek().message_place(KeyUse::Wrap),
                &place().canonical(&kek()),
                plaintext,
            );
            let offered = WrappedMaterial {
                message: message.unwrap(),
                ..wrapped.clone()
            };
            assert_eq!(
                unwrapped(&kek(), &place(), &offered),
                Err(UnwrapError::Refused)
            );
        }
    }

    #[test]
    fn a_flipped_bit_in_the_kek_wraps_nothing() {
        let mut flipped = kek();
        flipped.key_mut().flip_a_bit();
        let material = testing::material([6; 32]);
        let wrapped = wrap_verified(&MEMORY, &flipped, &kek(), &place(), &material);
        assert_eq!(wrapped.unwrap_err(), WrapError::Seal(SealError::Corrupted));
    }

    #[test]
    fn what_unwraps_to_other_material_is_not_released() {
        let material = testing::material([6; 32]);
        let wrapped = wrapped(&material);
        let verify = |material| verify_unwraps(&MEMORY, &kek(), &place(), &wrapped, material);
        assert_eq!(verify(&material), Ok(()));
        let other = testing::material([7; 32]);
        assert_eq!(verify(&other), Err(WrapError::Seal(SealError::Corrupted)));
    }

    #[test]
    #[should_panic = "the second copy of a KEK is not the first"]
    fn one_copy_of_a_kek_does_not_verify_itself() {
        let (kek, material) = (kek(), testing::material([6; 32]));
        let _ = wrap_verified(&MEMORY, &kek, &kek, &place(), &material);
    }
}
