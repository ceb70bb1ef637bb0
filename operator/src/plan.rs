//! Decisions: what is known about an object in, what is asked of the key service and said to people out. Nothing is touched
//! here.

mod access;
mod conditions;
mod reason;
mod reference;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

pub use access::{Access, AccessVerdict, bound};
pub use conditions::{Course, Verdict, conditions, is_told, to_the_second, warnings};
pub use reason::Reason;
pub use reference::{ring, secret};
pub use wire::{file_mode, rotation, time, version_time};

/// Whether changes of `access` are guarded by the admission policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Guard {
    /// The API server was not asked yet.
    #[default]
    Unknown,
    /// They are.
    InPlace,
    /// They are not; the sentence says what is missing.
    Missing(&'static str),
}

/// What is known about the namespace of an object, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The uid of the namespace, once it was seen.
    pub namespace_uid: Option<String>,
    /// The KeyRings of the namespace that are not being deleted, in their order.
    pub rings: Vec<String>,
    /// The ManagedSecrets of the namespace that are not being deleted.
    pub secrets: BTreeSet<String>,
    /// The uids of its service accounts, by name.
    pub accounts: BTreeMap<String, String>,
    /// Whether bindings may be applied.
    pub guard: Guard,
}

/// Why nothing is asked of the key service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// In one word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}
