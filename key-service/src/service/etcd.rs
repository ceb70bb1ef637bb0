//! Use of the key of etcd by the API server's plugin.
//!
//! A key id names one activation: the period in which one version was primary. Ids are derived, so every node says the
//! same, and an activation never comes back, so no id does.

use std::collections::BTreeMap;

use strongroom_core::{
    Activation, ContextDigest, EncryptionContext, InstanceId, KeyHead, KeyUse, Permit, SecretBytes,
    action,
};
use strongroom_crypto::{etcd_key_id, message::Message};

use super::{CallContext, CallError, Detail, Service, detail};
use crate::{
    keyring::VersionRef,
    registry::{KeyAction, Position},
};

/// Most bytes of a seed.
pub const SEED_MAX: usize = 512;

/// What a probe showed.
pub struct EtcdProbe {
    /// The instance.
    pub instance: InstanceId,
    /// The activation in force, with its key id.
    pub primary: (String, Activation),
    /// All that decrypt now, oldest first.
    pub readable: Vec<(String, Activation)>,
    /// Where the store is.
    pub position: Position,
}

/// A seed of the API server, in clear or sealed.
pub struct SeedRequest<'a> {
    /// The instance that the plugin pinned, if it did.
    pub instance: Option<InstanceId>,
    /// The key id.
    pub key_id: &'a str,
    /// Plaintext or ciphertext.
    pub bytes: &'a [u8],
    /// What the plugin stores beside the ciphertext.
    pub annotations: &'a BTreeMap<String, Vec<u8>>,
}

impl Service {
    /// Proves that the key of etcd can be used: with a round trip of its primary version, and a look at what it needs.
    ///
    /// Nothing is recorded: nothing is opened for anybody.
    ///
    /// # Errors
    /// See `CallError`; each means that the plugin must report an error.
    pub async fn probe_etcd_key(
        &self,
        context: &CallContext,
        instance: Option<InstanceId>,
    ) -> Result<EtcdProbe, CallError> {
        self.check_instance(instance)?;
        let resource = self.registry.etcd_key();
        let permit = self
            .admit::<action::ProbeEtcdKey>(
                context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        self.trail.check_reserve().map_err(CallError::audit)?;
        let stored = self.stored(&permit)?;
        let primary = stored.head.primary();
        let material = self.usable(&permit, &stored.head, primary.version)?;
        let reference = VersionRef {
            head: &stored.head,
            version: primary.version,
            stored: &material,
        };
        let sample: [u8; 32] = strongroom_crypto::random::public_bytes();
        self.keyring
            .seal(
                reference,
                KeyUse::KmsV2,
                &EncryptionContext::default(),
                &sample,
            )
            .await?;
        let named = |activation: &Activation| (self.key_id(&stored.head, activation), *activation);
        Ok(EtcdProbe {
            instance: self.registry.instance().id,
            primary: named(&primary),
            readable: stored.head.readable().map(named).collect(),
            position: self.registry.position(),
        })
    }

    /// Seals a seed under the activation in force.
    ///
    /// # Errors
    /// See `CallError`; `Stale` when another activation is in force than the plugin says.
    pub async fn encrypt_seed(
        &self,
        context: &CallContext,
        request: SeedRequest<'_>,
    ) -> Result<Vec<u8>, CallError> {
        self.check_instance(request.instance)?;
        let bound = self.bound_context(&request)?;
        let digest = ContextDigest(self.digests.context(&bound));
        let resource = self.registry.etcd_key();
        let permit = self
            .admit::<action::EncryptSeed>(context, &resource, Some(resource.clone()), digest)
            .await?;
        let outcome = self.encrypt_seed_with(&permit, &request, &bound).await;
        self.conclude(context, &permit, outcome).await
    }

    async fn encrypt_seed_with(
        &self,
        permit: &Permit<action::EncryptSeed>,
        request: &SeedRequest<'_>,
        bound: &EncryptionContext,
    ) -> Result<(Vec<u8>, Detail), CallError> {
        if request.bytes.is_empty() || request.bytes.len() > SEED_MAX {
            return Err(CallError::Invalid(format!(
                "a seed has 1 to {SEED_MAX} bytes"
            )));
        }
        let stored = self.stored(permit)?;
        let primary = stored.head.primary();
        if self.key_id(&stored.head, &primary) != request.key_id {
            return Err(CallError::Stale);
        }
        let material = self.usable(permit, &stored.head, primary.version)?;
        let reference = VersionRef {
            head: &stored.head,
            version: primary.version,
            stored: &material,
        };
        let sealed = self
            .keyring
            .seal(reference, KeyUse::KmsV2, bound, request.bytes)
            .await?;
        Ok((sealed, activation_detail(&primary)))
    }

    /// Opens a seed that was sealed under any activation whose version may still be used.
    ///
    /// # Errors
    /// See `CallError`; an unknown key id is `NotFound` before any key is touched.
    pub async fn decrypt_seed(
        &self,
        context: &CallContext,
        request: SeedRequest<'_>,
    ) -> Result<SecretBytes, CallError> {
        self.check_instance(request.instance)?;
        let bound = self.bound_context(&request)?;
        let digest = ContextDigest(self.digests.context(&bound));
        let resource = self.registry.etcd_key();
        let permit = self
            .admit::<action::DecryptSeed>(context, &resource, Some(resource.clone()), digest)
            .await?;
        let outcome = self.decrypt_seed_with(&permit, &request, &bound).await;
        self.conclude(context, &permit, outcome).await
    }

    async fn decrypt_seed_with(
        &self,
        permit: &Permit<action::DecryptSeed>,
        request: &SeedRequest<'_>,
        bound: &EncryptionContext,
    ) -> Result<(SecretBytes, Detail), CallError> {
        let stored = self.stored(permit)?;
        let activation = self
            .find_activation(permit, &stored.head, request.key_id)
            .ok_or(CallError::NotFound)?;
        let message = Message::parse(request.bytes).map_err(|_| CallError::DoesNotOpen)?;
        let place = message.place();
        if (place.key_id, place.version) != (stored.head.id, activation.version) {
            return Err(CallError::DoesNotOpen);
        }
        let material = self.usable(permit, &stored.head, activation.version)?;
        let reference = VersionRef {
            head: &stored.head,
            version: activation.version,
            stored: &material,
        };
        let seed = self
            .keyring
            .open(reference, KeyUse::KmsV2, bound, &message)
            .await?;
        Ok((seed, activation_detail(&activation)))
    }

    /// The key id of one activation.
    pub(super) fn key_id(&self, head: &KeyHead, activation: &Activation) -> String {
        etcd_key_id(
            self.registry.instance().id,
            head.id,
            activation.version,
            activation.number,
        )
    }

    /// The key id in force as kube-apiserver's metrics show it: `sha256:` and the digest of the public id.
    pub(crate) fn key_id_hash(&self, head: &KeyHead) -> String {
        let key_id = self.key_id(head, &head.primary());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key_id.as_bytes());
        format!("sha256:{}", hex::encode(digest))
    }

    fn find_activation<A: KeyAction>(
        &self,
        _: &Permit<A>,
        head: &KeyHead,
        key_id: &str,
    ) -> Option<Activation> {
        head.activations
            .iter()
            .find(|activation| self.key_id(head, activation) == key_id)
            .copied()
    }

    fn check_instance(&self, pinned: Option<InstanceId>) -> Result<(), CallError> {
        let ours = self.registry.instance().id;
        match pinned {
            Some(pinned) if pinned != ours => Err(CallError::Invalid(format!(
                "this is instance {ours}, the plugin is pinned to {pinned}"
            ))),
            _ => Ok(()),
        }
    }

    /// Everything that a stored seed is bound to: instance, key id and the annotations beside it.
    fn bound_context(&self, request: &SeedRequest<'_>) -> Result<EncryptionContext, CallError> {
        let instance = self.registry.instance().id.to_string().into_bytes();
        let own = [
            ("instance".to_owned(), instance),
            ("key-id".to_owned(), request.key_id.as_bytes().to_vec()),
        ];
        let annotations = request
            .annotations
            .iter()
            .map(|(name, value)| (format!("annotation:{name}"), value.clone()));
        EncryptionContext::from_pairs(own.into_iter().chain(annotations))
            .map_err(|error| CallError::Invalid(format!("annotations: {error}")))
    }
}

fn activation_detail(activation: &Activation) -> Detail {
    detail([
        ("version", activation.version.to_string()),
        ("activation", activation.number.to_string()),
    ])
}
