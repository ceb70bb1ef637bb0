//! The canonical dump of a store: what the registry means, without what each start, each anchor and each hour changes.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use prost::Message;
use rusqlite::{Connection, OpenFlags};
use strongroom_api::strongroom::storage::v1::{Record, Root};
use strongroom_hack::installation::Installation;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Records of the instance, rings, keys and versions with their bytes, sequence numbers and MACs included.
    pub records: BTreeMap<String, Vec<u8>>,
    /// The store's epoch and the number of its last change.
    pub position: (u32, u64),
}

impl Dump {
    /// Reads a copy of the files, as they lie there: a reader of the originals would leave its own traces.
    ///
    /// # Errors
    /// When they are no store of ours.
    pub fn of(installation: &Installation) -> Result<Self> {
        let copy = tempfile::tempdir()?;
        for name in ["store.db", "store.db-wal"] {
            let from = installation.path("service").join(name);
            if from.exists() {
                fs::copy(from, copy.path().join(name))?;
            }
        }
        Self::read(&copy.path().join("store.db"))
    }

    fn read(database: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut statement = connection.prepare("SELECT key, value FROM entry")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut records = rows.collect::<rusqlite::Result<BTreeMap<String, Vec<u8>>>>()?;
        let root = records.get("meta/root").context("a store has a root")?;
        let root = Root::decode(root.as_slice())?;
        let stays =
            |path: &str| !path.starts_with("audit/") && !matches!(path, "meta/root" | "meta/clock");
        records.retain(|path, _| stays(path));
        Ok(Self {
            records,
            position: (root.store_epoch, root.seq),
        })
    }

    /// The paths whose records differ, one way or the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let paths = self.records.keys().chain(other.records.keys());
        let mut paths: Vec<String> = paths
            .filter(|path| self.records.get(*path) != other.records.get(*path))
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// The sequence number of one record.
///
/// # Errors
/// When the bytes are no record.
pub fn seq(record: &[u8]) -> Result<u64> {
    Ok(Record::decode(record)?.seq)
}
