//! Keys for this crate's tests.

use std::sync::LazyLock;

use strongroom_core::{Generation, InstanceId, KekPlace, RingId};

use crate::kek::Kek;
use crate::locked::{LockedKey, LockedMemory, LockedMemorySize};
use crate::material::Material;
use crate::record_mac::RecordMacKey;

/// One reservation for all tests, which run in one process.
pub(crate) static MEMORY: LazyLock<LockedMemory> = LazyLock::new(|| {
    LockedMemory::reserve(LockedMemorySize {
        wanted: 256 * 1024,
        least: 64 * 1024,
    })
    .unwrap()
});

pub(crate) fn key(bytes: [u8; 32]) -> LockedKey {
    MEMORY.copy(&bytes).unwrap()
}

pub(crate) fn material(bytes: [u8; 32]) -> Material {
    Material::new(key(bytes))
}

pub(crate) fn kek(instance: u8, bytes: [u8; 32]) -> Kek {
    let place = KekPlace {
        instance: InstanceId::from_bytes([instance; 16]),
        ring: RingId::from_bytes([9; 16]),
        generation: Generation::FIRST,
    };
    Kek::new(place, key(bytes))
}

pub(crate) fn record_mac_key() -> RecordMacKey {
    RecordMacKey::derive(&kek(1, [1; 32]))
}
