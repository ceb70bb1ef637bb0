//! The mapping's flags and limits, and that slots are wiped and given back.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;

fn small(kind: LockedMemoryKind) -> LockedMemory {
    let len = usize::try_from(GRANULE).unwrap();
    LockedMemory::over(match kind {
        LockedMemoryKind::Secret => Region::secret(len).unwrap(),
        LockedMemoryKind::Locked => Region::locked(len).unwrap(),
    })
}

/// What this kernel offers: before Linux 6.5 memfd_secret is off unless the boot line asks for it.
fn kinds() -> Vec<LockedMemoryKind> {
    let secret = memfd_secret().map(|_| LockedMemoryKind::Secret);
    secret
        .into_iter()
        .chain([LockedMemoryKind::Locked])
        .collect()
}

fn address(key: &LockedKey) -> u64 {
    key.expose(|bytes| bytes.as_ptr() as u64)
}

/// The flags of the mapping that holds this address.
fn vm_flags(address: u64) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((start, end)) = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'))
        {
            let bound = |text| u64::from_str_radix(text, 16).unwrap();
            inside = (bound(start)..bound(end)).contains(&address);
        } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return format!("{flags} ");
        }
    }
    panic!("no mapping holds the address");
}

#[test]
fn a_key_holds_what_was_put_in() {
    let memory = small(LockedMemoryKind::Locked);
    let one = memory.copy(&[1; KEY_LEN]).unwrap();
    let other = memory.copy(&[2; KEY_LEN]).unwrap();
    one.expose(|bytes| assert_eq!(bytes, &[1; KEY_LEN]));
    other.expose(|bytes| assert_eq!(bytes, &[2; KEY_LEN]));
}

#[test]
fn a_slot_comes_back_wiped() {
    let memory = small(LockedMemoryKind::Locked);
    let place = address(&memory.copy(&[0xaa; KEY_LEN]).unwrap());
    let again = memory.key(|slot| assert_eq!(slot, &[0; KEY_LEN])).unwrap();
    assert_eq!(address(&again), place);
}

#[test]
fn a_failed_fill_wipes_and_frees_the_slot() {
    let memory = small(LockedMemoryKind::Locked);
    let failed = memory.try_key(|slot| {
        slot.fill(0xaa);
        Err(FullError { capacity: 7 })
    });
    assert_eq!(failed.unwrap_err().capacity, 7);
    assert_eq!(memory.stats().used, 0);
    memory.key(|slot| assert_eq!(slot, &[0; KEY_LEN])).unwrap();
}

#[test]
fn full_memory_is_an_error_until_a_key_goes() {
    let memory = small(LockedMemoryKind::Locked);
    let capacity = memory.stats().capacity;
    let mut keys: Vec<_> = (0..capacity)
        .map(|_| memory.copy(&[3; KEY_LEN]).unwrap())
        .collect();
    assert_eq!(
        memory.copy(&[3; KEY_LEN]).unwrap_err(),
        FullError { capacity }
    );
    assert_eq!(memory.stats().used, capacity);
    keys.pop();
    memory.copy(&[4; KEY_LEN]).unwrap();
}

#[test]
fn keys_outlive_their_handle_on_the_memory() {
    let memory = small(LockedMemoryKind::Locked);
    let key = memory.copy(&[5; KEY_LEN]).unwrap();
    drop(memory);
    key.expose(|bytes| assert_eq!(bytes, &[5; KEY_LEN]));
}

#[test]
fn each_kind_is_locked_and_kept_from_dumps_and_children() {
    for kind in kinds() {
        let key = small(kind).copy(&[6; KEY_LEN]).unwrap();
        let flags = vm_flags(address(&key));
        for flag in [" lo ", " dd ", " dc "] {
            assert!(flags.contains(flag), "{kind:?} lacks{flag}: {flags}");
        }
    }
}

#[test]
fn only_the_fallback_can_be_read_through_proc() {
    for kind in kinds() {
        let key = small(kind).copy(&[7; KEY_LEN]).unwrap();
        let mut bytes = [0; KEY_LEN];
        let memory = fs::File::open("/proc/self/mem").unwrap();
        let readable = memory.read_exact_at(&mut bytes, address(&key)).is_ok();
        assert_eq!(readable, kind == LockedMemoryKind::Locked, "{kind:?}");
    }
}

#[test]
fn the_size_is_what_the_limit_leaves() {
    let size = LockedMemorySize {
        wanted: 6 * MIB,
        least: MIB,
    };
    let len = |limit| size_within(limit, size).ok();
    assert_eq!(len(None), Some(6 << 20));
    assert_eq!(len(Some(8 * MIB)), Some(6 << 20));
    assert_eq!(len(Some(3 * MIB)), Some(1 << 20));
    assert_eq!(
        len(Some(3 * MIB + GRANULE + 1)),
        Some((1 << 20) + (64 << 10))
    );
    assert_eq!(len(Some(3 * MIB - 1)), None);
    assert_eq!(len(Some(64 * 1024)), None);
}

#[test]
fn a_limit_that_is_too_low_names_what_to_raise() {
    let size = LockedMemorySize {
        wanted: 6 * MIB,
        least: MIB,
    };
    assert_eq!(
        size_within(Some(65536), size).unwrap_err().to_string(),
        "RLIMIT_MEMLOCK of 65536 bytes leaves 0 for keys and 1048576 are needed: \
         raise LimitMEMLOCK of containerd, or of the unit that starts this process"
    );
}

#[test]
fn a_reservation_prefers_secret_memory() {
    let memory = LockedMemory::reserve(LockedMemorySize {
        wanted: 65536,
        least: 65536,
    })
    .unwrap();
    let stats = memory.stats();
    assert_eq!(
        (stats.kind, stats.capacity),
        (LockedMemoryKind::Secret, 2048)
    );
}

#[test]
fn debug_shows_no_key() {
    let key = small(LockedMemoryKind::Locked).copy(&[8; KEY_LEN]).unwrap();
    assert_eq!(format!("{key:?}"), "LockedKey(redacted)");
}
