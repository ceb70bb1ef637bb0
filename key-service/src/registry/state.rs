//! What the store holds, in memory: everything that a call reads is a look-up here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use prost::Message;
use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{
    ClusterControl, Generation, KeyHead, KeyId, KeyRole, Name, NodeIdentity, NodeRecord, Resource,
    RingId, TimeMark, VersionId,
};
use strongroom_hsm::SignedKekRecord;

use super::{
    StoredMaterial,
    bundles::{self, Bundles},
    clusters,
    codec::{self, DecodeError},
    due::{Rotating, Turns},
    nodes,
    path::{self, Place},
    records::{Instance, Ring, WrappedVersion},
    secrets::{self, Secrets, StoredSecret},
    time,
};

/// A record that is genuine, but not readable by this version of the program.
#[derive(Debug, thiserror::Error)]
#[error("record {path} cannot be read")]
pub struct ReadError {
    path: String,
    #[source]
    source: ReadCause,
}

#[derive(Debug, thiserror::Error)]
enum ReadCause {
    #[error(transparent)]
    Protobuf(prost::DecodeError),
    #[error(transparent)]
    Decode(DecodeError),
    #[error("there is no record of the instance")]
    NoInstance,
    #[error("there is no record of its ring")]
    NoRing,
    #[error("its ring belongs to no namespace")]
    NoOwner,
}

/// A key head with the change that wrote it.
#[derive(Clone, Debug)]
pub struct StoredHead {
    /// The head.
    pub head: KeyHead,
    /// `seq` of its last change.
    pub seq: u64,
}

/// The record of a node's identity with the change that wrote it.
#[derive(Clone, Debug)]
pub struct StoredNode {
    /// The record.
    pub record: NodeRecord,
    /// `seq` of its last change.
    pub seq: u64,
}

/// The outbox: what the audit log has to say about changes, by `seq`.
pub(crate) type Outbox = BTreeMap<u64, wire::ControlChange>;

pub(crate) struct State {
    pub(crate) instance: Arc<Instance>,
    /// None in a store of a version that did not write it.
    pub(crate) time: Option<TimeMark>,
    pub(crate) rings: BTreeMap<RingId, Arc<Ring>>,
    pub(crate) keks: HashMap<(RingId, Generation), Arc<SignedKekRecord>>,
    pub(crate) heads: BTreeMap<(RingId, KeyId), Arc<StoredHead>>,
    pub(crate) names: HashMap<(RingId, Name), KeyId>,
    pub(crate) material: HashMap<(KeyId, VersionId), Arc<WrappedVersion>>,
    pub(crate) outbox: Outbox,
    pub(crate) anchors: BTreeMap<String, wire::Anchor>,
    pub(crate) nodes: BTreeMap<NodeIdentity, Arc<StoredNode>>,
    pub(crate) clusters: BTreeMap<Name, Arc<ClusterControl>>,
    pub(crate) secrets: Secrets,
    pub(super) turns: Turns,
    pub(crate) bundles: Bundles,
}

impl State {
    /// A state that holds nothing but the instance.
    pub(crate) fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            time: None,
            rings: BTreeMap::new(),
            keks: HashMap::new(),
            heads: BTreeMap::new(),
            names: HashMap::new(),
            material: HashMap::new(),
            outbox: Outbox::new(),
            anchors: BTreeMap::new(),
            nodes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            secrets: Secrets::default(),
            turns: Turns::default(),
            bundles: Bundles::default(),
        }
    }

    /// Reads verified records.
    pub(crate) fn load(records: &[(String, u64, Vec<u8>)]) -> Result<Self, ReadError> {
        let instance = records.iter().find(|(path, ..)| path == path::INSTANCE);
        let (_, _, value) = instance.ok_or_else(|| ReadError {
            path: path::INSTANCE.to_owned(),
            source: ReadCause::NoInstance,
        })?;
        let mut state = Self::new(Arc::new(read_instance(value)?));
        for (path, seq, value) in rings_first(records, |(path, ..)| path) {
            state.put(path, *seq, value).map_err(|source| ReadError {
                path: path.clone(),
                source,
            })?;
        }
        Ok(state)
    }

    /// Takes a record over.
    fn put(&mut self, path: &str, seq: u64, value: &[u8]) -> Result<(), ReadCause> {
        match path::place(path) {
            Some(Place::Clock) => {
                let mark = time::decode(parse(value)?).map_err(ReadCause::Decode)?;
                self.time = Some(mark);
            }
            Some(Place::Ring(id)) => {
                let ring = codec::decode_ring(parse(value)?).map_err(ReadCause::Decode)?;
                self.rings.insert(id, Arc::new(ring));
            }
            Some(Place::Kek(ring, generation)) => {
                let signed = codec::decode_kek(self.instance.id, ring, parse(value)?)
                    .map_err(ReadCause::Decode)?;
                self.keks.insert((ring, generation), Arc::new(signed));
            }
            Some(Place::Head(ring, _)) => {
                let ring = self.rings.get(&ring).ok_or(ReadCause::NoRing)?;
                let tenant = ring.tenant().cloned();
                let head = codec::decode_head(parse(value)?, tenant).map_err(ReadCause::Decode)?;
                self.put_head(head, seq);
            }
            Some(Place::Material(key, version)) => {
                let material = codec::decode_material(parse(value)?).map_err(ReadCause::Decode)?;
                self.material.insert((key, version), Arc::new(material));
            }
            Some(Place::Outbox(seq)) => {
                self.outbox.insert(seq, parse(value)?);
            }
            Some(Place::Anchor(replica)) => {
                self.anchors.insert(replica.to_owned(), parse(value)?);
            }
            Some(Place::Node(identity)) => {
                let record =
                    nodes::decode(identity.clone(), parse(value)?).map_err(ReadCause::Decode)?;
                self.nodes
                    .insert(identity, Arc::new(StoredNode { record, seq }));
            }
            Some(Place::Secret(ring, _)) => {
                // Rings are read before secrets: paths are sorted.
                let ring = self.rings.get(&ring).ok_or(ReadCause::NoRing)?;
                let tenant = ring.tenant().cloned();
                let head = secrets::decode(parse(value)?, tenant).map_err(ReadCause::Decode)?;
                let turn = head.next_rotation(head.created);
                self.turns.put(Rotating::Secret(head.ring, head.id), turn);
                self.secrets.put(head, seq);
            }
            Some(Place::Bundle(ring, name)) => {
                let owner = self.rings.get(&ring).ok_or(ReadCause::NoRing)?;
                let tenant = owner.tenant().ok_or(ReadCause::NoOwner)?.clone();
                let bundle =
                    bundles::decode(parse(value)?, ring, name).map_err(ReadCause::Decode)?;
                self.bundles.put(tenant, bundle, seq);
            }
            Some(Place::Cluster(name)) => {
                let control = clusters::decode(&parse(value)?).map_err(ReadCause::Decode)?;
                self.clusters.insert(name, Arc::new(control));
            }
            Some(Place::Sealed(..)) => {
                let _: wire::SealedValue = parse(value)?;
            }
            // The instance was read first; the root and temporary records are none of this state.
            Some(Place::Instance | Place::Root | Place::Temporary) | None => {}
        }
        Ok(())
    }

    /// Takes over what a committed change wrote.
    pub(crate) fn apply(&mut self, path: &str, seq: u64, value: &[u8]) {
        let read = self.put(path, seq, value);
        debug_assert!(read.is_ok(), "what was just encoded can be read: {path}");
    }

    /// A key as policies see it.
    pub(super) fn key_resource(&self, ring: RingId, key: KeyId) -> Option<Resource> {
        let stored = self.heads.get(&(ring, key))?;
        Some(Resource::Key {
            ring: self.rings.get(&ring)?.reference(),
            key: stored.head.id,
            access: stored.head.access.clone(),
        })
    }

    /// A secret as policies see it.
    pub(super) fn resource(&self, stored: &StoredSecret) -> Option<Resource> {
        let ring = self.rings.get(&stored.head.ring)?;
        Some(Resource::Secret {
            ring: ring.reference(),
            secret: stored.head.id,
            access: stored.head.access.clone(),
        })
    }

    /// The wrapped material of a key's version, with the record of the KEK that wraps it.
    pub(super) fn stored_material(
        &self,
        ring: RingId,
        key: KeyId,
        version: VersionId,
    ) -> Option<StoredMaterial> {
        let wrapped = self.material.get(&(key, version))?.clone();
        let kek = self.keks.get(&(ring, wrapped.kek_generation))?.clone();
        Some(StoredMaterial { wrapped, kek })
    }

    fn put_head(&mut self, head: KeyHead, seq: u64) {
        if head.role == KeyRole::Secrets {
            return self.secrets.put_key(StoredHead { head, seq });
        }
        let turn = head.next_rotation(head.created);
        self.turns.put(Rotating::Key(head.ring, head.id), turn);
        self.names.insert((head.ring, head.name.clone()), head.id);
        self.heads
            .insert((head.ring, head.id), Arc::new(StoredHead { head, seq }));
    }
}

/// What lies in a ring belongs to whom the ring does, so that the ring is read before it.
pub(super) fn rings_first<T>(
    records: impl IntoIterator<Item = T>,
    path: impl Fn(&T) -> &str,
) -> impl Iterator<Item = T> {
    let is_ring = |record: &T| matches!(path::place(path(record)), Some(Place::Ring(_)));
    let (rings, others): (Vec<_>, Vec<_>) = records.into_iter().partition(is_ring);
    rings.into_iter().chain(others)
}

/// Reads the record of the instance, before any MAC could be checked.
pub(crate) fn read_instance(value: &[u8]) -> Result<Instance, ReadError> {
    let read =
        parse(value).and_then(|record| codec::decode_instance(record).map_err(ReadCause::Decode));
    read.map_err(|source| ReadError {
        path: path::INSTANCE.to_owned(),
        source,
    })
}

fn parse<M: Message + Default>(value: &[u8]) -> Result<M, ReadCause> {
    M::decode(value).map_err(ReadCause::Protobuf)
}
