//! What the keyring holds in memory, and for how long: KEKs within the bound, material until it must make room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use strongroom_core::{Clock, KeyId, VersionId};
use strongroom_crypto::{Kek, Material};
use strongroom_hsm::KekPlace;

/// Copies of material that are kept. Unwrapping one again costs some microseconds, so a small number is enough.
pub(super) const MATERIAL_MAX: usize = 8192;

/// Two copies of a KEK, each unwrapped by the token by itself.
#[derive(Debug)]
pub struct KekPair {
    /// Seals.
    pub first: Kek,
    /// Opens what the first sealed.
    pub second: Kek,
}

impl KekPair {
    pub(super) const fn copy(&self, copy: KeyCopy) -> &Kek {
        match copy {
            KeyCopy::First => &self.first,
            KeyCopy::Second => &self.second,
        }
    }
}

/// Which copy of a KEK, and of the material that was unwrapped with it. The two share nothing after the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyCopy {
    /// Seals and opens.
    First,
    /// Opens what the first sealed, before it leaves.
    Second,
}

/// Whose material, and which copy of it.
pub(super) type MaterialId = (KeyId, VersionId, KeyCopy);

struct Kept {
    pair: Arc<KekPair>,
    /// When the token gave it last.
    proven: Duration,
}

pub(super) struct Cache {
    clock: Arc<dyn Clock>,
    bound: Duration,
    keks: Mutex<HashMap<KekPlace, Kept>>,
    material: Mutex<HashMap<MaterialId, Arc<Material>>>,
}

impl Cache {
    pub(super) fn new(clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self {
            clock,
            bound,
            keks: Mutex::default(),
            material: Mutex::default(),
        }
    }

    /// The KEK, unless the token gave it too long ago.
    pub(super) fn kek(&self, place: KekPlace) -> Option<Arc<KekPair>> {
        let now = self.clock.elapsed();
        let mut keks = lock(&self.keks);
        let kept = keks.get(&place)?;
        if now.saturating_sub(kept.proven) <= self.bound {
            return Some(kept.pair.clone());
        }
        keks.remove(&place);
        // Material could still open data, so it goes with the KEK that it came from.
        lock(&self.material).clear();
        None
    }

    pub(super) fn keep(&self, place: KekPlace, pair: KekPair) -> Arc<KekPair> {
        let pair = Arc::new(pair);
        let kept = Kept {
            pair: pair.clone(),
            proven: self.clock.elapsed(),
        };
        lock(&self.keks).insert(place, kept);
        pair
    }

    pub(super) fn places(&self) -> Vec<KekPlace> {
        lock(&self.keks).keys().copied().collect()
    }

    pub(super) fn material(&self, id: MaterialId) -> Option<Arc<Material>> {
        lock(&self.material).get(&id).cloned()
    }

    pub(super) fn keep_material(&self, id: MaterialId, material: &Arc<Material>) {
        let mut kept = lock(&self.material);
        if kept.len() >= MATERIAL_MAX
            && let Some(any) = kept.keys().next().copied()
        {
            kept.remove(&any);
        }
        kept.insert(id, material.clone());
    }

    /// Forgets both copies.
    pub(super) fn forget_material(&self, key: KeyId, version: VersionId) {
        let mut kept = lock(&self.material);
        for copy in [KeyCopy::First, KeyCopy::Second] {
            kept.remove(&(key, version, copy));
        }
    }

    pub(super) fn forget_all_material(&self) {
        lock(&self.material).clear();
    }

    pub(super) fn forget(&self, key: KeyId, version: VersionId, kek: KekPlace) {
        self.forget_material(key, version);
        lock(&self.keks).remove(&kek);
    }
}

/// A poisoned cache is still a cache: each change is one insert or remove.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
