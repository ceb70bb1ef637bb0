//! Secrets and the life of their versions. Administrators put values in; only `RevealSecret` gives one to a person.

mod reveal;
mod sealing;

use std::{fmt, sync::Arc};

pub use reveal::{InvalidReason, Reason, RevealRequest, Revealed};
use strongroom_core::{
    Access, AccessBinding, Action, ContextDigest, HandledRequests, Name, NextVersion, Permit,
    Resource, RingId, RotationSchedule, SecretHead, SecretId, SecretSource, SecretStepError,
    SecretValue, Tenant, Uid, VersionId, action,
};
use strongroom_crypto::Subject;
use strongroom_runtime::fault;

use super::{CallContext, CallError, Detail, Service, detail, grants, when};
use crate::registry::{
    Change, SealingAction, SecretAction, SecretLocator, SecretName, StoredSecret,
};

/// A secret to be made.
#[derive(Clone, Debug)]
pub struct NewSecretRequest {
    /// In which ring.
    pub ring: RingId,
    /// Unique among the secrets of the ring's owner.
    pub name: Name,
    /// Where its values come from.
    pub source: SecretSource,
    /// Who may read it.
    pub access: Vec<AccessBinding>,
    /// The custom resource that holds it.
    pub holder: Option<Uid>,
    /// When new versions are made; none: by request only.
    pub rotation: Option<RotationSchedule>,
}

/// Which secret is to be changed.
#[derive(Clone, Debug)]
pub struct SecretChange {
    /// The secret.
    pub secret: SecretLocator,
    /// The head's `seq` that the caller read, if he wants it compared.
    pub etag: Option<u64>,
}

const NO_CONTEXT: ContextDigest = ContextDigest([0; 32]);

impl Service {
    /// Makes a secret; a generated one with its first version, and with the first of a ring the key that seals them.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn create_secret(
        &self,
        context: &CallContext,
        request: NewSecretRequest,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let ring = self.registry.find_ring(request.ring).map(Resource::Ring);
        let asked = format!("ring/{}", request.ring);
        let permit = self
            .admit::<action::CreateSecret>(context, &asked, ring, NO_CONTEXT)
            .await?;
        let mut outcome = self
            .create_secret_with(&permit, context, request.clone())
            .await;
        if let Err(CallError::Stale) = outcome {
            // Another first secret of this ring has made the key meanwhile.
            outcome = self.create_secret_with(&permit, context, request).await;
        }
        self.conclude_change(context, &permit, outcome).await
    }

    async fn create_secret_with(
        &self,
        permit: &Permit<action::CreateSecret>,
        context: &CallContext,
        request: NewSecretRequest,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let head = SecretHead {
            id: SecretId::from_bytes(strongroom_crypto::random::public_bytes()),
            ring: request.ring,
            name: request.name,
            source: request.source,
            created: self.time.now(),
            versions: Vec::new(),
            access: self.access(permit, request.access)?,
            holder: request.holder,
            rotation: None,
            requests: HandledRequests::default(),
        };
        let head = head.with_rotation(request.rotation)?;
        let mut detail = detail([
            ("secret", head.id.to_string()),
            ("name", head.name.to_string()),
            ("access", grants(&head.access)),
            ("rotation", when(head.rotation.as_ref())),
        ]);
        let (key, mut change) = self.secrets_key_for(permit).await?;
        let head = match &head.source {
            SecretSource::Manual(_) => head,
            SecretSource::Generate(fields) => {
                let value = SecretValue::generate(fields, strongroom_crypto::random::fill);
                let next = head.rotated(self.registry.position().epoch, head.created)?;
                let sealed = self.seal_value(&key, &next, &value).await?;
                change = change.sealed_value(&next, sealed);
                detail.insert("version".to_owned(), next.version.to_string());
                next.head
            }
        };
        let change = change.secret(&head);
        let committed = self
            .registry
            .commit(permit, change, &context.origin, detail)
            .await?;
        Ok(stored(head, committed.position.seq))
    }

    /// Lists the secrets of a ring after `after`.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn list_secrets(
        &self,
        context: &CallContext,
        ring: RingId,
        after: Option<SecretId>,
        limit: usize,
    ) -> Result<Vec<Arc<StoredSecret>>, CallError> {
        let resource = self.registry.find_ring(ring).map(Resource::Ring);
        let permit = self
            .admit::<action::ListSecrets>(context, &format!("ring/{ring}"), resource, NO_CONTEXT)
            .await?;
        let secrets = self.registry.secrets(&permit, after, limit);
        self.conclude(context, &permit, Ok((secrets, Detail::new())))
            .await
    }

    /// Reads the head of a secret.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn describe_secret(
        &self,
        context: &CallContext,
        secret: &SecretLocator,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let permit = self
            .admit_secret::<action::DescribeSecret>(context, secret)
            .await?;
        let head = self.stored_secret(&permit, None);
        self.conclude(context, &permit, head.map(|head| (head, Detail::new())))
            .await
    }

    /// Makes the next version of a manual secret, current from now on.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn set_secret_value(
        &self,
        context: &CallContext,
        change: &SecretChange,
        value: &SecretValue,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let permit = self
            .admit_secret::<action::SetSecretValue>(context, &change.secret)
            .await?;
        let outcome = async {
            let stored = self.stored_secret(&permit, change.etag)?;
            let (epoch, now) = (self.registry.position().epoch, self.time.now());
            let next = stored.head.set(value, epoch, now)?;
            self.commit_version(&permit, context, &stored, next, value, Detail::new())
                .await
        };
        let outcome = outcome.await;
        self.conclude_change(context, &permit, outcome).await
    }

    /// Makes the next version of a generated secret, current from now on.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn rotate_secret(
        &self,
        context: &CallContext,
        change: &SecretChange,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let permit = self
            .admit_secret::<action::RotateSecret>(context, &change.secret)
            .await?;
        let outcome = self.rotate_secret_with(&permit, context, change.etag).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn rotate_secret_with(
        &self,
        permit: &Permit<action::RotateSecret>,
        context: &CallContext,
        etag: Option<u64>,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let stored = self.stored_secret(permit, etag)?;
        let (epoch, now) = (self.registry.position().epoch, self.time.now());
        let next = stored.head.rotated(epoch, now)?;
        self.commit_generated(permit, context, &stored, next, Detail::new())
            .await
    }

    /// Makes the values of a new version of a generated secret and commits it; `told` is what the audit log says beside name
    /// and version.
    pub(super) async fn commit_generated(
        &self,
        permit: &Permit<action::RotateSecret>,
        context: &CallContext,
        before: &StoredSecret,
        next: NextVersion,
        told: Detail,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let SecretSource::Generate(fields) = &next.head.source else {
            return Err(CallError::SecretState(SecretStepError::Manual));
        };
        fault::point!("key-service.rotate.decided");
        let value = SecretValue::generate(fields, strongroom_crypto::random::fill);
        let made = self
            .commit_version(permit, context, before, next, &value, told)
            .await?;
        fault::point!("key-service.rotate.made");
        Ok(made)
    }

    async fn commit_version<A: SecretAction + SealingAction>(
        &self,
        permit: &Permit<A>,
        context: &CallContext,
        before: &StoredSecret,
        next: NextVersion,
        value: &SecretValue,
        mut told: Detail,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let key = self.secrets_key(permit)?;
        let sealed = self.seal_value(&key, &next, value).await?;
        told.insert("name".to_owned(), next.head.name.to_string());
        told.insert("version".to_owned(), next.version.to_string());
        let change = Change::default()
            .secret_head(&next.head, before.seq)
            .sealed_value(&next, sealed);
        let committed = self
            .registry
            .commit(permit, change, &context.origin, told)
            .await?;
        Ok(stored(next.head, committed.position.seq))
    }

    /// Replaces who may read a secret.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn set_secret_access(
        &self,
        context: &CallContext,
        change: &SecretChange,
        access: Vec<AccessBinding>,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let permit = self
            .admit_secret::<action::SetSecretAccess>(context, &change.secret)
            .await?;
        let outcome = self
            .set_access_with(&permit, context, change.etag, access)
            .await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn set_access_with(
        &self,
        permit: &Permit<action::SetSecretAccess>,
        context: &CallContext,
        etag: Option<u64>,
        access: Vec<AccessBinding>,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let before = self.stored_secret(permit, etag)?;
        let head = before.head.with_access(self.access(permit, access)?);
        if head == before.head {
            return Ok(before);
        }
        let detail = detail([
            ("name", head.name.to_string()),
            ("access", grants(&head.access)),
        ]);
        let change = Change::default().secret_head(&head, before.seq);
        let committed = self
            .registry
            .commit(permit, change, &context.origin, detail)
            .await?;
        Ok(stored(head, committed.position.seq))
    }

    /// Tells versions apart and nothing else: what a version holds is not in it.
    pub(crate) fn fingerprint(&self, head: &SecretHead, version: VersionId) -> String {
        let version = format!("{}/{version}", head.id);
        let digest = self
            .digests
            .digest(Subject::SecretVersion, version.as_bytes());
        hex::encode(&digest[..8])
    }

    /// A namespace as callers name it; the cluster may be left out where one is registered.
    ///
    /// # Errors
    /// When it is not said which cluster is meant.
    pub fn tenant(&self, cluster: Option<Name>, namespace: Name) -> Result<Tenant, CallError> {
        let mut registered = self.workloads.clusters.iter();
        let cluster = match (cluster, registered.next(), registered.next()) {
            (Some(cluster), ..) => cluster,
            (None, Some(only), None) => only.clone(),
            (None, ..) => {
                let sentence =
                    "tenant.cluster: is required, since not exactly one cluster is registered";
                return Err(CallError::Invalid(sentence.to_owned()));
            }
        };
        Ok(Tenant { cluster, namespace })
    }

    async fn admit_secret<A: SecretAction>(
        &self,
        context: &CallContext,
        secret: &SecretLocator,
    ) -> Result<Permit<A>, CallError> {
        let resource = self.registry.find_secret(secret);
        let asked = AskedSecret(secret);
        self.admit::<A>(context, &asked, resource, NO_CONTEXT).await
    }

    pub(super) fn stored_secret<A: SecretAction>(
        &self,
        permit: &Permit<A>,
        etag: Option<u64>,
    ) -> Result<Arc<StoredSecret>, CallError> {
        let stored = self.registry.secret(permit);
        let stored = stored.ok_or_else(|| CallError::missing("head of the secret"))?;
        match etag {
            Some(etag) if etag != stored.seq => Err(CallError::Stale),
            _ => Ok(stored),
        }
    }

    /// Bindings on accounts of the namespace that owns the ring of the permit.
    fn access<A: Action>(
        &self,
        permit: &Permit<A>,
        bindings: Vec<AccessBinding>,
    ) -> Result<Arc<Access>, CallError> {
        let ring = self.registry.ring(permit);
        let ring = ring.ok_or_else(|| CallError::missing("ring of the secret"))?;
        Access::new(ring.tenant().cloned(), bindings)
            .map(Arc::new)
            .map_err(|error| CallError::Invalid(error.to_string()))
    }
}

fn stored(head: SecretHead, seq: u64) -> Arc<StoredSecret> {
    Arc::new(StoredSecret { head, seq })
}

/// What the audit log shows of a secret that was asked for, found or not.
struct AskedSecret<'a>(&'a SecretLocator);

impl fmt::Display for AskedSecret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SecretLocator::Id(ring, secret) => write!(f, "secret/{ring}/{secret}"),
            SecretLocator::Name(ring, name) => write!(f, "secret/{ring}/name:{name}"),
            SecretLocator::Owned(SecretName { tenant, name }) => match tenant {
                Some(tenant) => write!(f, "secret/owner:{tenant}/name:{name}"),
                None => write!(f, "secret/owner:-/name:{name}"),
            },
        }
    }
}
