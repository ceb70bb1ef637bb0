//! What the watches see goes into the caches, and what has to be looked at because of it into the queue.

use std::{marker::PhantomData, sync::Arc};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Resource;

use crate::{
    cluster::{Caches, Change, Sink},
    kinds::Managed,
    object::{Key, Kind, Place},
    queue::{Lane, Queue},
};

/// Caches and queue. A clone is the same ones.
#[derive(Clone)]
pub struct Wake {
    /// What is kept.
    pub caches: Arc<Caches>,
    /// What waits.
    pub queue: Arc<Queue>,
}

impl Wake {
    fn add(&self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.queue.add(key, Lane::Changed);
        }
    }

    /// Looks at all objects again.
    pub fn resync(&self) {
        for key in self.caches.all() {
            self.queue.add(key, Lane::Resync);
        }
    }

    fn changed(&self, kind: Kind, place: Place, change: &Change) {
        let comes_or_goes = *change != Change::Edited;
        match kind {
            Kind::KeyRing if comes_or_goes => self.add(self.caches.in_rings(place.namespace())),
            Kind::ManagedSecret if comes_or_goes => self.add(self.caches.naming_secret(&place)),
            _ => {}
        }
        if *change != Change::Removed {
            self.add([Key { kind, place }]);
        }
    }
}

/// Takes objects of a kind of ours.
pub struct Objects<K> {
    wake: Wake,
    kind: PhantomData<fn(K)>,
}

impl<K> Objects<K> {
    /// Takes them.
    pub fn new(wake: Wake) -> Self {
        Self {
            wake,
            kind: PhantomData,
        }
    }
}

impl<K: Managed> Sink<K> for Objects<K> {
    fn replaced(&mut self, objects: Vec<K>) {
        for (place, change) in K::store(&self.wake.caches).replace(objects) {
            self.wake.changed(K::KIND, place, &change);
        }
    }

    fn applied(&mut self, object: K) {
        if let Some((place, change)) = K::store(&self.wake.caches).put(object) {
            self.wake.changed(K::KIND, place, &change);
        }
    }

    fn deleted(&mut self, object: K) {
        if let Some((place, change)) = K::store(&self.wake.caches).remove(&object) {
            self.wake.changed(K::KIND, place, &change);
        }
    }
}

/// Takes namespaces.
pub struct Namespaces(pub Wake);

impl Namespaces {
    fn changed(&self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.0.add(self.0.caches.within(place.name()));
        }
    }
}

impl<K: Resource + Send> Sink<K> for Namespaces {
    fn replaced(&mut self, objects: Vec<K>) {
        let changed = self.0.caches.namespaces.replace(&objects);
        self.changed(changed);
    }

    fn applied(&mut self, object: K) {
        let changed = self.0.caches.namespaces.put(&object);
        self.changed(changed);
    }

    fn deleted(&mut self, object: K) {
        self.0.caches.namespaces.remove(&object);
    }
}

/// Takes service accounts.
pub struct Accounts(pub Wake);

impl Accounts {
    fn changed(&self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.0.add(self.0.caches.naming_account(&place));
        }
    }
}

impl<K: Resource + Send> Sink<K> for Accounts {
    fn replaced(&mut self, objects: Vec<K>) {
        let changed = self.0.caches.accounts.replace(&objects);
        self.changed(changed);
    }

    fn applied(&mut self, object: K) {
        let changed = self.0.caches.accounts.put(&object);
        self.changed(changed);
    }

    fn deleted(&mut self, object: K) {
        let changed = self.0.caches.accounts.remove(&object);
        self.changed(changed);
    }
}

/// Takes the admission policy.
pub struct Policy(pub Wake);

impl Policy {
    fn take(&self, policy: Option<ValidatingAdmissionPolicy>) {
        if self.0.caches.guarding.policy(policy) {
            self.0.add(self.0.caches.all());
        }
    }
}

impl Sink<ValidatingAdmissionPolicy> for Policy {
    fn replaced(&mut self, objects: Vec<ValidatingAdmissionPolicy>) {
        self.take(objects.into_iter().next());
    }

    fn applied(&mut self, object: ValidatingAdmissionPolicy) {
        self.take(Some(object));
    }

    fn deleted(&mut self, _: ValidatingAdmissionPolicy) {
        self.take(None);
    }
}

/// Takes the binding of the admission policy.
pub struct Binding(pub Wake);

impl Binding {
    fn take(&self, binding: Option<ValidatingAdmissionPolicyBinding>) {
        if self.0.caches.guarding.binding(binding) {
            self.0.add(self.0.caches.all());
        }
    }
}

impl Sink<ValidatingAdmissionPolicyBinding> for Binding {
    fn replaced(&mut self, objects: Vec<ValidatingAdmissionPolicyBinding>) {
        self.take(objects.into_iter().next());
    }

    fn applied(&mut self, object: ValidatingAdmissionPolicyBinding) {
        self.take(Some(object));
    }

    fn deleted(&mut self, _: ValidatingAdmissionPolicyBinding) {
        self.take(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::crds::{KeyRing, ManagedSecret, SecretBundle};

    fn object<K: serde::de::DeserializeOwned>(
        kind: &str,
        name: &str,
        spec: serde_json::Value,
    ) -> K {
        let object = json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": "ns", "uid": format!("u-{name}"), "generation": 1},
        });
        serde_json::from_value(object).unwrap()
    }

    async fn woken(wake: &Wake) -> Vec<String> {
        let mut woken = Vec::new();
        while let Ok(key) = tokio::time::timeout(Duration::from_millis(1), wake.queue.next()).await
        {
            woken.push(key.to_string());
            wake.queue.done(key, crate::queue::Again::No);
        }
        woken.sort();
        woken
    }

    fn wake() -> Wake {
        Wake {
            caches: Arc::default(),
            queue: Arc::default(),
        }
    }

    fn secret() -> ManagedSecret {
        let spec = json!({
            "source": {"manual": {"fields": ["key"]}},
            "access": [{"role": "SecretReader", "subjects": [{"kind": "ServiceAccount", "name": "api"}]}],
        });
        object("ManagedSecret", "db", spec)
    }

    #[tokio::test(start_paused = true)]
    async fn ring_that_comes_wakes_what_waits_for_one() {
        let wake = wake();
        Objects::<ManagedSecret>::new(wake.clone()).applied(secret());
        assert_eq!(woken(&wake).await, ["ManagedSecret ns/db"]);
        let ring: KeyRing = object("KeyRing", "ns", json!({}));
        Objects::<KeyRing>::new(wake.clone()).applied(ring.clone());
        assert_eq!(woken(&wake).await, ["KeyRing ns/ns", "ManagedSecret ns/db"]);
        Objects::<KeyRing>::new(wake.clone()).applied(ring);
        assert_eq!(woken(&wake).await, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn secret_that_comes_wakes_bundles_that_name_it() {
        let wake = wake();
        for (name, secret) in [("one", "db"), ("two", "other")] {
            let spec = json!({"files": [{"path": "a", "from": {"secret": secret, "field": "a"}}]});
            let bundle: SecretBundle = object("SecretBundle", name, spec);
            Objects::<SecretBundle>::new(wake.clone()).applied(bundle);
        }
        woken(&wake).await;
        Objects::<ManagedSecret>::new(wake.clone()).applied(secret());
        assert_eq!(
            woken(&wake).await,
            ["ManagedSecret ns/db", "SecretBundle ns/one"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn account_that_was_made_anew_wakes_what_names_it() {
        let wake = wake();
        Objects::<ManagedSecret>::new(wake.clone()).applied(secret());
        woken(&wake).await;
        let account = |name: &str, uid: &str| {
            let mut account = k8s_openapi::api::core::v1::ServiceAccount::default();
            account.metadata.namespace = Some("ns".to_owned());
            account.metadata.name = Some(name.to_owned());
            account.metadata.uid = Some(uid.to_owned());
            account
        };
        let mut accounts = Accounts(wake.clone());
        accounts.applied(account("api", "1"));
        assert_eq!(woken(&wake).await, ["ManagedSecret ns/db"]);
        accounts.applied(account("api", "1"));
        accounts.applied(account("other", "2"));
        assert_eq!(woken(&wake).await, [""; 0]);
        accounts.applied(account("api", "3"));
        assert_eq!(woken(&wake).await, ["ManagedSecret ns/db"]);
    }
}
