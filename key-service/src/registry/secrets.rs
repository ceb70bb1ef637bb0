//! Secrets: found by ring and id or by their owner and name, read for permits, their values from the store on demand.

mod change;
mod codec;
mod index;

use std::sync::Arc;

use prost::Message;
use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{Action, Name, Permit, Resource, RingId, SecretId, VersionId, action};
use strongroom_store::StoreError;

pub(super) use change::SecretExpectations;
pub(super) use codec::decode;
pub(super) use index::Secrets;
pub use index::{SecretName, StoredSecret};

use super::{Registry, Ring, StoredHead, StoredMaterial, path};

/// Which secret, as callers say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretLocator {
    /// By its ring and its id.
    Id(RingId, SecretId),
    /// By its ring and its name.
    Name(RingId, Name),
    /// By the owner of its ring and its name.
    Owned(SecretName),
}

/// Why the sealed value of a version is not given.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The engine does not give it.
    #[error("the store cannot be read")]
    Store(#[source] StoreError),
    /// It is there, but it is no record.
    #[error("the record of the version is not readable")]
    Malformed,
}

impl Registry {
    /// Finds a secret of a ring, to ask the policy about it. Tells nothing else about it.
    pub fn find_secret(&self, locator: &SecretLocator) -> Option<Resource> {
        let state = self.state();
        let stored = match locator {
            SecretLocator::Id(ring, secret) => state.secrets.head(*ring, *secret)?,
            SecretLocator::Name(ring, name) => {
                let tenant = state.rings.get(ring)?.tenant().cloned();
                let name = name.clone();
                let found = state.secrets.find(&SecretName { tenant, name })?;
                // Names are unique over all rings of the owner; this one may lie in another of them.
                Some(found).filter(|found| found.head.ring == *ring)?
            }
            SecretLocator::Owned(name) => state.secrets.find(name)?,
        };
        state.resource(stored)
    }

    /// Finds a secret by the name that readers use, to ask the policy about it. Tells nothing else about it.
    pub fn find_secret_by_name(&self, name: &SecretName) -> Option<Resource> {
        let state = self.state();
        state.resource(state.secrets.find(name)?)
    }

    /// The head of the secret that the permit is for.
    pub fn secret<A: SecretAction>(&self, permit: &Permit<A>) -> Option<Arc<StoredSecret>> {
        let (ring, secret) = permit.secret()?;
        self.state().secrets.head(ring, secret).cloned()
    }

    /// The heads of the ring that the permit is for, in the order of their ids, after `after`.
    pub fn secrets(
        &self,
        permit: &Permit<action::ListSecrets>,
        after: Option<SecretId>,
        limit: usize,
    ) -> Vec<Arc<StoredSecret>> {
        let Some(ring) = permit.resource().ring() else {
            return Vec::new();
        };
        let state = self.state();
        let of_ring = state.secrets.of_ring(ring, after);
        of_ring.take(limit).cloned().collect()
    }

    /// The ring of what the permit is for.
    pub fn ring<A: Action>(&self, permit: &Permit<A>) -> Option<Arc<Ring>> {
        self.state().rings.get(&permit.resource().ring()?).cloned()
    }

    /// The key under which the secrets of the permit's ring are sealed; none before the first of them.
    pub fn secrets_key<A: SealingAction>(&self, permit: &Permit<A>) -> Option<Arc<StoredHead>> {
        let ring = permit.resource().ring()?;
        self.state().secrets.key(ring).cloned()
    }

    /// The wrapped material of one version of that key, with the record of the KEK that wraps it.
    pub fn secrets_material<A: SealingAction>(
        &self,
        permit: &Permit<A>,
        version: VersionId,
    ) -> Option<StoredMaterial> {
        let ring = permit.resource().ring()?;
        let state = self.state();
        let key = state.secrets.key(ring)?.head.id;
        state.stored_material(ring, key, version)
    }

    /// The sealed value of one version of the secret that the permit is for; none when the version is not kept any more.
    ///
    /// Whoever opens it learns whether it is genuine: it is bound to its secret and version, and a version never changes.
    ///
    /// # Errors
    /// See `SealedError`.
    pub async fn sealed_value<A: OpeningAction>(
        &self,
        permit: &Permit<A>,
        version: VersionId,
    ) -> Result<Option<Vec<u8>>, SealedError> {
        let Some((_, secret)) = permit.secret() else {
            return Ok(None);
        };
        let path = path::sealed(secret, version);
        let snapshot = self.store.snapshot(path.as_str()).await;
        let entries = snapshot.map_err(SealedError::Store)?.entries;
        // The path of version 1.1 is the beginning of that of version 1.10.
        let Some(entry) = entries.into_iter().find(|entry| entry.key == path) else {
            return Ok(None);
        };
        let read = wire::Record::decode(entry.value.as_slice())
            .and_then(|record| wire::SealedValue::decode(record.value.as_slice()));
        match read {
            Ok(value) => Ok(Some(value.sealed)),
            Err(_) => Err(SealedError::Malformed),
        }
    }
}

/// Actions on a secret, whose permits let its head be read.
pub trait SecretAction: Action {}

/// Actions whose permits let the key of a ring's secrets be used.
pub trait SealingAction: Action {}

/// Actions on a secret, whose permits let its values be read.
pub trait OpeningAction: SecretAction + SealingAction {}

macro_rules! actions {
    ($mark:ident: $($action:ident),*) => { $(impl $mark for action::$action {})* };
}

actions!(
    SecretAction: ApplySecret,
    ReleaseObject,
    DescribeSecret,
    SetSecretValue,
    RotateSecret,
    SetSecretAccess,
    RevealSecret,
    ReadSecret
);
actions!(
    SealingAction: CreateSecret,
    SetSecretValue,
    RotateSecret,
    RevealSecret,
    ReadSecret
);
actions!(OpeningAction: RevealSecret, ReadSecret);
