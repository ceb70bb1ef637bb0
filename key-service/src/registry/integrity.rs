//! The commitment to all records: a MAC on each, and one root over the multiset of these MACs.
//!
//! Whoever can write the store can neither change, swap, delete nor put back a record without the root telling.

use std::collections::BTreeMap;

use prost::Message;
use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::StoreEpoch;
use strongroom_crypto::{RecordMac, RecordMacKey, RootSum};
use strongroom_store::{Entry, Revision, Snapshot};

use super::path::{self, Place};

/// The store is not what this instance wrote. Nothing is served until a person has looked.
#[derive(Debug, thiserror::Error)]
pub enum IntegrityError {
    /// There is no root over the records.
    #[error(
        "the store has records, but no {}: it is incomplete or of something else",
        path::ROOT
    )]
    RootMissing,
    /// Bytes under a path are not a record.
    #[error("record {path} is not readable as a record")]
    Malformed {
        /// Where.
        path: String,
    },
    /// A path that nobody of this version writes.
    #[error("record {path} is of a kind that this version of the program does not know")]
    Unknown {
        /// Where.
        path: String,
    },
    /// A record's MAC does not fit: it was changed, or belongs to another place or instance.
    #[error("record {path} was changed: its MAC does not fit")]
    Changed {
        /// Where.
        path: String,
    },
    /// All records are genuine, but they are not the set that was written last.
    #[error(
        "StoreRolledBack: records were deleted, added again or put back; stored root {stored_root} at seq \
         {stored_seq}, recomputed root {computed_root}, highest seq of a record {highest_seq}"
    )]
    StoreRolledBack {
        /// Root in the store, hexadecimal.
        stored_root: String,
        /// Its `seq`.
        stored_seq: u64,
        /// Root over the records that are there, hexadecimal.
        computed_root: String,
        /// The highest `seq` of a record that is there.
        highest_seq: u64,
    },
}

/// Where the store is: compared and raised by every transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counts restores.
    pub epoch: StoreEpoch,
    /// Counts changes.
    pub seq: u64,
    /// Commits to all records at `seq`.
    pub root: RecordMac,
}

/// MACs of all records, their multiset hash, and the keys to go on.
pub(crate) struct Ledger {
    keys: RecordMacKey,
    macs: BTreeMap<String, RecordMac>,
    sum: RootSum,
}

/// One change of a record as the ledger sees it.
pub(crate) enum Write<'a> {
    Put(&'a str, Vec<u8>),
    Delete(&'a str),
}

/// What a change makes of the ledger; taken over by `Ledger::advance` once the store has it.
pub(crate) struct Advance {
    /// Encoded records to put, by path, without the root.
    pub(crate) puts: Vec<(String, Vec<u8>)>,
    /// The encoded root.
    pub(crate) root_record: Vec<u8>,
    /// The position after it.
    pub(crate) position: Position,
    macs: Vec<(String, Option<RecordMac>)>,
    sum: RootSum,
}

impl Ledger {
    pub(crate) fn empty(keys: RecordMacKey) -> Self {
        Self {
            keys,
            macs: BTreeMap::new(),
            sum: RootSum::default(),
        }
    }

    /// Computes records and root of the change with number `seq`.
    pub(crate) fn plan(&self, epoch: StoreEpoch, seq: u64, writes: Vec<Write<'_>>) -> Advance {
        let mut sum = self.sum.clone();
        let mut puts = Vec::new();
        let mut macs = Vec::new();
        for write in writes {
            let (path, value) = match write {
                Write::Put(path, value) => (path, Some(value)),
                Write::Delete(path) => (path, None),
            };
            if let Some(old) = self.macs.get(path) {
                sum.remove(&self.keys, old);
            }
            let mac = value.map(|value| {
                let mac = self.keys.mac(path, seq, &value);
                sum.add(&self.keys, &mac);
                let record = wire::Record {
                    seq,
                    value,
                    mac: mac.as_bytes().to_vec(),
                };
                puts.push((path.to_owned(), record.encode_to_vec()));
                mac
            });
            macs.push((path.to_owned(), mac));
        }
        let root = self.keys.root(epoch, seq, &sum);
        let record = wire::Root {
            store_epoch: epoch.get(),
            seq,
            root: root.as_bytes().to_vec(),
        };
        Advance {
            puts,
            root_record: record.encode_to_vec(),
            position: Position { epoch, seq, root },
            macs,
            sum,
        }
    }

    /// Takes over a change that the store has.
    pub(crate) fn advance(&mut self, advance: Advance) {
        for (path, mac) in advance.macs {
            match mac {
                Some(mac) => self.macs.insert(path, mac),
                None => self.macs.remove(&path),
            };
        }
        self.sum = advance.sum;
    }
}

/// A store whose every record is genuine and which is the last that was written.
pub(crate) struct Verified {
    pub(crate) ledger: Ledger,
    pub(crate) position: Position,
    /// Revision of `meta/root` in the engine.
    pub(crate) root_revision: Revision,
    /// Path, `seq` and value of each record, ordered by path.
    pub(crate) records: Vec<(String, u64, Vec<u8>)>,
}

/// Checks every record and the root over them.
pub(crate) fn verify(snapshot: Snapshot, keys: RecordMacKey) -> Result<Verified, IntegrityError> {
    let mut ledger = Ledger::empty(keys);
    let mut records = Vec::new();
    let mut root = None;
    let mut highest_seq = 0;
    for entry in snapshot.entries {
        let path = entry.key.as_str().to_owned();
        match path::place(&path) {
            None => return Err(IntegrityError::Unknown { path }),
            Some(Place::Temporary) => {}
            Some(Place::Root) => root = Some((parse_root(&entry)?, entry.modified)),
            Some(_) => {
                let (seq, value) = ledger.admit(&path, &entry.value)?;
                highest_seq = highest_seq.max(seq);
                records.push((path, seq, value));
            }
        }
    }
    let (stored, root_revision) = root.ok_or(IntegrityError::RootMissing)?;
    let computed = ledger.keys.root(stored.epoch, stored.seq, &ledger.sum);
    if computed != stored.root || highest_seq > stored.seq {
        return Err(IntegrityError::StoreRolledBack {
            stored_root: hex::encode(stored.root.as_bytes()),
            stored_seq: stored.seq,
            computed_root: hex::encode(computed.as_bytes()),
            highest_seq,
        });
    }
    Ok(Verified {
        ledger,
        position: stored,
        root_revision,
        records,
    })
}

impl Ledger {
    fn admit(&mut self, path: &str, bytes: &[u8]) -> Result<(u64, Vec<u8>), IntegrityError> {
        let malformed = || IntegrityError::Malformed {
            path: path.to_owned(),
        };
        let wire::Record { seq, value, mac } =
            wire::Record::decode(bytes).map_err(|_| malformed())?;
        let stored: [u8; 32] = mac.try_into().map_err(|_| malformed())?;
        let mac = self.keys.mac(path, seq, &value);
        if mac != RecordMac::from_bytes(stored) {
            return Err(IntegrityError::Changed {
                path: path.to_owned(),
            });
        }
        self.sum.add(&self.keys, &mac);
        self.macs.insert(path.to_owned(), mac);
        Ok((seq, value))
    }
}

fn parse_root(entry: &Entry) -> Result<Position, IntegrityError> {
    let malformed = || IntegrityError::Malformed {
        path: path::ROOT.to_owned(),
    };
    let wire::Root {
        store_epoch,
        seq,
        root,
    } = wire::Root::decode(entry.value.as_slice()).map_err(|_| malformed())?;
    let root: [u8; 32] = root.try_into().map_err(|_| malformed())?;
    Ok(Position {
        epoch: StoreEpoch::new(store_epoch),
        seq,
        root: RecordMac::from_bytes(root),
    })
}
