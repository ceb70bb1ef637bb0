//! Memory for keys: never swapped, never in a core dump, and where the kernel has memfd_secret unreadable even for root.
//!
//! The only `unsafe` of this crate. Pages come when first touched, as the heap's do, so memory use follows the keys.
#![allow(
    unsafe_code,
    reason = "mappings and slots are raw memory; each block says why it is sound"
)]

use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags};
use rustix::process::Resource;
use zeroize::Zeroize;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// What the rest of the process may lock besides the keys.
const LEFT_FOR_OTHERS: u64 = 2 * MIB;
const MIB: u64 = 1024 * 1024;
/// A multiple of every page size that Linux uses.
const GRANULE: u64 = 64 * 1024;

/// How much memory to reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedMemorySize {
    /// As much as wished, if `RLIMIT_MEMLOCK` less 2 MiB allows it.
    pub wanted: u64,
    /// With less than this the reservation is refused.
    pub least: u64,
}

impl Default for LockedMemorySize {
    /// Wants 6 MiB, which is what usual nodes allow (a limit of 8 MiB), and refuses less than 64 KiB.
    fn default() -> Self {
        Self {
            wanted: 6 * MIB,
            least: 64 * 1024,
        }
    }
}

/// How the memory is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedMemoryKind {
    /// memfd_secret: not in the kernel's own mapping, not readable through `/proc`, not swapped, not dumped.
    Secret,
    /// The fallback: locked and left out of core dumps.
    Locked,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedMemoryStats {
    /// How the memory is protected.
    pub kind: LockedMemoryKind,
    /// How many keys fit.
    pub capacity: usize,
    /// How many are held.
    pub used: usize,
}

/// Why no memory could be reserved. The host's configuration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// `RLIMIT_MEMLOCK` leaves too little.
    #[error(
        "RLIMIT_MEMLOCK of {limit} bytes leaves {available} for keys and {least} are needed: \
         raise LimitMEMLOCK of containerd, or of the unit that starts this process"
    )]
    LimitTooLow {
        /// The limit in force.
        limit: u64,
        /// What it leaves for keys.
        available: u64,
        /// What was asked for at least.
        least: u64,
    },
    /// The kernel gave no locked memory.
    #[error("the kernel gave no locked memory of {len} bytes")]
    Map {
        /// How much was asked for.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// All slots hold a key. Whoever caches keys evicts one and tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the locked memory is full: it holds {capacity} keys")]
pub struct FullError {
    /// How many keys fit.
    pub capacity: usize,
}

/// A reservation of locked memory. Clones share it; it is given back after the last key in it.
#[derive(Clone)]
pub struct LockedMemory(Arc<Arena>);

impl LockedMemory {
    /// Reserves memory within `RLIMIT_MEMLOCK`.
    pub fn reserve(size: LockedMemorySize) -> Result<Self, ReserveError> {
        let len = size_within(rustix::process::getrlimit(Resource::Memlock).current, size)?;
        let region = Region::secret(len).or_else(|_| Region::locked(len));
        let region = region.map_err(|source| ReserveError::Map { len, source })?;
        Ok(Self::over(region))
    }

    fn over(region: Region) -> Self {
        let slots = Slots {
            capacity: region.len / KEY_LEN,
            fresh: 0,
            freed: Vec::new(),
        };
        Self(Arc::new(Arena {
            region,
            slots: Mutex::new(slots),
        }))
    }

    /// Takes a slot, all zeros, and lets `fill` write the key into it.
    pub fn key(&self, fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Result<LockedKey, FullError> {
        self.try_key(|bytes| {
            fill(bytes);
            Ok(())
        })
    }

    /// Takes a slot and lets `fill` write the key into it; the slot is wiped and free again when it fails.
    pub fn try_key<E: From<FullError>>(
        &self,
        fill: impl FnOnce(&mut [u8; KEY_LEN]) -> Result<(), E>,
    ) -> Result<LockedKey, E> {
        let slot = self.0.slots().take()?;
        let mut key = LockedKey {
            arena: Arc::clone(&self.0),
            slot,
        };
        fill(key.bytes_mut())?;
        Ok(key)
    }

    /// Copies a key in; the caller wipes the source.
    pub fn copy(&self, bytes: &[u8; KEY_LEN]) -> Result<LockedKey, FullError> {
        self.key(|slot| slot.copy_from_slice(bytes))
    }

    /// Counts the keys.
    pub fn stats(&self) -> LockedMemoryStats {
        let slots = self.0.slots();
        LockedMemoryStats {
            kind: self.0.region.kind,
            capacity: slots.capacity,
            used: slots.fresh - slots.freed.len(),
        }
    }
}

impl fmt::Debug for LockedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// How many bytes to map: whole granules, within the limit; `None` is no limit.
fn size_within(limit: Option<u64>, size: LockedMemorySize) -> Result<usize, ReserveError> {
    let LockedMemorySize { wanted, least } = size;
    let available = limit.map_or(wanted, |limit| {
        limit.saturating_sub(LEFT_FOR_OTHERS).min(wanted)
    });
    if available < least.max(GRANULE) {
        let limit = limit.unwrap_or(u64::MAX);
        return Err(ReserveError::LimitTooLow {
            limit,
            available,
            least,
        });
    }
    Ok(usize::try_from(available - available % GRANULE).expect("this crate is for 64-bit systems"))
}

/// A key in locked memory. Wiped when dropped; not `Clone`: a second copy is a second load.
pub struct LockedKey {
    arena: Arc<Arena>,
    slot: usize,
}

impl LockedKey {
    /// Lends the key to `read`. Whoever copies it out of there wipes the copy.
    pub fn expose<R>(&self, read: impl FnOnce(&[u8; KEY_LEN]) -> R) -> R {
        // SAFETY: the slot lies in the mapping, which lives as long as `self.arena`, and belongs to this handle alone;
        // it is written only through `&mut self`.
        read(unsafe { &*self.arena.region.slot(self.slot) })
    }

    fn bytes_mut(&mut self) -> &mut [u8; KEY_LEN] {
        // SAFETY: as in `expose`, and `&mut self` excludes every other borrow of the slot.
        unsafe { &mut *self.arena.region.slot(self.slot) }
    }

    /// Changes one bit, as failing memory would.
    #[cfg(test)]
    pub(crate) fn flip_a_bit(&mut self) {
        self.bytes_mut()[7] ^= 0x10;
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        self.arena.slots().freed.push(self.slot);
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedKey(redacted)")
    }
}

struct Arena {
    region: Region,
    slots: Mutex<Slots>,
}

impl Arena {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // The numbers are whole at every point where a holder could panic.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which slots are free: those given back, then those never used.
struct Slots {
    capacity: usize,
    fresh: usize,
    freed: Vec<usize>,
}

impl Slots {
    fn take(&mut self) -> Result<usize, FullError> {
        if let Some(slot) = self.freed.pop() {
            return Ok(slot);
        }
        if self.fresh == self.capacity {
            return Err(FullError {
                capacity: self.capacity,
            });
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }
}

/// A mapping of its own, readable and writable, never moved or resized.
struct Region {
    start: NonNull<c_void>,
    len: usize,
    kind: LockedMemoryKind,
}

// SAFETY: the region is plain memory that any thread may use; who may use which slot is for `LockedKey` to say.
unsafe impl Send for Region {}
// SAFETY: as above; a shared `Region` only computes addresses.
unsafe impl Sync for Region {}

impl Region {
    fn secret(len: usize) -> io::Result<Self> {
        let file = memfd_secret()?;
        rustix::fs::ftruncate(&file, len as u64)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nobody else has the file.
        let start = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, READ_WRITE, MapFlags::SHARED, &file, 0)?
        };
        let region = Self::adopt(start, len, LockedMemoryKind::Secret)?;
        region.advise(Advice::LinuxDontFork)?;
        Ok(region)
    }

    fn locked(len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, READ_WRITE, MapFlags::PRIVATE)?
        };
        let region = Self::adopt(start, len, LockedMemoryKind::Locked)?;
        // SAFETY: the range is the whole mapping that `region` owns.
        unsafe { rustix::mm::mlock_with(start, len, MlockFlags::ONFAULT)? };
        region.advise(Advice::LinuxDontDump)?;
        region.advise(Advice::LinuxDontFork)?;
        Ok(region)
    }

    /// Takes over a mapping, so that it is given back on every way out.
    fn adopt(start: *mut c_void, len: usize, kind: LockedMemoryKind) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len, kind })
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is the whole mapping; neither advice in use changes what it holds here.
        unsafe { rustix::mm::madvise(self.start.as_ptr(), self.len, advice)? };
        Ok(())
    }

    fn slot(&self, slot: usize) -> *mut [u8; KEY_LEN] {
        assert!(
            slot < self.len / KEY_LEN,
            "slots come from `Slots`, which knows the capacity"
        );
        // SAFETY: the offset is within the mapping, as just asserted; an array of bytes needs no alignment.
        unsafe { self.start.as_ptr().cast::<[u8; KEY_LEN]>().add(slot) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and each `LockedKey` in it keeps the arena alive. It can only fail for a range
        // that is no mapping, and then there is nothing to give back.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.len) };
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: the call takes a flag and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
