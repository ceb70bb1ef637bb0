//! Wishes for one rotation. The uid of the object is the id of the wish, so that asking again asks for nothing more.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use strongroom_api::strongroom::v1::{
    Fence, ObjectKind, RequestRotationRequest, RequestRotationResponse,
    request_rotation_request::Target,
};

use super::{Managed, Told, object_ref, status};
use crate::{
    cluster::{Caches, Notice, Store},
    crds::{SecretRotation, SecretRotationStatus, Step, StepName},
    object::Kind,
    plan::{Blocked, Facts, Reason, Verdict, secret},
    service::{Failure, Service},
};

status!(SecretRotationStatus);

impl Managed for SecretRotation {
    const KIND: Kind = Kind::SecretRotation;
    const HELD: Option<ObjectKind> = None;
    type Status = SecretRotationStatus;
    type Wish = RequestRotationRequest;
    type State = RequestRotationResponse;

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.secret_rotations
    }

    fn status(&self) -> SecretRotationStatus {
        self.status.clone().unwrap_or_else(|| SecretRotationStatus {
            steps: self.requested().into_iter().collect(),
            ..SecretRotationStatus::default()
        })
    }

    fn is_done(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.version.is_some())
    }

    fn wish(&self, facts: &Facts) -> Result<RequestRotationRequest, Blocked> {
        let object = object_ref(self, facts)?;
        let name = &self.spec.secret_ref.name;
        secret(&object.namespace, name, &facts.secrets)?;
        Ok(RequestRotationRequest {
            fence: None,
            namespace: object.namespace,
            namespace_uid: object.namespace_uid,
            target: Some(Target::Secret(name.clone())),
            ring: String::new(),
            request_id: object.uid,
            reason: self.spec.reason.clone().unwrap_or_default(),
        })
    }

    async fn ask(
        service: &Service,
        fence: Fence,
        wish: &RequestRotationRequest,
    ) -> Result<RequestRotationResponse, Failure> {
        let mut request = wish.clone();
        request.fence = Some(fence);
        service.request_rotation(request).await
    }

    fn told(
        &self,
        _: &RequestRotationRequest,
        state: &RequestRotationResponse,
    ) -> Told<SecretRotationStatus> {
        let rotated = state.time.as_ref().and_then(|time| {
            let time = Timestamp::new(time.seconds, time.nanos).ok()?;
            Some(Step {
                name: StepName::Rotated,
                time: MicroTime(time),
            })
        });
        let note = format!(
            "version {} of ManagedSecret {} is current",
            state.version, self.spec.secret_ref.name
        );
        Told {
            status: SecretRotationStatus {
                steps: self.requested().into_iter().chain(rotated).collect(),
                version: Some(state.version.clone()),
                ..SecretRotationStatus::default()
            },
            verdict: Verdict::ready(Reason::Rotated, &*note),
            notices: vec![(Notice::Rotated, note.clone())],
            is_new: false,
        }
    }
}

impl SecretRotation {
    fn requested(&self) -> Option<Step> {
        let created = self.creation_timestamp()?;
        Some(Step {
            name: StepName::Requested,
            time: MicroTime(created.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn object(status: Value) -> SecretRotation {
        let object = json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "SecretRotation",
            "metadata": {
                "name": "db-x", "namespace": "payments", "uid": "u-1", "generation": 1,
                "creationTimestamp": "2026-01-02T03:04:05Z",
            },
            "spec": {"secretRef": {"name": "db"}, "reason": "INC-42"},
            "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn facts(secrets: &[&str]) -> Facts {
        Facts {
            namespace_uid: Some("u-ns".to_owned()),
            secrets: secrets
                .iter()
                .map(|&it| it.to_owned())
                .collect::<BTreeSet<_>>(),
            ..Facts::default()
        }
    }

    #[test]
    fn wish_is_named_by_the_uid_of_its_object() {
        let wish = object(json!({})).wish(&facts(&["db"])).ok().unwrap();
        assert_eq!((&*wish.request_id, &*wish.reason), ("u-1", "INC-42"));
        assert!(wish.target == Some(Target::Secret("db".to_owned())));
    }

    #[test]
    fn secret_that_is_not_there_yet_is_waited_for() {
        let blocked = object(json!({})).wish(&facts(&["other"])).err().unwrap();
        assert_eq!(blocked.reason, Reason::SecretNotFound);
    }

    #[test]
    fn steps_have_the_times_of_the_wish_and_of_the_version() {
        let rotation = object(json!({}));
        assert!(!rotation.is_done());
        let wish = rotation.wish(&facts(&["db"])).ok().unwrap();
        let state = RequestRotationResponse {
            version: "1.2".to_owned(),
            time: Some(prost_types::Timestamp {
                seconds: 1_767_323_046,
                nanos: 250_000_000,
            }),
        };
        let told = rotation.told(&wish, &state);
        let shown = serde_json::to_value(&told.status.steps).unwrap();
        let expected = json!([
            {"name": "Requested", "time": "2026-01-02T03:04:05.000000Z"},
            {"name": "Rotated", "time": "2026-01-02T03:04:06.250000Z"},
        ]);
        assert_eq!(shown, expected);
    }

    #[test]
    fn rotation_that_is_done_is_left_alone() {
        assert!(object(json!({"version": "1.2"})).is_done());
    }
}
