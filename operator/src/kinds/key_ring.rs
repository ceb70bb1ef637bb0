//! Rings.

use std::collections::BTreeSet;

use kube::ResourceExt;
use strongroom_api::strongroom::v1::{ApplyKeyRingRequest, Fence, KeyRingState, ObjectKind};

use super::{AS_WRITTEN, Managed, Told, is_new, notices, object_ref, status, subjects};
use crate::{
    cluster::{Caches, Store},
    crds::{KeyRing, KeyRingStatus},
    object::Kind,
    plan::{Access, Blocked, Facts, Reason, Verdict, bound},
    service::{Failure, Service},
};

status!(KeyRingStatus);

/// What a ring wants.
pub struct RingWish {
    request: ApplyKeyRingRequest,
    access: Access,
}

impl Managed for KeyRing {
    const KIND: Kind = Kind::KeyRing;
    const HELD: Option<ObjectKind> = Some(ObjectKind::KeyRing);
    type Status = KeyRingStatus;
    type Wish = RingWish;
    type State = KeyRingState;

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.key_rings
    }

    fn status(&self) -> KeyRingStatus {
        self.status.clone().unwrap_or_default()
    }

    fn subjects(&self) -> BTreeSet<&str> {
        subjects(&self.spec.access)
    }

    fn wish(&self, facts: &Facts) -> Result<RingWish, Blocked> {
        let object = object_ref(self, facts)?;
        let access = Access::plan(&object.namespace, &self.spec.access, facts);
        Ok(RingWish {
            request: ApplyKeyRingRequest {
                fence: None,
                object: Some(object),
                access: access.wire(),
                keep_access: access.keep,
            },
            access,
        })
    }

    async fn ask(
        service: &Service,
        fence: Fence,
        wish: &RingWish,
    ) -> Result<KeyRingState, Failure> {
        let mut request = wish.request.clone();
        request.fence = Some(fence);
        service.apply_key_ring(request).await
    }

    fn told(&self, wish: &RingWish, state: &KeyRingState) -> Told<KeyRingStatus> {
        let before = self.status();
        let what = format!("ring {}", self.name_any());
        Told {
            status: KeyRingStatus {
                ring_id: state.ring.as_ref().map(|ring| ring.id.clone()),
                keys: Some(state.keys.into()),
                secrets: Some(state.secrets.into()),
                access: bound(&wish.access, &before.access),
                ..KeyRingStatus::default()
            },
            verdict: Verdict::ready(Reason::Applied, AS_WRITTEN).with_access(&wish.access.verdict),
            notices: notices(state.outcome(), &what, &state.rebound),
            is_new: is_new(state.outcome()),
        }
    }
}
