//! Changes: built from typed records, committed with the root and the outbox, recorded in the audit log.

use std::{collections::BTreeMap, sync::PoisonError};

use prost::Message;
use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{
    Action, KeyHead, KeyId, NodeIdentity, NodeRecord, Permit, TimeMark, UnixMillis, VersionId,
    action,
};
use strongroom_hsm::SignedKekRecord;
use strongroom_runtime::fault;
use strongroom_store::{Key, Outcome, StoreError, Transaction};

use super::{
    Registry, Writer,
    bundles::BundleExpectation,
    clusters::ClusterExpectation,
    codec,
    feed::{self, Changed},
    integrity::{Advance, Position, Write},
    nodes, path,
    records::{Instance, Ring, RingOwner, WrappedVersion},
    rings::RingExpectation,
    secrets::SecretExpectations,
    state::rings_first,
    time,
};
use crate::trail::{Origin, TrailError};

/// Why a change was not made or not answered.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The head or the record was changed since the caller read it. Nothing was written.
    #[error("it was changed in the meantime; read it again")]
    Stale,
    /// Another process of the operator has the control epoch. Nothing was written.
    #[error("another process of the operator has the control epoch")]
    StaleControlEpoch,
    /// The name is taken. Nothing was written.
    #[error("the name {0} is taken in this place")]
    NameTaken(String),
    /// The audit log has no space for the record. Nothing was written.
    #[error("the change cannot be recorded in the audit log, so it was not made")]
    NoRoom(#[source] TrailError),
    /// The store did not take it. Nothing was written.
    #[error("the store did not take the change")]
    Store(#[source] StoreError),
    /// Nobody can tell what the store holds. Nothing is served any more.
    #[error("the store was changed by somebody else or lost track; this process must start again")]
    Fenced,
    /// A witness says that this is the wrong instance. Nothing was written.
    #[error("nothing is changed: {0}")]
    WrongInstance(String),
    /// The change is made, but the audit log has no record of it yet: it is in the outbox and follows.
    #[error(
        "the change was made, but the audit log does not take its record; it is kept and follows"
    )]
    Audit(#[source] TrailError),
}

/// A set of records that change together.
#[derive(Debug, Default)]
pub struct Change {
    puts: BTreeMap<String, Vec<u8>>,
    pub(super) deletes: Vec<String>,
    expected_head: Option<(KeyHead, u64)>,
    expected_node: Option<(NodeIdentity, Option<u64>)>,
    new_name: Option<(strongroom_core::RingId, strongroom_core::Name)>,
    pub(super) new_ring_name: Option<(Option<RingOwner>, strongroom_core::Name)>,
    pub(super) secrets: SecretExpectations,
    pub(super) cluster: ClusterExpectation,
    pub(super) ring: RingExpectation,
    pub(super) bundle: BundleExpectation,
}

/// A change that the store has and the audit log knows.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where the store is after it.
    pub position: Position,
}

impl Change {
    /// The record of the instance; `init` only.
    #[must_use]
    pub fn instance(self, instance: &Instance) -> Self {
        self.put(path::instance(), &codec::encode_instance(instance))
    }

    /// What time it is.
    #[must_use]
    pub fn time(self, mark: &TimeMark) -> Self {
        self.put(path::clock(), &time::encode(mark))
    }

    /// A new ring with its KEK.
    #[must_use]
    pub fn ring(mut self, ring: &Ring, kek: &SignedKekRecord) -> Self {
        self.new_ring_name = Some((ring.owner.clone(), ring.name.clone()));
        let kek_path = path::kek(ring.id, kek.record.place().generation);
        self.put(path::ring(ring.id), &codec::encode_ring(ring))
            .put(kek_path, &codec::encode_kek(kek))
    }

    /// A new key with its first version.
    #[must_use]
    pub fn key(mut self, head: &KeyHead, material: &WrappedVersion) -> Self {
        self.new_name = Some((head.ring, head.name.clone()));
        self.put(path::head(head.ring, head.id), &codec::encode_head(head))
            .material(head.id, head.primary().version, material)
    }

    /// Another head for a key; refused when the stored one is no longer that of `seq`.
    #[must_use]
    pub fn head(mut self, head: &KeyHead, seq: u64) -> Self {
        self.expected_head = Some((head.clone(), seq));
        self.put(path::head(head.ring, head.id), &codec::encode_head(head))
    }

    /// Material of a new version.
    #[must_use]
    pub fn material(self, key: KeyId, version: VersionId, material: &WrappedVersion) -> Self {
        self.put(
            path::material(key, version),
            &codec::encode_material(material),
        )
    }

    /// Another record for a node's identity; refused when the stored one is not, or no longer, that of `seq`.
    #[must_use]
    pub fn node(mut self, record: &NodeRecord, seq: Option<u64>) -> Self {
        self.expected_node = Some((record.identity.clone(), seq));
        self.put(path::node(&record.identity), &nodes::encode(record))
    }

    pub(crate) fn puts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.puts
            .iter()
            .map(|(path, value)| (path.as_str(), value.as_slice()))
    }

    pub(super) fn put(mut self, path: Key, record: &impl Message) -> Self {
        self.puts
            .insert(path.as_str().to_owned(), record.encode_to_vec());
        self
    }
}

impl Registry {
    /// Makes a change that the permit allows, and returns once the store and the audit log have it.
    ///
    /// # Errors
    /// See `ChangeError`: after all but `Audit` nothing was changed, or the process is fenced.
    pub async fn commit<A: Action>(
        &self,
        permit: &Permit<A>,
        change: Change,
        origin: &Origin,
        detail: BTreeMap<String, String>,
    ) -> Result<Committed, ChangeError> {
        // Looked at before anything is written: a change that cannot be recorded is not made.
        self.trail
            .check_room_for(permit.caller(), A::KIND)
            .map_err(ChangeError::NoRoom)?;
        let mut writer = self.writer.lock().await;
        self.check_fence(permit.caller(), A::KIND, origin.fence)?;
        self.check(&change)?;
        let draft = wire::ControlChange {
            time_ms: self.trail.now().as_i64(),
            request_id: origin.request_id.clone(),
            caller: permit.caller().to_string(),
            action: A::KIND.to_string(),
            resource: permit.resource().to_string(),
            detail: detail.into_iter().collect(),
        };
        let position = self.write(&mut writer, change, draft).await?;
        self.record_outbox().await.map_err(ChangeError::Audit)?;
        fault::point!("key-service.change.before-reply");
        Ok(Committed { position })
    }

    /// Anchors a checkpoint of a replica's log and empties the outbox up to `covered`.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn anchor_checkpoint(
        &self,
        permit: &Permit<action::AnchorCheckpoint>,
        replica: &str,
        note: &str,
        covered: u64,
        now: UnixMillis,
    ) -> Result<Committed, ChangeError> {
        let anchor = wire::Anchor {
            checkpoint_note: note.to_owned(),
            time_ms: now.as_i64(),
        };
        let mut change = Change::default().put(path::anchor(replica), &anchor);
        // At most so many that one transaction holds them; the rest follows with the next anchor.
        let sent = self
            .state()
            .outbox
            .range(..=covered)
            .take(100)
            .map(|(seq, _)| *seq)
            .collect::<Vec<_>>();
        change.deletes.extend(
            sent.into_iter()
                .map(|seq| path::outbox(seq).as_str().to_owned()),
        );
        self.commit(permit, change, &Origin::job(), BTreeMap::new())
            .await
    }

    fn check(&self, change: &Change) -> Result<(), ChangeError> {
        let state = self.state();
        if let Some((head, seq)) = &change.expected_head {
            let stored = state
                .heads
                .get(&(head.ring, head.id))
                .map(|stored| stored.seq);
            if stored != Some(*seq) {
                return Err(ChangeError::Stale);
            }
        }
        if let Some((identity, seq)) = &change.expected_node
            && state.nodes.get(identity).map(|stored| stored.seq) != *seq
        {
            return Err(ChangeError::Stale);
        }
        if let Some(name) = &change.new_name
            && state.names.contains_key(name)
        {
            return Err(ChangeError::NameTaken(name.1.to_string()));
        }
        if let Some((owner, name)) = &change.new_ring_name
            && state
                .rings
                .values()
                .any(|ring| ring.name == *name && ring.owner == *owner)
        {
            return Err(ChangeError::NameTaken(name.to_string()));
        }
        change.bundle.check(&state)?;
        change.cluster.check(&state)?;
        change.ring.check(&state)?;
        change.secrets.check(&state)
    }

    /// One transaction: the records, the outbox, the root.
    async fn write(
        &self,
        writer: &mut Writer,
        change: Change,
        draft: wire::ControlChange,
    ) -> Result<Position, ChangeError> {
        if writer.fenced {
            return Err(ChangeError::Fenced);
        }
        if let Some(reason) = self.fence.reason() {
            return Err(ChangeError::WrongInstance(reason));
        }
        let Position { epoch, seq, .. } = self.position();
        let seq = seq + 1;
        let outbox = path::outbox(seq);
        let mut writes: Vec<Write<'_>> = change
            .deletes
            .iter()
            .map(|path| Write::Delete(path))
            .collect();
        writes.extend(
            change
                .puts
                .iter()
                .map(|(path, value)| Write::Put(path, value.clone())),
        );
        writes.push(Write::Put(outbox.as_str(), draft.encode_to_vec()));
        let advance = writer.ledger.plan(epoch, seq, writes);
        let transaction = transaction(&advance, &change.deletes, writer.root_revision);

        fault::point!("key-service.change.before-commit");
        let outcome = self
            .store
            .commit(transaction)
            .await
            .map_err(ChangeError::Store)?;
        fault::point!("key-service.change.after-commit");
        match outcome {
            Outcome::Committed(revision) => writer.root_revision = revision,
            // Somebody else wrote, or nobody can tell: a start reads what the store really holds.
            Outcome::CompareFailed | Outcome::Unknown => {
                writer.fenced = true;
                return Err(ChangeError::Fenced);
            }
        }
        let changed = self.take_over(&change, seq, draft, &advance);
        self.announce(changed);
        let position = advance.position.clone();
        writer.ledger.advance(advance);
        Ok(position)
    }

    /// Makes memory what the store now is, and says which objects are others now.
    fn take_over(
        &self,
        change: &Change,
        seq: u64,
        draft: wire::ControlChange,
        advance: &Advance,
    ) -> Vec<Changed> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (path, value) in rings_first(&change.puts, |(path, _)| path.as_str()) {
            state.apply(path, seq, value);
        }
        let paths = change.puts.keys().chain(&change.deletes);
        let objects = paths.filter_map(|path| feed::object(&state, &path::place(path)?));
        let changed = objects.collect();
        for path in &change.deletes {
            match path::place(path) {
                Some(path::Place::Outbox(sent)) => {
                    state.outbox.remove(&sent);
                }
                Some(path::Place::Bundle(ring, name)) => state.bundles.remove(ring, name),
                _ => {}
            }
        }
        state.outbox.insert(seq, draft);
        *self
            .position
            .write()
            .unwrap_or_else(PoisonError::into_inner) = advance.position.clone();
        changed
    }

    /// Gives the audit log every change of the outbox that it does not have, oldest first. The caller holds the writer,
    /// or is the only one there is, as at start.
    pub(crate) async fn record_outbox(&self) -> Result<(), TrailError> {
        let epoch = self.position().epoch;
        let recorded = self.trail.recorded_changes(epoch);
        let missing: Vec<_> = {
            let state = self.state();
            state
                .outbox
                .range(recorded + 1..)
                .map(|(seq, draft)| (*seq, draft.clone()))
                .collect()
        };
        for (seq, draft) in missing {
            self.trail.record_change(epoch, seq, draft).await?;
        }
        Ok(())
    }
}

fn transaction(
    advance: &Advance,
    deletes: &[String],
    root_revision: strongroom_store::Revision,
) -> Transaction {
    let key = |path: &str| Key::new(path).expect("paths were valid keys when they were made");
    let mut builder = Transaction::builder().require_modified(path::root(), root_revision);
    for path in deletes {
        builder = builder.delete(key(path));
    }
    for (path, value) in &advance.puts {
        builder = builder.put(key(path), value.clone());
    }
    builder
        .put(path::root(), advance.root_record.clone())
        .build()
        .expect("a change has few records, all within the store's limits")
}
