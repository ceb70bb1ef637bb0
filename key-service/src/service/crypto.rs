//! Use of keys of applications.

use strongroom_core::{
    ContextDigest, EncryptionContext, KeyHead, KeyId, KeyUse, Permit, RingId, SecretBytes,
    VersionId, VersionState, action,
};
use strongroom_crypto::message::Message;

use super::{CallContext, CallError, Detail, Service, detail, keys::Asked};
use crate::{
    keyring::VersionRef,
    registry::{KeyAction, KeyLocator, StoredMaterial},
};

/// Most bytes that one call seals.
pub const PLAINTEXT_MAX: usize = 64 * 1024;

/// Something to be sealed.
pub struct EncryptRequest<'a> {
    /// The ring.
    pub ring: RingId,
    /// The key.
    pub key: KeyLocator,
    /// 1 to `PLAINTEXT_MAX` bytes.
    pub plaintext: &'a [u8],
    /// Bound as associated data.
    pub context: EncryptionContext,
}

/// What was sealed.
pub struct Encrypted {
    /// Names key and version by itself.
    pub ciphertext: Vec<u8>,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: VersionId,
}

/// Something to be opened.
pub struct DecryptRequest<'a> {
    /// The ring.
    pub ring: RingId,
    /// What `encrypt` gave.
    pub ciphertext: &'a [u8],
    /// The same as at encryption.
    pub context: EncryptionContext,
}

/// What was opened.
pub struct Decrypted {
    /// The plaintext.
    pub plaintext: SecretBytes,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: VersionId,
    /// Whether the version is primary still.
    pub used_primary: bool,
}

impl Service {
    /// Seals under the primary version of a key.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn encrypt(
        &self,
        context: &CallContext,
        request: EncryptRequest<'_>,
    ) -> Result<Encrypted, CallError> {
        let resource = self.registry.find_key(request.ring, &request.key);
        let digest = ContextDigest(self.digests.context(&request.context));
        let asked = Asked {
            ring: request.ring,
            key: Some(&request.key),
        };
        let permit = self
            .admit::<action::Encrypt>(context, &asked, resource, digest)
            .await?;
        let outcome = self.encrypt_with(&permit, &request).await;
        self.conclude(context, &permit, outcome).await
    }

    async fn encrypt_with(
        &self,
        permit: &Permit<action::Encrypt>,
        request: &EncryptRequest<'_>,
    ) -> Result<(Encrypted, Detail), CallError> {
        if request.plaintext.is_empty() || request.plaintext.len() > PLAINTEXT_MAX {
            return Err(CallError::Invalid(format!(
                "plaintext has 1 to {PLAINTEXT_MAX} bytes"
            )));
        }
        let stored = self.stored(permit)?;
        let version = stored.head.primary().version;
        let material = self.usable(permit, &stored.head, version)?;
        let reference = VersionRef {
            head: &stored.head,
            version,
            stored: &material,
        };
        let ciphertext = self
            .keyring
            .seal(reference, KeyUse::Api, &request.context, request.plaintext)
            .await?;
        let detail = use_detail(version, permit.context());
        Ok((
            Encrypted {
                ciphertext,
                key: stored.head.id,
                version,
            },
            detail,
        ))
    }

    /// Opens what `encrypt` gave. Whatever is wrong, the caller learns only that it does not open.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn decrypt(
        &self,
        context: &CallContext,
        request: DecryptRequest<'_>,
    ) -> Result<Decrypted, CallError> {
        let outcome = self.decrypt_admitted(context, &request).await;
        outcome.map_err(|error| match error {
            CallError::NotFound => CallError::DoesNotOpen,
            other => other,
        })
    }

    async fn decrypt_admitted(
        &self,
        context: &CallContext,
        request: &DecryptRequest<'_>,
    ) -> Result<Decrypted, CallError> {
        let message = Message::parse(request.ciphertext).ok();
        let locator = message
            .as_ref()
            .map(|message| KeyLocator::Id(message.place().key_id));
        let resource = locator
            .as_ref()
            .and_then(|locator| self.registry.find_key(request.ring, locator));
        let asked = Asked {
            ring: request.ring,
            key: locator.as_ref(),
        };
        let digest = ContextDigest(self.digests.context(&request.context));
        let permit = self
            .admit::<action::Decrypt>(context, &asked, resource, digest)
            .await?;
        let outcome = match &message {
            Some(message) => self.decrypt_with(&permit, message, &request.context).await,
            None => Err(CallError::DoesNotOpen),
        };
        self.conclude(context, &permit, outcome).await
    }

    async fn decrypt_with(
        &self,
        permit: &Permit<action::Decrypt>,
        message: &Message<'_>,
        context: &EncryptionContext,
    ) -> Result<(Decrypted, Detail), CallError> {
        let stored = self.stored(permit)?;
        let version = message.place().version;
        if stored.head.version(version).is_none() {
            return Err(CallError::DoesNotOpen);
        }
        let material = self.usable(permit, &stored.head, version)?;
        let reference = VersionRef {
            head: &stored.head,
            version,
            stored: &material,
        };
        let plaintext = self
            .keyring
            .open(reference, KeyUse::Api, context, message)
            .await?;
        let used_primary = stored.head.primary().version == version;
        let detail = use_detail(version, permit.context());
        Ok((
            Decrypted {
                plaintext,
                key: stored.head.id,
                version,
                used_primary,
            },
            detail,
        ))
    }

    /// The material of a version that may be used now.
    pub(super) fn usable<A: KeyAction>(
        &self,
        permit: &Permit<A>,
        head: &KeyHead,
        version: VersionId,
    ) -> Result<StoredMaterial, CallError> {
        let state = head.version(version).map(|version| version.state);
        match state {
            Some(VersionState::Enabled) => {}
            Some(VersionState::Disabled) => {
                return Err(CallError::NotUsable {
                    version,
                    state: "disabled",
                });
            }
            Some(VersionState::DestroyScheduled { .. }) => {
                return Err(CallError::NotUsable {
                    version,
                    state: "scheduled for destruction",
                });
            }
            None => return Err(CallError::missing("version that the key names")),
        }
        self.registry
            .material(permit, version)
            .ok_or_else(|| CallError::missing("material of the version"))
    }
}

fn use_detail(version: VersionId, context: ContextDigest) -> Detail {
    detail([
        ("version", version.to_string()),
        ("context", context.to_string()),
    ])
}
