//! Everything that is kept of the cluster, and what has to be looked at when a part of it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt};

use super::{Directory, Guarding, Store};
use crate::{
    crds::{CryptoKey, KeyRing, ManagedSecret, SecretBundle, SecretRotation},
    kinds::Managed,
    object::{Key, Kind, Place},
    plan::Facts,
};

/// What is kept.
#[derive(Debug, Default)]
pub struct Caches {
    /// Rings.
    pub key_rings: Store<KeyRing>,
    /// Keys.
    pub crypto_keys: Store<CryptoKey>,
    /// Secrets.
    pub managed_secrets: Store<ManagedSecret>,
    /// Bundles.
    pub secret_bundles: Store<SecretBundle>,
    /// Rotations.
    pub secret_rotations: Store<SecretRotation>,
    /// Namespaces, by name.
    pub namespaces: Directory,
    /// Service accounts.
    pub accounts: Directory,
    /// The admission policy.
    pub guarding: Guarding,
}

impl Caches {
    /// What is known about a namespace; of its accounts only those that are named.
    pub fn facts<'a>(&self, namespace: &str, accounts: impl IntoIterator<Item = &'a str>) -> Facts {
        let uid = |name: &str| {
            let uid = self.accounts.uid(&Place::new(namespace, name))?;
            Some((name.to_owned(), uid))
        };
        Facts {
            namespace_uid: self.namespaces.uid(&Place::new("", namespace)),
            rings: names(&self.key_rings, namespace),
            secrets: names(&self.managed_secrets, namespace)
                .into_iter()
                .collect(),
            accounts: accounts
                .into_iter()
                .filter_map(uid)
                .collect::<BTreeMap<_, _>>(),
            guard: self.guarding.guard(),
        }
    }

    /// All objects.
    pub fn all(&self) -> Vec<Key> {
        let of = |kind, places: Vec<Place>| {
            places
                .into_iter()
                .map(move |place| Key { kind, place })
                .collect::<Vec<_>>()
        };
        [
            of(Kind::KeyRing, self.key_rings.places()),
            of(Kind::CryptoKey, self.crypto_keys.places()),
            of(Kind::ManagedSecret, self.managed_secrets.places()),
            of(Kind::SecretBundle, self.secret_bundles.places()),
            of(Kind::SecretRotation, self.secret_rotations.places()),
        ]
        .concat()
    }

    /// All objects of a namespace.
    pub fn within(&self, namespace: &str) -> Vec<Key> {
        let mut keys = keys(Kind::KeyRing, &self.key_rings.within(namespace));
        keys.extend(self.in_rings(namespace));
        keys.extend(keys_of_rotations(&self.secret_rotations.within(namespace)));
        keys
    }

    /// All objects of a namespace that lie in a ring.
    pub fn in_rings(&self, namespace: &str) -> Vec<Key> {
        [
            keys(Kind::CryptoKey, &self.crypto_keys.within(namespace)),
            keys(Kind::ManagedSecret, &self.managed_secrets.within(namespace)),
            keys(Kind::SecretBundle, &self.secret_bundles.within(namespace)),
        ]
        .concat()
    }

    /// The rings of a namespace, which count what is in them.
    pub fn rings(&self, namespace: &str) -> Vec<Key> {
        keys(Kind::KeyRing, &self.key_rings.within(namespace))
    }

    /// Objects that name a secret.
    pub fn naming_secret(&self, secret: &Place) -> Vec<Key> {
        let namespace = secret.namespace();
        let bundles = self.secret_bundles.within(namespace);
        let naming: Vec<_> = bundles
            .into_iter()
            .filter(|bundle| bundle.spec.secrets().contains(secret.name()))
            .collect();
        let mut found = keys(Kind::SecretBundle, &naming);
        let rotations = self.secret_rotations.within(namespace);
        let naming: Vec<_> = rotations
            .into_iter()
            .filter(|rotation| rotation.spec.secret_ref.name == secret.name())
            .collect();
        found.extend(keys_of_rotations(&naming));
        found
    }

    /// Objects that give a role to an account.
    pub fn naming_account(&self, account: &Place) -> Vec<Key> {
        let (namespace, name) = (account.namespace(), account.name());
        let mut found = Vec::new();
        for ring in self.key_rings.within(namespace) {
            found.extend(names_account(
                Kind::KeyRing,
                ring.as_ref(),
                ring.subjects(),
                name,
            ));
        }
        for key in self.crypto_keys.within(namespace) {
            found.extend(names_account(
                Kind::CryptoKey,
                key.as_ref(),
                key.subjects(),
                name,
            ));
        }
        for secret in self.managed_secrets.within(namespace) {
            let subjects = secret.subjects();
            found.extend(names_account(
                Kind::ManagedSecret,
                secret.as_ref(),
                subjects,
                name,
            ));
        }
        found
    }
}

fn names_account<K: Resource<DynamicType = ()>>(
    kind: Kind,
    object: &K,
    subjects: BTreeSet<&str>,
    account: &str,
) -> Option<Key> {
    subjects.contains(account).then(|| {
        Key::new(
            kind,
            object.namespace().unwrap_or_default(),
            object.name_any(),
        )
    })
}

fn names<K: Resource<DynamicType = ()>>(store: &Store<K>, namespace: &str) -> Vec<String> {
    let objects = store.within(namespace);
    let living = objects
        .iter()
        .filter(|object| object.meta().deletion_timestamp.is_none());
    living.map(|object| object.name_any()).collect()
}

fn keys<K: Resource<DynamicType = ()>>(kind: Kind, objects: &[Arc<K>]) -> Vec<Key> {
    let key = |object: &Arc<K>| {
        Key::new(
            kind,
            object.namespace().unwrap_or_default(),
            object.name_any(),
        )
    };
    objects.iter().map(key).collect()
}

fn keys_of_rotations(rotations: &[Arc<SecretRotation>]) -> Vec<Key> {
    keys(Kind::SecretRotation, rotations)
}
