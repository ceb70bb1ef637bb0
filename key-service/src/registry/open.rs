//! From a store on disk to a registry: nothing is believed before the token and the root say so.

use std::sync::{Arc, RwLock};

use prost::Message;
use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{InstanceId, StoreEpoch, TimeMark};
use strongroom_crypto::{Kek, RecordMacKey};
use strongroom_hsm::SignedKekRecord;
use strongroom_store::{Entry, Outcome, Snapshot, Store, StoreError, Transaction};
use tokio::sync::{Mutex, broadcast};

use super::{
    Change, Registry, Writer, codec, feed,
    integrity::{self, IntegrityError, Ledger, Position, Verified, Write},
    path::{self, Place},
    records::Instance,
    state::{self, ReadError, State},
};
use crate::{fence::Fence, trail::Trail};

/// Why a store is not opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine does not give it.
    #[error("the store cannot be read")]
    Store(#[source] StoreError),
    /// It holds nothing.
    #[error("the store is empty; it was never initialised, or this is the wrong volume")]
    Empty,
    /// It is of another instance than the pins.
    #[error("the store belongs to instance {found}, the pins beside it to {pinned}")]
    ForeignInstance {
        /// In the store.
        found: InstanceId,
        /// In the pins.
        pinned: InstanceId,
    },
    /// The system ring or its KEK is missing.
    #[error("the store has no {0}")]
    Missing(&'static str),
    /// Records were changed, deleted or put back.
    #[error(transparent)]
    Integrity(#[from] IntegrityError),
    /// A record of another version of the program.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a store says of itself before anything is verified: enough to ask the token for the key that verifies it.
#[derive(Debug)]
pub struct Peek {
    /// The instance that it claims to be of.
    pub instance: Arc<Instance>,
    /// The KEK of the system ring, signed by the token if all is well.
    pub system_kek: SignedKekRecord,
    snapshot: Snapshot,
}

/// What is in a store.
#[derive(Debug)]
pub enum StoreLook {
    /// Nothing.
    Empty,
    /// An instance.
    Instance(Box<Peek>),
}

/// Looks into a store, believing nothing.
///
/// # Errors
/// It cannot be read, or has neither nothing nor an instance.
pub async fn look(store: &dyn Store) -> Result<StoreLook, OpenError> {
    let snapshot = store.snapshot("").await.map_err(OpenError::Store)?;
    if snapshot.entries.is_empty() {
        return Ok(StoreLook::Empty);
    }
    let instance =
        record(&snapshot, path::INSTANCE).ok_or(OpenError::Missing("record of an instance"))?;
    let instance = state::read_instance(&instance)?;
    let system_kek = system_kek(&snapshot, &instance)?;
    Ok(StoreLook::Instance(Box::new(Peek {
        instance: Arc::new(instance),
        system_kek,
        snapshot,
    })))
}

/// The KEK of the system ring with the highest generation: records are sealed and MACs made under the newest.
fn system_kek(snapshot: &Snapshot, instance: &Instance) -> Result<SignedKekRecord, OpenError> {
    let missing = || OpenError::Missing("readable KEK of the system ring");
    let of_ring =
        snapshot
            .entries
            .iter()
            .filter_map(|entry| match path::place(entry.key.as_str()) {
                Some(Place::Kek(ring, generation)) if ring == instance.system_ring => {
                    Some((generation, entry))
                }
                _ => None,
            });
    let (_, entry) = of_ring
        .max_by_key(|(generation, _)| *generation)
        .ok_or_else(missing)?;
    let record = unframe(entry).and_then(|value| wire::KekRecord::decode(value.as_slice()).ok());
    let record = record.ok_or_else(missing)?;
    codec::decode_kek(instance.id, instance.system_ring, record).map_err(|_| missing())
}

fn record(snapshot: &Snapshot, path: &str) -> Option<Vec<u8>> {
    snapshot
        .entries
        .iter()
        .find(|entry| entry.key.as_str() == path)
        .and_then(unframe)
}

fn unframe(entry: &Entry) -> Option<Vec<u8>> {
    wire::Record::decode(entry.value.as_slice())
        .ok()
        .map(|record| record.value)
}

impl Peek {
    /// Verifies every record with the KEK that the token unwrapped.
    ///
    /// # Errors
    /// Names the record, or the roots that differ.
    pub fn verify(self, system_kek: &Kek) -> Result<VerifiedStore, OpenError> {
        let verified = integrity::verify(self.snapshot, RecordMacKey::derive(system_kek))?;
        let state = State::load(&verified.records)?;
        Ok(VerifiedStore { verified, state })
    }
}

/// A store whose every record is genuine.
pub struct VerifiedStore {
    verified: Verified,
    state: State,
}

impl VerifiedStore {
    /// The instance.
    #[must_use]
    pub fn instance(&self) -> Arc<Instance> {
        self.state.instance.clone()
    }

    /// What was written down of the time.
    #[must_use]
    pub fn time(&self) -> Option<TimeMark> {
        self.state.time
    }

    /// The checkpoint that was anchored last for a replica.
    #[must_use]
    pub fn anchor(&self, replica: &str) -> Option<String> {
        self.state
            .anchors
            .get(replica)
            .map(|anchor| anchor.checkpoint_note.clone())
    }

    /// Every KEK record, so that their signatures can be checked.
    pub fn keks(&self) -> impl Iterator<Item = &SignedKekRecord> {
        self.state.keks.values().map(Arc::as_ref)
    }

    /// Where the store is.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.verified.position
    }

    /// Serves it.
    #[must_use]
    pub fn serve(self, store: Arc<dyn Store>, trail: Arc<Trail>) -> Registry {
        let Verified {
            ledger,
            position,
            root_revision,
            records: _,
        } = self.verified;
        Registry {
            store,
            trail,
            state: RwLock::new(self.state),
            position: RwLock::new(position),
            writer: Mutex::new(Writer {
                ledger,
                root_revision,
                fenced: false,
            }),
            changes: broadcast::Sender::new(feed::CHANGES_KEPT),
            fence: Fence::default(),
        }
    }
}

/// Writes the first change of an instance into an empty store.
///
/// # Errors
/// `Ok(false)` when the store was not empty; the engine's error otherwise.
pub async fn create(
    store: &dyn Store,
    system_kek: &Kek,
    change: Change,
    record: wire::ControlChange,
) -> Result<bool, StoreError> {
    let ledger = Ledger::empty(RecordMacKey::derive(system_kek));
    let outbox = path::outbox(1);
    let mut writes: Vec<Write<'_>> = change
        .puts()
        .map(|(path, value)| Write::Put(path, value.to_vec()))
        .collect();
    writes.push(Write::Put(outbox.as_str(), record.encode_to_vec()));
    let advance = ledger.plan(StoreEpoch::FIRST, 1, writes);
    let mut builder = Transaction::builder()
        .require_absent(path::root())
        .require_absent(path::instance());
    for (path, value) in &advance.puts {
        let key = strongroom_store::Key::new(path.as_str())
            .expect("paths were valid keys when they were made");
        builder = builder.put(key, value.clone());
    }
    let transaction = builder
        .put(path::root(), advance.root_record)
        .build()
        .expect("an instance has few records, all within the store's limits");
    match store.commit(transaction).await? {
        Outcome::Committed(_) => Ok(true),
        Outcome::CompareFailed | Outcome::Unknown => Ok(false),
    }
}
