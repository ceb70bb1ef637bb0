//! Which volumes follow which secrets, and which version each holds as far as its driver said.
//!
//! A driver says what a volume holds by the etag that it has. Where that is the etag of what there is now, the volume holds
//! these versions; where it is another, it holds what it was last known to hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strongroom_core::{Name, Tenant, VersionId};
use tokio::sync::broadcast;

use super::streams::Node;
use crate::registry::SecretName;

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

#[derive(Debug, Default)]
struct Table {
    /// The stream that said so last: while one driver replaces another, both watch a volume.
    volumes: HashMap<VolumeKey, (u64, Tenant, Vec<Name>)>,
    secrets: HashMap<SecretKey, HashMap<VolumeKey, Option<VersionId>>>,
    streams: u64,
}

/// The volumes of one stream; they are followed no more when it is dropped.
#[derive(Debug)]
pub(super) struct Followed {
    consumers: Consumers,
    node: Node,
    stream: u64,
}

impl Default for Consumers {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }
}

impl Consumers {
    /// How many volumes follow a secret, and how many of them hold that version.
    #[must_use]
    pub fn count(&self, secret: &SecretName, current: Option<VersionId>) -> Consumed {
        let Some(tenant) = secret.tenant.clone() else {
            return Consumed::default();
        };
        let name = secret.name.clone();
        let table = self.table();
        let Some(volumes) = table.secrets.get(&SecretKey { tenant, name }) else {
            return Consumed::default();
        };
        let holds = |held: &&Option<VersionId>| held.is_some() && **held == current;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Consumed {
            volumes: count(volumes.len()),
            current: count(volumes.values().filter(holds).count()),
        }
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

    fn announce(&self, secrets: Vec<SecretKey>) {
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
    fn remove(&mut self, volume: &VolumeKey) -> Vec<(SecretKey, Option<VersionId>)> {
        let Some((_, tenant, names)) = self.volumes.remove(volume) else {
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
        let entry = (self.stream, tenant.clone(), names);
        table.volumes.insert(volume, entry);
        drop(table);
        self.consumers.announce(changed);
    }

    /// A volume of this stream follows nothing any more.
    pub(super) fn forget(&self, volume: &str) {
        let volume = (self.node.clone(), volume.to_owned());
        let mut table = self.consumers.table();
        let own = table.volumes.get(&volume);
        if own.is_some_and(|(stream, ..)| *stream == self.stream) {
            let removed = table.remove(&volume);
            drop(table);
            self.consumers
                .announce(removed.into_iter().map(|(secret, _)| secret).collect());
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut table = self.consumers.table();
        let own =
            |(_, (stream, ..)): &(&VolumeKey, &(u64, Tenant, Vec<Name>))| *stream == self.stream;
        let volumes: Vec<_> = table
            .volumes
            .iter()
            .filter(own)
            .map(|(key, _)| key.clone())
            .collect();
        let removed = volumes.iter().flat_map(|volume| table.remove(volume));
        let mut changed: Vec<_> = removed.map(|(secret, _)| secret).collect();
        drop(table);
        changed.sort_unstable();
        changed.dedup();
        self.consumers.announce(changed);
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::ObjectId;

    use super::*;

    fn node(number: u8) -> Node {
        let id = ObjectId {
            name: "worker".parse().expect("a name"),
            uid: format!("uid-{number}").parse().expect("a uid"),
        };
        ("east".parse().expect("a DNS label"), id)
    }

    fn tenant() -> Tenant {
        Tenant {
            cluster: "east".parse().expect("a DNS label"),
            namespace: "payments".parse().expect("a DNS label"),
        }
    }

    fn version(text: &str) -> VersionId {
        text.parse().expect("a version")
    }

    fn held(secrets: &[(&str, Option<&str>)]) -> Held {
        let entry = |(name, held): &(&str, Option<&str>)| {
            (name.parse().expect("a DNS label"), held.map(version))
        };
        secrets.iter().map(entry).collect()
    }

    fn count(consumers: &Consumers, name: &str, current: &str) -> (u32, u32) {
        let secret = SecretName {
            tenant: Some(tenant()),
            name: name.parse().expect("a DNS label"),
        };
        let Consumed { volumes, current } = consumers.count(&secret, Some(version(current)));
        (volumes, current)
    }

    #[test]
    fn volumes_are_counted_by_the_version_that_they_hold() {
        let consumers = Consumers::default();
        let first = consumers.open(node(1));
        let second = consumers.open(node(2));
        first.follow(
            "a",
            &tenant(),
            held(&[("db", Some("1.1")), ("stripe", None)]),
        );
        second.follow("a", &tenant(), held(&[("db", Some("1.2"))]));
        assert_eq!(count(&consumers, "db", "1.2"), (2, 1));
        assert_eq!(count(&consumers, "stripe", "1.1"), (1, 0));
        assert_eq!(count(&consumers, "other", "1.1"), (0, 0));

        // What it holds is not known this time: it is what it was.
        first.follow("a", &tenant(), held(&[("db", None)]));
        assert_eq!(count(&consumers, "db", "1.1"), (2, 1));
        assert_eq!(count(&consumers, "stripe", "1.1"), (0, 0));
        drop(first);
        assert_eq!(count(&consumers, "db", "1.2"), (1, 1));
        second.forget("a");
        assert_eq!(count(&consumers, "db", "1.2"), (0, 0));
        assert!(
            consumers.table().secrets.is_empty(),
            "what is not used is forgotten"
        );
    }

    #[test]
    fn a_volume_of_two_streams_is_counted_once_and_stays_with_the_newer() {
        let consumers = Consumers::default();
        let (old, new) = (consumers.open(node(1)), consumers.open(node(1)));
        old.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
        new.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
        assert_eq!(count(&consumers, "db", "1.1"), (1, 1));
        old.forget("a");
        drop(old);
        assert_eq!(count(&consumers, "db", "1.1"), (1, 1));
    }

    #[test]
    fn who_waits_hears_of_what_changed_and_of_nothing_else() {
        let consumers = Consumers::default();
        let mut changes = consumers.changes();
        let mut heard = || {
            let mut names = Vec::new();
            while let Ok(secret) = changes.try_recv() {
                names.push(secret.name.to_string());
            }
            names
        };
        let stream = consumers.open(node(1));
        let both = || held(&[("db", Some("1.1")), ("stripe", None)]);
        stream.follow("a", &tenant(), both());
        assert_eq!(heard(), ["db", "stripe"]);
        stream.follow("a", &tenant(), both());
        assert_eq!(heard(), [""; 0]);
        stream.follow("a", &tenant(), held(&[("db", Some("1.2"))]));
        assert_eq!(heard(), ["db", "stripe"]);
        stream.forget("b");
        assert_eq!(heard(), [""; 0]);
        drop(stream);
        assert_eq!(heard(), ["db"]);
    }
}
