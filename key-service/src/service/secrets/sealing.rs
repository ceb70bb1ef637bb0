//! Values under the key of their ring's secrets: a key of its own that no call can name, for use `secret` alone.

use std::sync::Arc;

use strongroom_core::{
    Algorithm, EncryptionContext, KeyHead, KeyId, KeyRole, KeyUse, NewKey, NextVersion, Permit,
    ProtectionLevel, Purpose, RingId, SecretId, SecretValue, VersionId, action,
};
use strongroom_crypto::message::Message;

use crate::{
    keyring::VersionRef,
    registry::{Change, OpeningAction, SealedError, SealingAction, StoredMaterial, StoredSecret},
    service::{CallError, Service},
};

/// The name of the key in its record. It is in no list.
const KEY_NAME: &str = "secrets";

/// The key of a ring's secrets with the material that seals now.
pub(super) struct SealingKey {
    head: KeyHead,
    material: StoredMaterial,
}

impl Service {
    /// The key of the permit's ring.
    pub(super) fn secrets_key<A: SealingAction>(
        &self,
        permit: &Permit<A>,
    ) -> Result<SealingKey, CallError> {
        let stored = self.registry.secrets_key(permit);
        let head = &stored
            .ok_or_else(|| CallError::missing("key of the ring's secrets"))?
            .head;
        let material = self
            .registry
            .secrets_material(permit, head.primary().version);
        Ok(SealingKey {
            head: head.clone(),
            material: material.ok_or_else(|| CallError::missing("material of that key"))?,
        })
    }

    /// The key of the permit's ring, with the change that makes it when the ring has none.
    pub(super) async fn secrets_key_for(
        &self,
        permit: &Permit<action::CreateSecret>,
    ) -> Result<(SealingKey, Change), CallError> {
        if self.registry.secrets_key(permit).is_some() {
            return Ok((self.secrets_key(permit)?, Change::default()));
        }
        let ring = permit.resource().ring();
        let ring = ring.ok_or_else(|| CallError::missing("ring of the secret"))?;
        let kek = self.registry.current_kek(permit);
        let kek = kek.ok_or_else(|| CallError::missing("KEK of the ring"))?;
        let now = self.time.now();
        let head = KeyHead::new(NewKey {
            id: KeyId::from_bytes(strongroom_crypto::random::public_bytes()),
            ring,
            name: KEY_NAME.parse().expect("a DNS label"),
            purpose: Purpose::EncryptDecrypt,
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            role: KeyRole::Secrets,
            epoch: self.registry.position().epoch,
            now,
        });
        let wrapped = self
            .keyring
            .create_material(&head, head.primary().version, &kek, now)
            .await?;
        let change = Change::default().secrets_key(&head, &wrapped);
        let material = StoredMaterial {
            wrapped: Arc::new(wrapped),
            kek,
        };
        Ok((SealingKey { head, material }, change))
    }

    /// Seals the value of a new version.
    pub(super) async fn seal_value(
        &self,
        key: &SealingKey,
        next: &NextVersion,
        value: &SecretValue,
    ) -> Result<Vec<u8>, CallError> {
        let reference = VersionRef {
            head: &key.head,
            version: key.head.primary().version,
            stored: &key.material,
        };
        let context = self.bound(next.head.ring, next.head.id, next.version);
        let sealed = self
            .keyring
            .seal(
                reference,
                KeyUse::Secret,
                &context,
                value.to_plaintext().expose(),
            )
            .await?;
        Ok(sealed)
    }

    /// Opens the value of a version of the secret that the permit is for.
    pub(in crate::service) async fn open_value<A: OpeningAction>(
        &self,
        permit: &Permit<A>,
        stored: &StoredSecret,
        version: VersionId,
    ) -> Result<SecretValue, CallError> {
        let sealed = self.registry.sealed_value(permit, version).await?;
        let sealed = sealed.ok_or_else(|| self.not_kept(permit, version))?;
        let message = Message::parse(&sealed).map_err(|_| damaged())?;
        let key = self.registry.secrets_key(permit);
        let key = key.filter(|key| key.head.id == message.place().key_id);
        let key = key.ok_or_else(damaged)?;
        let material = self
            .registry
            .secrets_material(permit, message.place().version)
            .ok_or_else(|| CallError::missing("material of the version"))?;
        let reference = VersionRef {
            head: &key.head,
            version: message.place().version,
            stored: &material,
        };
        let context = self.bound(stored.head.ring, stored.head.id, version);
        let opened = self
            .keyring
            .open(reference, KeyUse::Secret, &context, &message)
            .await;
        let plaintext = opened.map_err(|error| match CallError::from(error) {
            // The service sealed it itself: nobody else's ciphertext is here.
            CallError::DoesNotOpen => damaged(),
            other => other,
        })?;
        SecretValue::from_plaintext(plaintext.expose())
            .map_err(|error| CallError::Damaged(error.into()))
    }

    /// A version goes when a second one follows, which can have happened just now.
    fn not_kept<A: OpeningAction>(&self, permit: &Permit<A>, version: VersionId) -> CallError {
        let now = self.registry.secret(permit);
        if now.is_some_and(|now| now.head.version(version).is_some()) {
            return CallError::missing("value of a version that has a stage");
        }
        CallError::Unavailable {
            what: "the version that was current a moment ago",
            source: "it was replaced while it was read".into(),
        }
    }

    /// Where a value belongs: it opens nowhere else.
    fn bound(&self, ring: RingId, secret: SecretId, version: VersionId) -> EncryptionContext {
        EncryptionContext::from_pairs([
            ("instance", self.registry.instance().id.to_string()),
            ("ring", ring.to_string()),
            ("secret", secret.to_string()),
            ("version", version.to_string()),
        ])
        .expect("four short pairs")
    }
}

fn damaged() -> CallError {
    CallError::Damaged("a stored value does not open: it was changed or belongs elsewhere".into())
}

impl From<SealedError> for CallError {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Store(_) => Self::Unavailable {
                what: "the store",
                source: Box::new(error),
            },
            SealedError::Malformed => Self::Damaged(Box::new(error)),
        }
    }
}
