//! Keys.

use std::collections::BTreeSet;

use kube::ResourceExt;
use strongroom_api::strongroom::v1::{
    ApplyKeyRequest, Fence, KeyAlgorithm, KeyPurpose, KeyState, ObjectKind, RequestRotationRequest,
    request_rotation_request::Target,
};

use super::{Managed, Told, count, is_new, notices, object_ref, status, subjects};
use crate::{
    cluster::{Caches, Notice, Store},
    crds::{Algorithm, CryptoKey, CryptoKeyStatus, Purpose},
    object::Kind,
    plan::{Access, Blocked, Facts, Reason, Verdict, bound, ring, rotation, time},
    service::{Failure, Service},
};

status!(CryptoKeyStatus);

/// What a key wants.
pub struct KeyWish {
    request: ApplyKeyRequest,
    access: Access,
    /// A rotation that was asked for and not handled.
    rotation: Option<RequestRotationRequest>,
}

impl Managed for CryptoKey {
    const KIND: Kind = Kind::CryptoKey;
    const HELD: Option<ObjectKind> = Some(ObjectKind::CryptoKey);
    type Status = CryptoKeyStatus;
    type Wish = KeyWish;
    type State = KeyState;

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.crypto_keys
    }

    fn status(&self) -> CryptoKeyStatus {
        self.status.clone().unwrap_or_default()
    }

    fn subjects(&self) -> BTreeSet<&str> {
        subjects(&self.spec.access)
    }

    fn wish(&self, facts: &Facts) -> Result<KeyWish, Blocked> {
        let before = self.status();
        let object = object_ref(self, facts)?;
        let named = self.spec.key_ring_ref.as_ref();
        let ring = ring(
            &object.namespace,
            named,
            before.key_ring.as_deref(),
            &facts.rings,
        )?;
        let access = Access::plan(&object.namespace, &self.spec.access, facts);
        let schedule = self.spec.rotation.as_ref();
        let period = schedule.and_then(|schedule| schedule.period.as_deref());
        let window = schedule.and_then(|schedule| schedule.window.as_ref());
        let asked = schedule.and_then(|schedule| schedule.request_id.as_ref());
        let asked = asked.filter(|id| before.handled_request_id.as_ref() != Some(id));
        Ok(KeyWish {
            rotation: asked.map(|id| RequestRotationRequest {
                fence: None,
                namespace: object.namespace.clone(),
                namespace_uid: object.namespace_uid.clone(),
                target: Some(Target::Key(object.name.clone())),
                ring: ring.clone(),
                request_id: id.clone(),
                reason: String::new(),
            }),
            request: ApplyKeyRequest {
                fence: None,
                object: Some(object),
                ring,
                purpose: match self.spec.purpose {
                    Purpose::EncryptDecrypt => KeyPurpose::EncryptDecrypt,
                }
                .into(),
                algorithm: match self.spec.algorithm {
                    Algorithm::AES256GCM => KeyAlgorithm::Aes256Gcm,
                }
                .into(),
                rotation: rotation(period, window)?,
                access: access.wire(),
                keep_access: access.keep,
            },
            access,
        })
    }

    async fn ask(service: &Service, fence: Fence, wish: &KeyWish) -> Result<KeyState, Failure> {
        let mut request = wish.request.clone();
        request.fence = Some(fence.clone());
        let state = service.apply_key(request.clone()).await?;
        let Some(mut rotation) = wish.rotation.clone() else {
            return Ok(state);
        };
        rotation.fence = Some(fence);
        service.request_rotation(rotation).await?;
        // How it is after the rotation, and what became of the object before it.
        let after = service.apply_key(request).await?;
        Ok(KeyState {
            outcome: state.outcome,
            rebound: state.rebound,
            ..after
        })
    }

    fn told(&self, wish: &KeyWish, state: &KeyState) -> Told<CryptoKeyStatus> {
        let before = self.status();
        let key = state.key.clone().unwrap_or_default();
        let mut notices = notices(
            state.outcome(),
            &format!("key {}", self.name_any()),
            &state.rebound,
        );
        let version = Some(key.primary_version).filter(|version| !version.is_empty());
        if before.primary_version.is_some() && before.primary_version != version {
            let note = format!("version {} is primary", version.as_deref().unwrap_or("-"));
            notices.push((Notice::Rotated, note));
        }
        let sentence = format!("version {} encrypts", version.as_deref().unwrap_or("-"));
        let asked = wish.rotation.as_ref().map(|asked| asked.request_id.clone());
        Told {
            status: CryptoKeyStatus {
                key_ring: Some(wish.request.ring.clone()),
                key_id: Some(key.id),
                primary_version: version,
                versions: count(key.versions.len()),
                next_rotation_time: time(state.next_rotation.as_ref()),
                handled_request_id: asked.or(before.handled_request_id),
                access: bound(&wish.access, &before.access),
                ..CryptoKeyStatus::default()
            },
            verdict: Verdict::ready(Reason::Applied, sentence).with_access(&wish.access.verdict),
            notices,
            is_new: is_new(state.outcome()),
        }
    }
}
