//! The port: what the key service asks of a store, and nothing of how it is kept.

use std::fmt;

use async_trait::async_trait;

use crate::{Key, Transaction, WatchStream};

/// A point in the one order of all changes. A store in which nothing was ever changed is at revision zero or above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Vec<u8>,
    /// Since when the key exists without a break.
    pub created: Revision,
    /// When it was last set.
    pub modified: Revision,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            created,
            modified,
        } = self;
        write!(
            f,
            "Entry({key:?}, {} bytes, created {created}, modified {modified})",
            value.len()
        )
    }
}

/// All entries under a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The head of the store when the snapshot was taken.
    pub revision: Revision,
    /// The entries, ordered by key.
    pub entries: Vec<Entry>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "only `Committed` means that the change is there"]
pub enum Outcome {
    /// It is there and will survive a crash. The revision is its own, or the head when it changed nothing.
    Committed(Revision),

    /// A compare did not hold; nothing was changed.
    CompareFailed,

    /// Nobody can tell: it may be there now, come later, or never. Find out by reading; never send it again blindly.
    Unknown,
}

/// Why a store did not do what it was asked. None of these leaves a change behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was lost; writes succeed again when there is space.
    #[error("the disk of the store is full, nothing was written")]
    Full,

    /// The disk or the database failed. The store takes no more calls: the process should end and start again.
    #[error("the store failed and the process must start again: {reason}")]
    Failed {
        /// What the engine said.
        reason: String,
    },

    /// The store was closed by its owner.
    #[error("the store is closed")]
    Closed,
}

/// An ordered map with one revision, in the semantics of etcd, without leases.
///
/// # Guarantees
///
/// - Transactions are strictly serializable, and a committed one is durable before it is acknowledged.
/// - A transaction that changes something raises the revision by one; all its changes carry that revision. Setting a key
///   to the value it has is a change, deleting an absent key is none.
/// - [`snapshot`](Self::snapshot) and [`head`](Self::head) see everything that was acknowledged before they were called.
/// - A watch sees each revision once and in order, possibly late, never with a gap: it ends instead.
///
/// # Errors
///
/// An `Err` of [`commit`](Self::commit) means that the transaction did not happen and never will; what is not certain is
/// [`Outcome::Unknown`]. Nothing is retried inside.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads all entries whose keys start with `prefix`, at one revision. The empty prefix is the whole store.
    async fn snapshot(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Applies the transaction when all its compares hold.
    ///
    /// Dropping the future does not take the transaction back: its outcome is then unknown.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError>;

    /// Follows the changes of keys that start with `prefix`, from the revision after `after` on.
    ///
    /// A stream whose next revision is no longer kept ends with [`WatchEnd::Compacted`](crate::WatchEnd::Compacted): take
    /// a snapshot and watch from its revision.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// The newest revision.
    async fn head(&self) -> Result<Revision, StoreError>;
}
