//! Secrets. Nothing here ever sees a value.

use std::collections::BTreeSet;

use kube::ResourceExt;
use strongroom_api::strongroom::v1::{
    Alphabet as WireAlphabet, ApplySecretRequest, Fence, GeneratedField, GeneratedSource,
    ManualSource, ObjectKind, RandomText, SecretSource, SecretStage, SecretState,
    generated_field::Kind as FieldKind, secret_source::Source as WireSource,
};

use super::{Managed, Told, is_new, notices, object_ref, status, subjects};
use crate::{
    cluster::{Caches, Notice, Store},
    crds::{Alphabet, Field, ManagedSecret, ManagedSecretStatus, Phase, Source},
    object::Kind,
    plan::{Access, Blocked, Course, Facts, Reason, Verdict, bound, ring, rotation, time},
    service::{Failure, Service},
};

status!(ManagedSecretStatus);

/// What a secret wants.
pub struct SecretWish {
    request: ApplySecretRequest,
    access: Access,
}

impl Managed for ManagedSecret {
    const KIND: Kind = Kind::ManagedSecret;
    const HELD: Option<ObjectKind> = Some(ObjectKind::ManagedSecret);
    type Status = ManagedSecretStatus;
    type Wish = SecretWish;
    type State = SecretState;

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.managed_secrets
    }

    fn status(&self) -> ManagedSecretStatus {
        let pending = ManagedSecretStatus {
            phase: Some(Phase::Pending),
            ..ManagedSecretStatus::default()
        };
        self.status.clone().unwrap_or(pending)
    }

    fn subjects(&self) -> BTreeSet<&str> {
        subjects(&self.spec.access)
    }

    fn wish(&self, facts: &Facts) -> Result<SecretWish, Blocked> {
        let object = object_ref(self, facts)?;
        let named = self.spec.key_ring_ref.as_ref();
        let before = self.status();
        let ring = ring(
            &object.namespace,
            named,
            before.key_ring.as_deref(),
            &facts.rings,
        )?;
        let access = Access::plan(&object.namespace, &self.spec.access, facts);
        let schedule = self.spec.rotation.as_ref();
        let period = schedule.map(|schedule| schedule.period.as_str());
        let window = schedule.and_then(|schedule| schedule.window.as_ref());
        Ok(SecretWish {
            request: ApplySecretRequest {
                fence: None,
                object: Some(object),
                ring,
                source: Some(source(&self.spec.source)),
                rotation: rotation(period, window)?,
                access: access.wire(),
                keep_access: access.keep,
            },
            access,
        })
    }

    async fn ask(
        service: &Service,
        fence: Fence,
        wish: &SecretWish,
    ) -> Result<SecretState, Failure> {
        let mut request = wish.request.clone();
        request.fence = Some(fence);
        service.apply_secret(request).await
    }

    fn told(&self, wish: &SecretWish, state: &SecretState) -> Told<ManagedSecretStatus> {
        let before = self.status();
        let name = self.name_any();
        let mut notices = notices(state.outcome(), &format!("secret {name}"), &state.rebound);
        let secret = state.secret.clone().unwrap_or_default();
        let current = |version: &&_| is_current(version);
        let version = secret.versions.iter().find(current);
        let version = version.map(|version| version.version.clone());
        if let Some(version) = version.as_ref().filter(|_| before.secret_id.is_some())
            && before.version.as_ref() != Some(version)
        {
            let notice = match self.spec.source.generate {
                Some(_) => Notice::Rotated,
                None => Notice::ValueSet,
            };
            notices.push((notice, format!("version {version} is current")));
        }
        let consumers = consumers(&before, version.as_deref(), state);
        let (phase, verdict) = match &version {
            Some(version) => {
                let sentence = format!("version {version} is what readers get");
                (Phase::Active, Verdict::ready(Reason::Applied, sentence))
            }
            None => (Phase::AwaitingValue, awaiting(&name, &wish.request)),
        };
        Told {
            status: ManagedSecretStatus {
                phase: Some(phase),
                key_ring: Some(wish.request.ring.clone()),
                secret_id: Some(secret.id),
                consumers,
                version,
                next_rotation_time: time(state.next_rotation.as_ref()),
                access: bound(&wish.access, &before.access),
                ..ManagedSecretStatus::default()
            },
            verdict: verdict.with_access(&wish.access.verdict),
            notices,
            is_new: is_new(state.outcome()),
        }
    }
}

/// A count that may lack volumes is none; the one before stays while it is of the same version.
fn consumers(
    before: &ManagedSecretStatus,
    version: Option<&str>,
    state: &SecretState,
) -> Option<String> {
    if !state.consumers_pending {
        Some(format!("{}/{}", state.consumers_current, state.consumers))
    } else if before.version.as_deref() == version {
        before.consumers.clone()
    } else {
        None
    }
}

fn is_current(version: &strongroom_api::strongroom::v1::SecretVersion) -> bool {
    version.stage() == SecretStage::Current
}

fn awaiting(name: &str, request: &ApplySecretRequest) -> Verdict {
    let namespace = request.object.as_ref().map(|object| &*object.namespace);
    let namespace = namespace.unwrap_or_default();
    let sentence = format!(
        "ManagedSecret {namespace}/{name} has no value yet; set it with \
         `kubectl strongroom secret set {name} -n {namespace}`"
    );
    Verdict::not_ready(Reason::AwaitingValue, sentence, Course::Settled)
}

fn source(source: &Source) -> SecretSource {
    let generate = source.generate.as_ref().map(|generate| {
        WireSource::Generate(GeneratedSource {
            fields: generate.fields.iter().map(field).collect(),
        })
    });
    let manual = source.manual.as_ref().map(|manual| {
        WireSource::Manual(ManualSource {
            fields: manual.fields.clone(),
        })
    });
    SecretSource {
        source: generate.or(manual),
    }
}

fn field(field: &Field) -> GeneratedField {
    let kind = match &field.value {
        Some(value) => FieldKind::Value(value.clone()),
        None => FieldKind::Random(RandomText {
            // The API server refuses what is not between 8 and 1024.
            length: field
                .length
                .map_or(0, |length| u32::try_from(length).unwrap_or(0)),
            alphabet: match field.alphabet {
                None | Some(Alphabet::Alphanumeric) => WireAlphabet::Alphanumeric,
                Some(Alphabet::Hex) => WireAlphabet::Hex,
                Some(Alphabet::Printable) => WireAlphabet::Printable,
            }
            .into(),
        }),
    };
    GeneratedField {
        name: field.name.clone(),
        kind: Some(kind),
    }
}

#[cfg(test)]
mod tests;
