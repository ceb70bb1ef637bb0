//! No copy of a key lies outside locked memory: the process looks for its own keys in all of its own memory.
//!
//! One test in a program of its own, so that no other test's buffers are in the picture.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use strongroom_core::{
    Algorithm, EncryptionContext, Generation, InstanceId, KekPlace, KeyId, KeyUse, ProtectionLevel,
    Purpose, RingId, UnixMillis,
};
use strongroom_crypto::message::{self, Message, Place};
use strongroom_crypto::{
    KEY_LEN, Kek, LockedKey, LockedMemory, LockedMemorySize, Material, MaterialPlace, material,
    random,
};

/// A key as it is remembered for the search: masked, so that the memory of it is not found.
struct Pattern {
    masked: [u8; KEY_LEN],
    /// Where the key may be; in memfd_secret nobody could look anyway.
    home: u64,
}

const MASK: u8 = 0x5a;

impl Pattern {
    fn of(key: &[u8; KEY_LEN]) -> Self {
        Self {
            masked: key.map(|byte| byte ^ MASK),
            home: key.as_ptr() as u64,
        }
    }

    fn is_at(&self, window: &[u8]) -> bool {
        window
            .iter()
            .zip(&self.masked)
            .all(|(byte, masked)| byte ^ MASK == *masked)
    }

    /// Counts the places in writable memory outside the key's home that hold the key.
    fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let elsewhere = |range: &Range<u64>| !range.contains(&self.home);
        let ranges = maps.lines().filter_map(writable_range).filter(elsewhere);
        ranges.map(|range| self.count_in(&memory, range)).sum()
    }

    fn count_in(&self, memory: &File, range: Range<u64>) -> usize {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        let found = match memory.read_exact_at(&mut bytes, range.start) {
            Ok(()) => bytes
                .windows(KEY_LEN)
                .filter(|window| self.is_at(window))
                .count(),
            // The kernel's own pages; what this process cannot read so, nobody can.
            Err(_) => 0,
        };
        bytes.fill(0);
        std::hint::black_box(&bytes);
        found
    }
}

fn writable_range(line: &str) -> Option<Range<u64>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    rest.starts_with("rw")
        .then_some(address(start)?..address(end)?)
}

/// Draws a key in place and remembers it masked.
fn draw(memory: &LockedMemory) -> (LockedKey, Pattern) {
    let mut pattern = None;
    let key = memory.key(|bytes| {
        random::fill(bytes);
        pattern = Some(Pattern::of(bytes));
    });
    (key.unwrap(), pattern.unwrap())
}

/// A second copy of a key, as the token would give it.
fn again(memory: &LockedMemory, key: &LockedKey) -> LockedKey {
    key.expose(|bytes| memory.copy(bytes)).unwrap()
}

fn kek_place() -> KekPlace {
    KekPlace {
        instance: InstanceId::from_bytes([1; 16]),
        ring: RingId::from_bytes([2; 16]),
        generation: Generation::FIRST,
    }
}

fn material_place() -> MaterialPlace {
    MaterialPlace {
        key: KeyId::from_bytes([3; 16]),
        version: "1.1".parse().unwrap(),
        algorithm: Algorithm::Aes256Gcm,
        protection: ProtectionLevel::HsmWrapped,
        purpose: Purpose::EncryptDecrypt,
        created: UnixMillis::new(0),
    }
}

#[test]
fn keys_leave_no_copy_outside_locked_memory() {
    let size = LockedMemorySize {
        wanted: 65536,
        least: 65536,
    };
    let memory = LockedMemory::reserve(size).unwrap();
    assert_a_plain_copy_is_found(&memory);

    let (kek, kek_pattern) = draw(&memory);
    let (material, material_pattern) = draw(&memory);
    let second = Kek::new(kek_place(), again(&memory, &kek));
    let (kek, material) = (Kek::new(kek_place(), kek), Material::new(material));
    use_keys(&memory, &kek, &second, &material);
    for (what, pattern) in [("KEK", &kek_pattern), ("material", &material_pattern)] {
        assert_eq!(pattern.count(), 0, "copies of the {what} while it is held");
    }
    drop((kek, second, material));
    for (what, pattern) in [("KEK", &kek_pattern), ("material", &material_pattern)] {
        assert_eq!(
            pattern.count(),
            0,
            "copies of the {what} after it was dropped"
        );
    }
}

/// The search itself works: a copy on the heap is seen.
fn assert_a_plain_copy_is_found(memory: &LockedMemory) {
    let (key, pattern) = draw(memory);
    let copy = key.expose(|bytes| bytes.to_vec());
    assert!(pattern.count() > 0);
    drop(std::hint::black_box(copy));
}

/// Everything that is done with a KEK and material in a day.
fn use_keys(memory: &LockedMemory, kek: &Kek, second: &Kek, material: &Material) {
    let place = material_place();
    let wrapped = material::wrap_verified(memory, kek, second, &place, material).unwrap();
    let unwrapped = material::unwrap(memory, kek, &place, &wrapped).unwrap();
    kek.check_value();

    let place = Place {
        key_use: KeyUse::Api,
        key_id: place.key,
        version: place.version,
    };
    let context = EncryptionContext::from_pairs([("app", "shop")]).unwrap();
    let sealed =
        message::seal_verified(material, &unwrapped, &place, &context, b"plaintext").unwrap();
    let message = Message::parse(&sealed).unwrap();
    assert!(message::open(&unwrapped, KeyUse::Api, &message, &context).is_ok());
}
