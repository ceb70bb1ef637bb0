//! Uids of objects of which nothing else is known: namespaces and service accounts, watched by their metadata alone.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use kube::{Resource, ResourceExt};

use crate::object::Place;

/// Uids by place.
#[derive(Debug, Default)]
pub struct Directory(RwLock<BTreeMap<Place, String>>);

impl Directory {
    /// The uid of what is at a place.
    pub fn uid(&self, place: &Place) -> Option<String> {
        let uids = self.0.read().unwrap_or_else(PoisonError::into_inner);
        uids.get(place).cloned()
    }

    /// Takes an object; says whether it is another one than before.
    pub fn put<K: Resource>(&self, object: &K) -> Option<Place> {
        let place = place(object);
        let uid = object.uid().unwrap_or_default();
        let mut uids = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = uids.insert(place.clone(), uid.clone());
        (before.as_deref() != Some(&uid)).then_some(place)
    }

    /// Forgets an object; says whether it was there.
    pub fn remove<K: Resource>(&self, object: &K) -> Option<Place> {
        let place = place(object);
        let mut uids = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_it = uids.get(&place) == object.uid().as_ref();
        is_it.then(|| {
            uids.remove(&place);
            place
        })
    }

    /// Takes all objects; names those that differ.
    pub fn replace<K: Resource>(&self, listed: &[K]) -> Vec<Place> {
        let uid = |object: &K| (place(object), object.uid().unwrap_or_default());
        let next: BTreeMap<Place, String> = listed.iter().map(uid).collect();
        let mut uids = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = |place: &&Place| uids.get(place) != next.get(place);
        let gone = uids.keys().filter(|place| !next.contains_key(*place));
        let changed = next.keys().chain(gone).filter(differs).cloned().collect();
        *uids = next;
        changed
    }
}

fn place<K: Resource>(object: &K) -> Place {
    Place::new(object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };

    use super::*;

    fn account(name: &str, uid: &str) -> ServiceAccount {
        ServiceAccount {
            metadata: ObjectMeta {
                namespace: Some("ns".to_owned()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        }
    }

    #[test]
    fn account_that_was_made_anew_is_another_one() {
        let directory = Directory::default();
        assert!(directory.put(&account("a", "1")).is_some());
        assert!(directory.put(&account("a", "1")).is_none());
        assert!(directory.put(&account("a", "2")).is_some());
        assert!(directory.remove(&account("a", "1")).is_none());
        assert_eq!(directory.uid(&Place::new("ns", "a")).unwrap(), "2");
    }

    #[test]
    fn list_names_what_came_went_and_was_replaced() {
        let directory = Directory::default();
        directory.replace(&[account("a", "1"), account("b", "2"), account("c", "3")]);
        let changed = directory.replace(&[account("b", "2"), account("c", "4"), account("d", "5")]);
        let names: Vec<_> = changed.iter().map(Place::name).collect();
        assert_eq!(names, ["c", "d", "a"]);
    }
}
