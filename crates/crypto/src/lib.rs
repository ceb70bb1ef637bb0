//! Primitives over aws-lc-rs, and locked memory.

mod locked;

pub use locked::{
    FullError, KEY_LEN, LockedKey, LockedMemory, LockedMemoryKind, LockedMemorySize,
    LockedMemoryStats, ReserveError,
};
