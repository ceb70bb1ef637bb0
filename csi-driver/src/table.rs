//! The volumes of this node in memory: for each its token, its etag and when the key service last spoke of it. One change
//! of a volume at a time; what is not here is re-learned when kubelet publishes the volume again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use strongroom_core::SecretBytes;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::{request::Wanted, volume::Target};

/// What the pod of a volume may show, and wants.
#[derive(Clone, Debug)]
pub struct Access {
    /// The pod's token; wiped with its last holder.
    pub token: Arc<SecretBytes>,
    /// What the pod asks for.
    pub wanted: Wanted,
    /// Whether the pod may run while that is not there.
    pub optional: bool,
    /// The pod's fsGroup, or root.
    pub group: u32,
}

/// Why the last read of a volume brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody could tell; it will pass.
    Away(String),
    /// The pod may not read what it holds.
    Refused(String),
    /// What the pod asks for is not there, and it may run without.
    Absent(String),
}

/// What is known of a volume.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// As kubelet calls it; empty after a restart.
    pub volume_id: String,
    /// None after a restart, until kubelet publishes the volume again.
    pub access: Option<Access>,
    /// What the volume holds; empty when that is not known.
    pub etag: String,
    /// When the key service last said what it shall hold, or when the driver found it.
    pub confirmed: Duration,
    /// Why it did not say so since.
    pub failure: Option<Failure>,
    /// Counts what the stream has to be told anew.
    pub subscription: u64,
}

/// A volume. Its state is read at any time and changed by whoever has its [`Turn`].
#[derive(Debug)]
pub struct Volume {
    /// Where it is.
    pub target: Target,
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

impl Volume {
    fn new(target: Target) -> Self {
        Self {
            target,
            turn: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// What is known of it now.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change replaces whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change one volume, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    volume: Arc<Volume>,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Changes what is known of it.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.volume.lock());
    }
}

/// All volumes of the node.
#[derive(Debug)]
pub struct Table {
    volumes: Mutex<BTreeMap<Target, Arc<Volume>>>,
    changed: watch::Sender<()>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            volumes: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Table {
    /// Waits until nobody else changes a volume. It is in the table from then on.
    pub async fn turn(&self, target: &Target) -> Turn {
        loop {
            let volume = {
                let mut volumes = self.lock();
                let new = || Arc::new(Volume::new(target.clone()));
                volumes.entry(target.clone()).or_insert_with(new).clone()
            };
            if let Some(turn) = self.wait(volume).await {
                return turn;
            }
        }
    }

    /// Waits until nobody else changes a volume; none when it is not in the table then.
    pub async fn turn_of(&self, target: &Target) -> Option<Turn> {
        let volume = self.find(target)?;
        self.wait(volume).await
    }

    async fn wait(&self, volume: Arc<Volume>) -> Option<Turn> {
        let guard = volume.turn.clone().lock_owned().await;
        // Whoever had the turn before may have taken the volume out.
        let there = self.find(&volume.target);
        there
            .is_some_and(|there| Arc::ptr_eq(&there, &volume))
            .then_some(Turn {
                volume,
                _guard: guard,
            })
    }

    /// Takes a volume out; its token is wiped.
    pub fn forget(&self, turn: Turn) {
        self.lock().remove(&turn.volume.target);
        // Whoever still holds the volume holds no token.
        turn.update(|state| *state = State::default());
        self.changed.send_replace(());
    }

    /// Tells the stream that a volume has to be announced anew.
    pub fn announce(&self, turn: &Turn) {
        turn.update(|state| state.subscription += 1);
        self.changed.send_replace(());
    }

    /// Resolves at each change of what the stream has to be told.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All volumes, by where they are.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.lock().values().cloned().collect()
    }

    /// A volume, if it is there.
    pub fn find(&self, target: &Target) -> Option<Arc<Volume>> {
        self.lock().get(target).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, Arc<Volume>>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn target(volume: &str) -> Target {
        let path = format!("/pods/uid/volumes/kubernetes.io~csi/{volume}/mount");
        Target::parse(&path, Path::new("/pods")).unwrap()
    }

    #[tokio::test]
    async fn second_turn_waits_for_the_first_and_sees_what_it_did() {
        let table = Arc::new(Table::default());
        let first = table.turn(&target("a")).await;
        let other = table.turn(&target("b")).await;
        let waiting = {
            let table = table.clone();
            async move { table.turn(&target("a")).await.volume().state().etag }
        };
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
        assert!(early.is_err());
        first.update(|state| state.etag = "1".to_owned());
        drop(first);
        assert_eq!(waiting.await, "1");
        drop(other);
    }

    #[tokio::test]
    async fn turn_after_a_volume_was_forgotten_is_of_a_new_one() {
        let table = Table::default();
        let first = table.turn(&target("a")).await;
        let old = first.volume.clone();
        first.update(|state| {
            state.access = Some(Access {
                token: Arc::new(SecretBytes::copy_from(b"t")),
                wanted: Wanted::Secrets(Vec::new()),
                optional: false,
                group: 0,
            });
        });
        let target = target("a");
        let (second, ()) = tokio::join!(table.turn(&target), async {
            tokio::task::yield_now().await;
            table.forget(first);
        });
        assert!(!Arc::ptr_eq(&second.volume, &old));
        assert!(old.state().access.is_none(), "the token is gone");
        assert_eq!(table.volumes().len(), 1);
    }
}
