//! Bundles.

use std::collections::BTreeSet;

use kube::ResourceExt;
use strongroom_api::strongroom::v1::{
    self as wire, ApplyBundleRequest, BundleSpec, BundleState, Fence, FieldFile, ObjectKind,
    SecretStage, TemplateFile, bundle_file::Content,
};

use super::{AS_WRITTEN, Managed, Told, is_new, notices, object_ref, status};
use crate::{
    cluster::{Caches, Store},
    crds::{BundleFile, SecretBundle, SecretBundleSpec, SecretBundleStatus, Stage},
    object::Kind,
    plan::{Blocked, Course, Facts, Reason, Verdict, file_mode, ring},
    service::{Failure, Service},
};

status!(SecretBundleStatus);

impl SecretBundleSpec {
    /// The secrets that it names.
    pub fn secrets(&self) -> BTreeSet<&str> {
        self.files
            .iter()
            .flat_map(|file| {
                let from = file.from.iter().map(|from| from.secret.as_str());
                let template = file.template.iter().flat_map(|it| &it.secrets);
                from.chain(template.map(String::as_str))
            })
            .collect()
    }
}

impl Managed for SecretBundle {
    const KIND: Kind = Kind::SecretBundle;
    const HELD: Option<ObjectKind> = Some(ObjectKind::SecretBundle);
    type Status = SecretBundleStatus;
    type Wish = ApplyBundleRequest;
    type State = BundleState;

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.secret_bundles
    }

    fn status(&self) -> SecretBundleStatus {
        self.status.clone().unwrap_or_default()
    }

    fn wish(&self, facts: &Facts) -> Result<ApplyBundleRequest, Blocked> {
        let object = object_ref(self, facts)?;
        let named = self.spec.key_ring_ref.as_ref();
        let before = self.status();
        let ring = ring(
            &object.namespace,
            named,
            before.key_ring.as_deref(),
            &facts.rings,
        )?;
        Ok(ApplyBundleRequest {
            fence: None,
            object: Some(object),
            ring,
            spec: Some(BundleSpec {
                default_mode: file_mode(self.spec.default_mode.as_deref()),
                files: self.spec.files.iter().map(file).collect(),
            }),
        })
    }

    async fn ask(
        service: &Service,
        fence: Fence,
        wish: &ApplyBundleRequest,
    ) -> Result<BundleState, Failure> {
        let mut request = wish.clone();
        request.fence = Some(fence);
        service.apply_bundle(request).await
    }

    fn told(&self, wish: &ApplyBundleRequest, state: &BundleState) -> Told<SecretBundleStatus> {
        let verdict = if state.missing.is_empty() {
            Verdict::ready(Reason::Applied, AS_WRITTEN)
        } else {
            let namespace = self.namespace().unwrap_or_default();
            let missing: Vec<_> = state.missing.iter().take(4).map(String::as_str).collect();
            let sentence = format!(
                "{} of the secrets that it names are not there, and volumes wait for them: {}; make them in namespace {namespace}",
                state.missing.len(),
                missing.join(", ")
            );
            Verdict::not_ready(Reason::SecretsMissing, sentence, Course::Reconciling)
        };
        Told {
            status: SecretBundleStatus {
                key_ring: Some(wish.ring.clone()),
                missing: state.missing.clone(),
                ..SecretBundleStatus::default()
            },
            verdict,
            notices: notices(state.outcome(), &format!("bundle {}", self.name_any()), &[]),
            is_new: is_new(state.outcome()),
        }
    }
}

fn file(file: &BundleFile) -> wire::BundleFile {
    let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    let owner = file.owner.as_ref();
    let from = file.from.as_ref().map(|from| {
        Content::From(FieldFile {
            secret: from.secret.clone(),
            field: from.field.clone(),
            stage: match from.stage {
                None | Some(Stage::Current) => SecretStage::Current,
                Some(Stage::Previous) => SecretStage::Previous,
            }
            .into(),
            optional: file.optional.unwrap_or(false),
        })
    });
    let template = file.template.as_ref().map(|template| {
        Content::Template(TemplateFile {
            secrets: template.secrets.clone(),
            text: template.text.clone(),
        })
    });
    wire::BundleFile {
        path: file.path.clone(),
        mode: file_mode(file.mode.as_deref()),
        uid: id(owner.and_then(|owner| owner.uid)),
        gid: id(owner.and_then(|owner| owner.gid)),
        content: from.or(template),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle() -> SecretBundle {
        let object = json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "SecretBundle",
            "metadata": {"name": "api", "namespace": "payments", "uid": "u", "generation": 1},
            "spec": {"defaultMode": "0440", "files": [
                {"path": "db/password", "from": {"secret": "db", "field": "password"}},
                {"path": "db/old", "from": {"secret": "db", "field": "password", "stage": "Previous"},
                 "optional": true},
                {"path": "app.env", "mode": "0400", "owner": {"uid": 1000},
                 "template": {"secrets": ["db", "stripe"], "text": "{{ db.password }}"}},
            ]},
        });
        serde_json::from_value(object).unwrap()
    }

    fn facts() -> Facts {
        Facts {
            namespace_uid: Some("u-ns".to_owned()),
            rings: vec!["payments".to_owned()],
            ..Facts::default()
        }
    }

    #[test]
    fn files_are_told_as_they_are_written() {
        let wish = bundle().wish(&facts()).ok().unwrap();
        let spec = wish.spec.unwrap();
        assert_eq!((spec.default_mode, spec.files.len()), (0o440, 3));
        let Some(Content::From(old)) = &spec.files[1].content else {
            panic!("it is a field");
        };
        assert!(old.optional && old.stage() == SecretStage::Previous);
        let env = &spec.files[2];
        assert_eq!((env.mode, env.uid, env.gid), (0o400, Some(1000), None));
    }

    #[test]
    fn every_secret_is_named_once() {
        let bundle = bundle();
        let secrets: Vec<_> = bundle.spec.secrets().into_iter().collect();
        assert_eq!(secrets, ["db", "stripe"]);
    }

    #[test]
    fn bundle_is_not_ready_while_secrets_are_missing() {
        let bundle = bundle();
        let wish = bundle.wish(&facts()).ok().unwrap();
        let state = BundleState {
            missing: vec!["stripe".to_owned()],
            ..BundleState::default()
        };
        let told = bundle.told(&wish, &state);
        assert_eq!(told.verdict.reason, Reason::SecretsMissing);
        assert!(told.verdict.message.contains("stripe"));
        assert!(bundle.told(&wish, &BundleState::default()).verdict.ready);
    }
}
