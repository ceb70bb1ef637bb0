//! The store port with etcd's semantics, its memory model and the SQLite engine.
//!
//! Nothing here knows what a record means or who may change it: that is the registry's work, the only caller.
#![forbid(unsafe_code)]

mod feed;
mod key;
mod memory;
mod port;
pub mod sqlite;
mod transaction;
mod watch;

pub use key::{InvalidKey, Key, MAX_KEY_BYTES};
pub use memory::{MemoryStore, UnknownCommit};
pub use port::{Entry, Outcome, Revision, Snapshot, Store, StoreError};
pub use sqlite::SqliteStore;
pub use transaction::{
    Compare, InvalidTransaction, MAX_OPS, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Op, Transaction,
    TransactionBuilder,
};
pub use watch::{Batch, Event, WatchEnd, WatchStream};
