//! Rings, keys and the life of their versions.

use std::{fmt, sync::Arc, time::Duration};

use strongroom_core::{
    Access, AccessBinding, Algorithm, ContextDigest, Generation, KeyHead, KeyId, KeyRole, Name,
    NewKey, Permit, ProtectionLevel, Purpose, Resource, RingId, RingKind, RotationSchedule, Uid,
    VersionId, VersionState, action,
};
use strongroom_runtime::fault;

use super::{CallContext, CallError, Detail, Service, detail, grants, when};
use crate::registry::{Change, KeyAction, KeyLocator, Ring, RingOwner, StoredHead};

/// A ring to be made.
#[derive(Clone, Debug)]
pub struct NewRingRequest {
    /// Unique among the rings of its owner.
    pub name: Name,
    /// Whose it is; none for the installation itself.
    pub owner: Option<RingOwner>,
    /// Who has a role on everything in it.
    pub access: Vec<AccessBinding>,
    /// The custom resource that holds it.
    pub holder: Option<Uid>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKeyRequest {
    /// In which ring.
    pub ring: RingId,
    /// Unique in the ring.
    pub name: Name,
    /// What for.
    pub purpose: Purpose,
    /// How.
    pub algorithm: Algorithm,
    /// Who may use it, beside whom the configuration names.
    pub access: Vec<AccessBinding>,
    /// The custom resource that holds it.
    pub holder: Option<Uid>,
    /// When new versions are made; none: by request only.
    pub rotation: Option<RotationSchedule>,
}

/// A change of one version.
#[derive(Clone, Debug)]
pub struct VersionChange {
    /// The ring.
    pub ring: RingId,
    /// The key.
    pub key: KeyLocator,
    /// The version.
    pub version: VersionId,
    /// The head's `seq` that the caller read, if he wants it compared.
    pub etag: Option<u64>,
}

const NO_CONTEXT: ContextDigest = ContextDigest([0; 32]);

impl Service {
    /// Makes a ring with a new KEK.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn create_ring(
        &self,
        context: &CallContext,
        request: NewRingRequest,
    ) -> Result<Arc<Ring>, CallError> {
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::CreateKeyRing>(context, &resource, Some(resource.clone()), NO_CONTEXT)
            .await?;
        let outcome = self.create_ring_with(&permit, context, request).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn create_ring_with(
        &self,
        permit: &Permit<action::CreateKeyRing>,
        context: &CallContext,
        request: NewRingRequest,
    ) -> Result<Arc<Ring>, CallError> {
        let NewRingRequest {
            name,
            owner,
            access,
            holder,
        } = request;
        let cluster = owner.as_ref().map(|owner| &owner.tenant.cluster);
        if let Some(unknown) = cluster.filter(|name| !self.workloads.clusters.contains(*name)) {
            return Err(CallError::Invalid(format!(
                "owner.cluster: no cluster {unknown} is registered; add it under `clusters` in the configuration"
            )));
        }
        let tenant = owner.as_ref().map(|owner| owner.tenant.clone());
        let access = Access::new(tenant, access);
        let access = access.map_err(|error| CallError::Invalid(format!("access: {error}")))?;
        let ring = Ring {
            access: Arc::new(access),
            holder,
            id: RingId::from_bytes(strongroom_crypto::random::public_bytes()),
            name,
            owner,
            created: self.time.now(),
            kek_generation: Generation::FIRST,
            kind: RingKind::Application,
        };
        let instance = self.registry.instance().id;
        let kek = self
            .keyring
            .create_kek(instance, ring.id, ring.kek_generation)
            .await?;
        let mut detail = detail([
            ("ring", ring.id.to_string()),
            ("name", ring.name.to_string()),
        ]);
        if let Some(owner) = &ring.owner {
            detail.insert("owner".to_owned(), owner.to_string());
            detail.insert("access".to_owned(), grants(&ring.access));
        }
        self.registry
            .commit(
                permit,
                Change::default().ring(&ring, &kek),
                &context.origin,
                detail,
            )
            .await?;
        Ok(Arc::new(ring))
    }

    /// Lists rings after `after`.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn list_rings(
        &self,
        context: &CallContext,
        after: Option<RingId>,
        limit: usize,
    ) -> Result<Vec<Arc<Ring>>, CallError> {
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::ListKeyRings>(context, &resource, Some(resource.clone()), NO_CONTEXT)
            .await?;
        let rings = self.registry.rings(&permit, after, limit);
        self.conclude(context, &permit, Ok((rings, Detail::new())))
            .await
    }

    /// Makes a key with its first version.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn create_key(
        &self,
        context: &CallContext,
        request: NewKeyRequest,
    ) -> Result<Arc<StoredHead>, CallError> {
        let ring = self.registry.find_ring(request.ring).map(Resource::Ring);
        let asked = format!("ring/{}", request.ring);
        let permit = self
            .admit::<action::CreateKey>(context, &asked, ring, NO_CONTEXT)
            .await?;
        let outcome = self.create_key_with(&permit, context, request).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn create_key_with(
        &self,
        permit: &Permit<action::CreateKey>,
        context: &CallContext,
        request: NewKeyRequest,
    ) -> Result<Arc<StoredHead>, CallError> {
        let now = self.time.now();
        let ring = self.registry.ring(permit);
        let ring = ring.ok_or_else(|| CallError::missing("ring of the key"))?;
        let access = Access::new(ring.tenant().cloned(), request.access);
        let access = access.map_err(|error| CallError::Invalid(format!("access: {error}")))?;
        let head = KeyHead::new(NewKey {
            id: KeyId::from_bytes(strongroom_crypto::random::public_bytes()),
            ring: request.ring,
            name: request.name,
            purpose: request.purpose,
            algorithm: request.algorithm,
            protection: ProtectionLevel::HsmWrapped,
            role: KeyRole::Api,
            epoch: self.registry.position().epoch,
            now,
        });
        let head = KeyHead {
            access: Arc::new(access),
            holder: request.holder,
            rotation: request.rotation,
            ..head
        };
        let kek = self
            .registry
            .current_kek(permit)
            .ok_or_else(|| CallError::missing("KEK of the ring"))?;
        let material = self
            .keyring
            .create_material(&head, head.primary().version, &kek, now)
            .await?;
        let detail = detail([
            ("key", head.id.to_string()),
            ("name", head.name.to_string()),
            ("access", grants(&head.access)),
            ("rotation", when(head.rotation.as_ref())),
        ]);
        let change = Change::default().key(&head, &material);
        let committed = self
            .registry
            .commit(permit, change, &context.origin, detail)
            .await?;
        Ok(Arc::new(StoredHead {
            head,
            seq: committed.position.seq,
        }))
    }

    /// Lists keys of a ring after `after`.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn list_keys(
        &self,
        context: &CallContext,
        ring: RingId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<Arc<StoredHead>>, CallError> {
        let resource = self.registry.find_ring(ring).map(Resource::Ring);
        let permit = self
            .admit::<action::ListKeys>(context, &format!("ring/{ring}"), resource, NO_CONTEXT)
            .await?;
        let heads = self.registry.heads(&permit, after, limit);
        self.conclude(context, &permit, Ok((heads, Detail::new())))
            .await
    }

    /// Reads the head of a key.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn describe_key(
        &self,
        context: &CallContext,
        ring: RingId,
        key: &KeyLocator,
    ) -> Result<Arc<StoredHead>, CallError> {
        let permit = self
            .admit_key::<action::DescribeKey>(context, ring, key)
            .await?;
        let head = self.stored(&permit);
        self.conclude(context, &permit, head.map(|head| (head, Detail::new())))
            .await
    }

    /// Makes a new version, primary from now on.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn rotate_key(
        &self,
        context: &CallContext,
        ring: RingId,
        key: &KeyLocator,
        etag: Option<u64>,
    ) -> Result<Arc<StoredHead>, CallError> {
        let permit = self
            .admit_key::<action::RotateKey>(context, ring, key)
            .await?;
        let outcome = self.rotate_with(&permit, context, etag).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn rotate_with(
        &self,
        permit: &Permit<action::RotateKey>,
        context: &CallContext,
        etag: Option<u64>,
    ) -> Result<Arc<StoredHead>, CallError> {
        let stored = self.stored_as(permit, etag)?;
        let now = self.time.now();
        let next = stored.head.rotated(self.registry.position().epoch, now)?;
        self.commit_rotation(permit, context, &stored, next, Detail::new())
            .await
    }

    /// Makes the material of a head's new primary version and commits both; `told` is what the audit log says beside the
    /// version.
    pub(super) async fn commit_rotation(
        &self,
        permit: &Permit<action::RotateKey>,
        context: &CallContext,
        before: &StoredHead,
        next: KeyHead,
        mut told: Detail,
    ) -> Result<Arc<StoredHead>, CallError> {
        fault::point!("key-service.rotate.decided");
        let version = next.primary().version;
        let made = next.version(version).map(|version| version.created);
        let made = made.ok_or_else(|| CallError::missing("version that the key names"))?;
        let kek = self
            .registry
            .current_kek(permit)
            .ok_or_else(|| CallError::missing("KEK of the ring"))?;
        let material = self
            .keyring
            .create_material(&next, version, &kek, made)
            .await?;
        let change = Change::default()
            .head(&next, before.seq)
            .material(next.id, version, &material);
        told.insert("version".to_owned(), version.to_string());
        let committed = self
            .registry
            .commit(permit, change, &context.origin, told)
            .await?;
        fault::point!("key-service.rotate.made");
        Ok(Arc::new(StoredHead {
            head: next,
            seq: committed.position.seq,
        }))
    }

    /// Makes an existing version primary.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn set_primary_version(
        &self,
        context: &CallContext,
        change: &VersionChange,
    ) -> Result<Arc<StoredHead>, CallError> {
        let epoch = self.registry.position().epoch;
        let step = |head: &KeyHead| Ok(head.with_primary(change.version, epoch)?);
        self.change_version::<action::SetPrimaryVersion>(context, change, step)
            .await
    }

    /// Lets a version be used again.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn enable_version(
        &self,
        context: &CallContext,
        change: &VersionChange,
    ) -> Result<Arc<StoredHead>, CallError> {
        let step = |head: &KeyHead| Ok(head.enabled(change.version)?);
        self.change_version::<action::EnableVersion>(context, change, step)
            .await
    }

    /// Stops the use of a version.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn disable_version(
        &self,
        context: &CallContext,
        change: &VersionChange,
    ) -> Result<Arc<StoredHead>, CallError> {
        let step = |head: &KeyHead| Ok(head.disabled(change.version)?);
        self.change_version::<action::DisableVersion>(context, change, step)
            .await
    }

    /// Starts the waiting window of a destruction.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn schedule_destruction(
        &self,
        context: &CallContext,
        change: &VersionChange,
        window: Duration,
    ) -> Result<Arc<StoredHead>, CallError> {
        let step = |head: &KeyHead| {
            let now = self.time.settled().map_err(|_| CallError::ClockJumped)?;
            Ok(head.destruction_scheduled(change.version, window, now)?)
        };
        self.change_version::<action::ScheduleVersionDestruction>(context, change, step)
            .await
    }

    /// Ends the waiting window without destruction.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn cancel_destruction(
        &self,
        context: &CallContext,
        change: &VersionChange,
    ) -> Result<Arc<StoredHead>, CallError> {
        let step = |head: &KeyHead| Ok(head.destruction_cancelled(change.version)?);
        self.change_version::<action::CancelVersionDestruction>(context, change, step)
            .await
    }

    async fn change_version<A: KeyAction>(
        &self,
        context: &CallContext,
        change: &VersionChange,
        step: impl Fn(&KeyHead) -> Result<KeyHead, CallError> + Send + Sync,
    ) -> Result<Arc<StoredHead>, CallError> {
        let permit = self
            .admit_key::<A>(context, change.ring, &change.key)
            .await?;
        let outcome = self.step_with(&permit, context, change, step).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn step_with<A: KeyAction>(
        &self,
        permit: &Permit<A>,
        context: &CallContext,
        change: &VersionChange,
        step: impl Fn(&KeyHead) -> Result<KeyHead, CallError> + Send + Sync,
    ) -> Result<Arc<StoredHead>, CallError> {
        let stored = self.stored_as(permit, change.etag)?;
        let next = step(&stored.head)?;
        if next == stored.head {
            return Ok(stored);
        }
        let detail = detail([("version", change.version.to_string())]);
        let record = Change::default().head(&next, stored.seq);
        let committed = self
            .registry
            .commit(permit, record, &context.origin, detail)
            .await?;
        if next
            .version(change.version)
            .is_some_and(|version| version.state != VersionState::Enabled)
        {
            self.keyring.forget(&next, change.version);
        }
        Ok(Arc::new(StoredHead {
            head: next,
            seq: committed.position.seq,
        }))
    }

    pub(super) async fn admit_key<A: KeyAction>(
        &self,
        context: &CallContext,
        ring: RingId,
        key: &KeyLocator,
    ) -> Result<Permit<A>, CallError> {
        let resource = self.registry.find_key(ring, key);
        let asked = Asked {
            ring,
            key: Some(key),
        };
        self.admit::<A>(context, &asked, resource, NO_CONTEXT).await
    }

    pub(super) fn stored<A: KeyAction>(
        &self,
        permit: &Permit<A>,
    ) -> Result<Arc<StoredHead>, CallError> {
        self.registry
            .head(permit)
            .ok_or_else(|| CallError::missing("head of the key"))
    }

    fn stored_as<A: KeyAction>(
        &self,
        permit: &Permit<A>,
        etag: Option<u64>,
    ) -> Result<Arc<StoredHead>, CallError> {
        let stored = self.stored(permit)?;
        match etag {
            Some(etag) if etag != stored.seq => Err(CallError::Stale),
            _ => Ok(stored),
        }
    }
}

/// What the audit log shows of a key that was asked for, found or not. Written out for refusals only.
pub(super) struct Asked<'a> {
    pub(super) ring: RingId,
    /// `None` when the request names no key that could be read.
    pub(super) key: Option<&'a KeyLocator>,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring, key } = self;
        match key {
            Some(KeyLocator::Id(key)) => write!(f, "key/{ring}/{key}"),
            Some(KeyLocator::Name(name)) => write!(f, "key/{ring}/name:{name}"),
            None => write!(f, "ring/{ring}"),
        }
    }
}
