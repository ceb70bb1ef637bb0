//! Objects of one kind as the API server last showed them. What only touches a status is no change: our own writes would
//! otherwise wake us.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::{Resource, ResourceExt};

use crate::object::Place;

/// How an object has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there since now, or another one in its place.
    Added,
    /// Its spec, its finalizers or its end.
    Edited,
    /// It is gone.
    Removed,
}

/// The store.
#[derive(Debug)]
pub struct Store<K>(RwLock<BTreeMap<Place, Arc<K>>>);

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Resource<DynamicType = ()>> Store<K> {
    /// The object at a place.
    pub fn get(&self, place: &Place) -> Option<Arc<K>> {
        self.read().get(place).cloned()
    }

    /// The objects of a namespace, by name.
    pub fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Place::new(namespace, "");
        self.read()
            .range(first..)
            .take_while(|(place, _)| place.namespace() == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// All places.
    pub fn places(&self) -> Vec<Place> {
        self.read().keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes an object as it is now.
    pub fn put(&self, mut object: K) -> Option<(Place, Change)> {
        lighten(&mut object);
        let place = place(&object);
        let mut objects = self.write();
        let change = match objects.get(&place) {
            Some(before) if is_older(&object, before.as_ref()) => return None,
            Some(before) => change(before.as_ref(), &object),
            None => Some(Change::Added),
        };
        objects.insert(place.clone(), Arc::new(object));
        change.map(|change| (place, change))
    }

    /// Forgets an object that is gone.
    pub fn remove(&self, object: &K) -> Option<(Place, Change)> {
        let place = place(object);
        let mut objects = self.write();
        let is_it = |held: &Arc<K>| held.uid() == object.uid();
        objects.get(&place).is_some_and(is_it).then(|| {
            objects.remove(&place);
            (place, Change::Removed)
        })
    }

    /// Takes all objects as they are now.
    pub fn replace(&self, listed: Vec<K>) -> Vec<(Place, Change)> {
        let mut next = BTreeMap::new();
        for mut object in listed {
            lighten(&mut object);
            next.insert(place(&object), Arc::new(object));
        }
        let mut objects = self.write();
        let mut changes = Vec::new();
        for (place, object) in &next {
            let change = match objects.get(place) {
                Some(before) => change(before.as_ref(), object.as_ref()),
                None => Some(Change::Added),
            };
            changes.extend(change.map(|change| (place.clone(), change)));
        }
        let gone = objects.keys().filter(|place| !next.contains_key(*place));
        changes.extend(gone.map(|place| (place.clone(), Change::Removed)));
        *objects = next;
        changes
    }

    // A panic ends the process.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Place, Arc<K>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Place, Arc<K>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an object is.
fn place<K: Resource<DynamicType = ()>>(object: &K) -> Place {
    Place::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// Drops what is large and never read.
fn lighten<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.annotations = None;
    metadata.labels = None;
}

/// Whether a write's answer came after a newer event of the watch. Versions of one resource are numbers that grow.
fn is_older<K: Resource>(object: &K, held: &K) -> bool {
    let version = |of: &K| of.meta().resource_version.as_deref()?.parse::<u128>().ok();
    object.meta().uid == held.meta().uid && version(object) < version(held)
}

fn change<K: Resource>(before: &K, after: &K) -> Option<Change> {
    let (before, after) = (before.meta(), after.meta());
    if before.uid != after.uid {
        return Some(Change::Added);
    }
    let same = before.generation == after.generation
        && before.deletion_timestamp == after.deletion_timestamp
        && before.finalizers == after.finalizers;
    (!same).then_some(Change::Edited)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn object(name: &str, uid: &str, generation: i64, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("ns".to_owned()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                generation: Some(generation),
                resource_version: Some(version.to_owned()),
                managed_fields: Some(Vec::new()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn told(change: Option<(Place, Change)>) -> Option<Change> {
        change.map(|(_, change)| change)
    }

    #[test]
    fn only_spec_finalizers_end_and_identity_are_changes() {
        let store = Store::default();
        assert_eq!(
            told(store.put(object("a", "1", 1, "5"))),
            Some(Change::Added)
        );
        assert_eq!(told(store.put(object("a", "1", 1, "6"))), None);
        assert_eq!(
            told(store.put(object("a", "1", 2, "7"))),
            Some(Change::Edited)
        );
        assert_eq!(
            told(store.put(object("a", "2", 2, "8"))),
            Some(Change::Added)
        );
        let place = Place::new("ns", "a");
        assert_eq!(store.get(&place).unwrap().metadata.managed_fields, None);
    }

    #[test]
    fn answer_that_comes_after_a_newer_event_is_dropped() {
        let store = Store::default();
        store.put(object("a", "1", 2, "10"));
        assert_eq!(told(store.put(object("a", "1", 1, "9"))), None);
        let held = store.get(&Place::new("ns", "a")).unwrap();
        assert_eq!(held.metadata.resource_version.as_deref(), Some("10"));
    }

    #[test]
    fn list_tells_only_what_differs() {
        let store = Store::default();
        store.replace(vec![object("a", "1", 1, "1"), object("b", "2", 1, "2")]);
        let changes = store.replace(vec![object("b", "2", 1, "2"), object("c", "3", 1, "3")]);
        let told: Vec<_> = changes.iter().map(|(place, _)| place.name()).collect();
        assert_eq!(told, ["c", "a"]);
    }

    #[test]
    fn end_of_a_former_object_is_not_that_of_its_successor() {
        let store = Store::default();
        store.put(object("a", "2", 1, "2"));
        assert_eq!(told(store.remove(&object("a", "1", 1, "1"))), None);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn namespace_is_not_the_beginning_of_another() {
        let store = Store::default();
        let mut other = object("x", "9", 1, "9");
        other.metadata.namespace = Some("ns-two".to_owned());
        store.replace(vec![object("a", "1", 1, "1"), other]);
        assert_eq!(store.within("ns").len(), 1);
    }
}
