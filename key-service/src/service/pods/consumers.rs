//! Which volumes follow which secrets, and which version each holds as far as its driver said.
//!
//! A driver says what a volume holds by the etag that it has. Where that is the etag of what there is now, the volume holds
//! these versions; where it is another, it holds what it was last known to hold.
//!
//! A driver that has lost its stream, or a pod's token, comes back with kubelet's next publish at the latest. Its volumes are
//! counted until then; and until then a process that has just started may not know all of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use strongroom_core::{Name, Tenant, UnixMillis, VersionId};
use tokio::{sync::broadcast, time::Instant};

use super::{streams::Node, watch::VOLUMES_MAX};
use crate::registry::SecretName;

/// A driver has told of all its volumes again after this time: kubelet publishes a volume anew every 60 to 150 seconds, and
/// brings the token with which it can be followed.
pub const TOLD_WITHIN: Duration = Duration::from_secs(180);
/// A driver that is there has opened its stream after this time, and said of which volumes it cannot tell yet: it tries every
/// ten seconds at least.
pub const HERE_WITHIN: Duration = Duration::from_secs(30);
/// Most volumes of a node that are counted while nobody tells of them: as many as one stream can tell of.
const UNTOLD_MAX: usize = VOLUMES_MAX;
/// Changes that a slow listener may be behind before he has to look at everything again.
const CHANGES_KEPT: usize = 4096;

/// A secret of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// The namespace.
    pub tenant: Tenant,
    /// Its name there.
    pub name: Name,
}

/// Volumes that follow a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// All of them.
    pub volumes: u32,
    /// Those that hold its current version.
    pub current: u32,
    /// Whether there can be others, of which no driver has told since the process began.
    pub pending: bool,
}

/// A volume of a node, by its driver's name for it.
type VolumeKey = (Node, String);
/// What a volume follows, each with the version that it holds as far as anybody knows.
pub(super) type Held = BTreeMap<Name, Option<VersionId>>;

/// All volumes that are watched.
#[derive(Clone, Debug)]
pub struct Consumers {
    table: Arc<Mutex<Table>>,
    changes: broadcast::Sender<SecretKey>,
}

#[derive(Debug)]
struct Table {
    volumes: HashMap<VolumeKey, Follower>,
    secrets: HashMap<SecretKey, HashMap<VolumeKey, Option<VersionId>>>,
    streams: u64,
    pending: Option<Pending>,
}

/// A volume, and what it follows.
#[derive(Debug)]
struct Follower {
    told: Told,
    tenant: Tenant,
    names: Vec<Name>,
}

/// Who answers for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The stream that told of it last: while one driver replaces another, both watch a volume.
    By(u64),
    /// Nobody since then.
    Until(Instant),
}

/// Drivers may not have told yet what was there before.
#[derive(Debug)]
struct Pending {
    /// Nothing can have followed what was made later.
    began: UnixMillis,
    /// Whose count was told without them.
    asked: BTreeSet<SecretKey>,
    /// Volumes that are there, and for which their drivers have no tokens.
    untold: HashSet<VolumeKey>,
}

/// The volumes of one stream.
#[derive(Debug)]
pub(super) struct Followed {
    consumers: Consumers,
    node: Node,
    stream: u64,
}

impl Consumers {
    /// Of a process that began at that moment, in service time.
    #[must_use]
    pub fn since(began: UnixMillis) -> Self {
        let table = Table {
            volumes: HashMap::new(),
            secrets: HashMap::new(),
            streams: 0,
            pending: Some(Pending {
                began,
                asked: BTreeSet::new(),
                untold: HashSet::new(),
            }),
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }

    /// How many volumes follow a secret that was made at that moment, and how many of them hold that version.
    #[must_use]
    pub fn count(
        &self,
        secret: &SecretName,
        made: UnixMillis,
        current: Option<VersionId>,
    ) -> Consumed {
        let Some(tenant) = secret.tenant.clone() else {
            return Consumed::default();
        };
        let name = secret.name.clone();
        let secret = SecretKey { tenant, name };
        let mut table = self.table();
        let holds = |held: &&Option<VersionId>| held.is_some() && **held == current;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let volumes = table.secrets.get(&secret);
        let (volumes, current) = volumes.map_or((0, 0), |volumes| {
            let current = volumes.values().filter(holds).count();
            (count(volumes.len()), count(current))
        });
        Consumed {
            volumes,
            current,
            pending: table.is_pending(secret, made),
        }
    }

    /// All drivers that are there have said what they have: unless something is missing, this was all.
    pub fn settle_if_told(&self) {
        let is_told = |pending: &mut Pending| pending.untold.is_empty();
        let pending = self.table().pending.take_if(is_told);
        self.announce(pending.into_iter().flat_map(|pending| pending.asked));
    }

    /// All drivers have told by now. Who was told a count without them hears of it.
    pub fn settle(&self) {
        let pending = self.table().pending.take();
        self.announce(pending.into_iter().flat_map(|pending| pending.asked));
    }

    /// Counts volumes no more of which nobody has told since that moment.
    pub fn forget_untold(&self, since: Instant) {
        let mut table = self.table();
        let untold = table.keys(|_, told| matches!(told, Told::Until(until) if until <= since));
        let removed = table.remove_all(&untold);
        drop(table);
        self.announce(removed);
    }

    /// Hears of secrets with other readers from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<SecretKey> {
        self.changes.subscribe()
    }

    pub(super) fn open(&self, node: Node) -> Followed {
        let mut table = self.table();
        table.streams += 1;
        Followed {
            consumers: self.clone(),
            node,
            stream: table.streams,
        }
    }

    fn announce(&self, secrets: impl IntoIterator<Item = SecretKey>) {
        for secret in secrets {
            // Nobody may be waiting.
            let _ = self.changes.send(secret);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each step ends with both maps saying the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn untold(&mut self, volume: VolumeKey) {
        let is_known = self.volumes.contains_key(&volume);
        if let Some(pending) = self.pending.as_mut().filter(|_| !is_known) {
            let of_node = pending.untold.iter().filter(|(node, _)| *node == volume.0);
            if of_node.count() < UNTOLD_MAX {
                pending.untold.insert(volume);
            }
        }
    }

    fn told(&mut self, volume: &VolumeKey) {
        if let Some(pending) = &mut self.pending {
            pending.untold.remove(volume);
        }
    }

    fn is_pending(&mut self, secret: SecretKey, made: UnixMillis) -> bool {
        let Some(pending) = &mut self.pending else {
            return false;
        };
        let is_older = made < pending.began;
        if is_older {
            pending.asked.insert(secret);
        }
        is_older
    }

    fn keys(&self, are: impl Fn(&VolumeKey, Told) -> bool) -> Vec<VolumeKey> {
        let found = self.volumes.iter().filter(|(key, it)| are(key, it.told));
        found.map(|(key, _)| key.clone()).collect()
    }

    /// Nobody tells of these volumes of a node from now on. Those that are too many are removed.
    fn lose(&mut self, node: &Node, mut lost: Vec<VolumeKey>) -> BTreeSet<SecretKey> {
        let untold = self.keys(|(it, _), told| it == node && matches!(told, Told::Until(_)));
        let many = lost.split_off(lost.len().min(UNTOLD_MAX.saturating_sub(untold.len())));
        let told = Told::Until(Instant::now());
        for volume in lost {
            self.volumes.entry(volume).and_modify(|it| it.told = told);
        }
        self.remove_all(&many)
    }

    /// Removes volumes, and says what they followed.
    fn remove_all(&mut self, volumes: &[VolumeKey]) -> BTreeSet<SecretKey> {
        let removed = volumes.iter().flat_map(|volume| self.remove(volume));
        removed.map(|(secret, _)| secret).collect()
    }

    fn remove(&mut self, volume: &VolumeKey) -> Vec<(SecretKey, Option<VersionId>)> {
        let Some(Follower { tenant, names, .. }) = self.volumes.remove(volume) else {
            return Vec::new();
        };
        let mut removed = Vec::new();
        for name in names {
            let tenant = tenant.clone();
            let secret = SecretKey { tenant, name };
            let Some(volumes) = self.secrets.get_mut(&secret) else {
                continue;
            };
            let held = volumes.remove(volume).flatten();
            if volumes.is_empty() {
                self.secrets.remove(&secret);
            }
            removed.push((secret, held));
        }
        removed
    }
}

impl Followed {
    /// A volume of this stream follows these secrets now. A version that is not known is the one that was.
    pub(super) fn follow(&self, volume: &str, tenant: &Tenant, held: Held) {
        let volume = (self.node.clone(), volume.to_owned());
        let mut table = self.consumers.table();
        table.told(&volume);
        let mut before: BTreeMap<_, _> = table.remove(&volume).into_iter().collect();
        let names: Vec<_> = held.keys().cloned().collect();
        let mut changed = Vec::new();
        for (name, version) in held {
            let tenant = tenant.clone();
            let secret = SecretKey { tenant, name };
            let was = before.remove(&secret);
            let version = version.or(was.flatten());
            if was != Some(version) {
                changed.push(secret.clone());
            }
            let volumes = table.secrets.entry(secret).or_default();
            volumes.insert(volume.clone(), version);
        }
        changed.extend(before.into_keys());
        let follower = Follower {
            told: Told::By(self.stream),
            tenant: tenant.clone(),
            names,
        };
        table.volumes.insert(volume, follower);
        drop(table);
        self.consumers.announce(changed);
    }

    /// There is a volume of which its driver cannot tell yet.
    pub(super) fn untold(&self, volume: &str) {
        let volume = (self.node.clone(), volume.to_owned());
        self.consumers.table().untold(volume);
    }

    /// A volume follows nothing any more.
    pub(super) fn forget(&self, volume: &str) {
        let volume = (self.node.clone(), volume.to_owned());
        let mut table = self.consumers.table();
        table.told(&volume);
        let another = |told| matches!(told, Told::By(stream) if stream != self.stream);
        if table
            .volumes
            .get(&volume)
            .is_some_and(|it| !another(it.told))
        {
            let removed = table.remove(&volume);
            drop(table);
            self.consumers
                .announce(removed.into_iter().map(|(secret, _)| secret));
        }
    }

    /// Volumes of this stream cannot be followed for now.
    pub(super) fn lose<'a>(&self, volumes: impl IntoIterator<Item = &'a str>) {
        let volumes: HashSet<_> = volumes.into_iter().collect();
        self.lose_those(|name| volumes.contains(name));
    }

    fn lose_those(&self, are: impl Fn(&str) -> bool) {
        let told = Told::By(self.stream);
        let mut table = self.consumers.table();
        let lost = table.keys(|(node, name), it| *node == self.node && it == told && are(name));
        let removed = table.lose(&self.node, lost);
        drop(table);
        self.consumers.announce(removed);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.lose_those(|_| true);
    }
}

#[cfg(test)]
mod tests;
