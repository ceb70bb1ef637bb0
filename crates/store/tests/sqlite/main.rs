//! The SQLite engine against crashes, full disks, failing disks and files that are not its own.

mod child;
mod crash;
mod creation;
mod disk_full;
mod failing_disk;
mod life;
mod refusals;
mod sync;

use std::path::Path;

use strongroom_store::sqlite::Options;
use strongroom_store::{Key, Outcome, Revision, SqliteStore, Store, StoreError, Transaction};

/// Temporary folders of a machine that runs tests may be on any local file system.
fn options() -> Options {
    Options {
        danger_allow_ephemeral: true,
        ..Options::default()
    }
}

fn create(path: &Path) {
    SqliteStore::create(path, &options()).unwrap();
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &options()).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(
    store: &SqliteStore,
    name: &str,
    value: impl Into<Vec<u8>>,
) -> Result<Outcome, StoreError> {
    let transaction = Transaction::builder()
        .put(key(name), value)
        .build()
        .unwrap();
    store.commit(transaction).await
}

/// Puts what must be committed.
async fn must_put(store: &SqliteStore, name: &str, value: impl Into<Vec<u8>>) -> Revision {
    match put(store, name, value).await.unwrap() {
        Outcome::Committed(revision) => revision,
        other => panic!("not committed: {other:?}"),
    }
}
