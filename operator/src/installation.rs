//! KeyService, the one object that says how the installation is. It is made when it is not there, and it remembers which
//! instance this cluster trusts.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde_json::json;
use strongroom_api::strongroom::v1::{self as wire, DescribeInstallationResponse};
use strongroom_core::{Clock, InstanceId};
use strongroom_runtime::tls::{Look, NotBelieved, Pin};
use tokio::sync::watch;

use crate::{
    cluster::{FIELD_MANAGER, WriteError, in_time},
    crds::{Condition, KeyService, KeyServiceStatus, Truth},
    leadership::Term,
    plan::{Course, Reason, Verdict, conditions},
    service::{Failure, Service},
};

/// The name of the one there is.
pub const NAME: &str = "default";
/// How often the key service is asked how it is.
const LOOK: Duration = Duration::from_secs(30);
/// How often while it does not answer.
const LOOK_AWAY: Duration = Duration::from_secs(5);

/// How the installation is, and which instance is believed.
pub struct Installation {
    service: Arc<Service>,
    api: Api<KeyService>,
    clock: Arc<dyn Clock>,
    /// Known once the object was read, or configured.
    pin: Mutex<Option<Arc<Pin>>>,
    configured: Option<InstanceId>,
}

impl Installation {
    /// Believes this instance only, or the one that KeyService remembers, or the first that answers.
    pub fn new(
        service: Arc<Service>,
        client: Client,
        configured: Option<InstanceId>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            service,
            api: Api::all(client),
            clock,
            pin: Mutex::new(None),
            configured,
        }
    }

    /// Asks the key service how it is.
    ///
    /// # Errors
    ///
    /// When it does not answer or is not the one that is believed.
    pub async fn look(&self) -> Result<DescribeInstallationResponse, Failure> {
        let pin = self.pin().await?;
        let described = self.service.describe_installation().await?;
        match pin.check(&described.instance_id, described.store_epoch) {
            Ok(()) => Ok(described),
            Err(error) => Err(not_believed(&error)),
        }
    }

    async fn pin(&self) -> Result<Arc<Pin>, Failure> {
        if let Some(pin) = &*self.pin.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(pin.clone());
        }
        let instance = match self.configured {
            Some(instance) => Some(instance),
            None => {
                let object = in_time(self.api.get_opt(NAME)).await.map_err(|error| {
                    Failure::Away(strongroom_runtime::Chain(&error).to_string())
                })?;
                let status = object.and_then(|object| object.status);
                status
                    .and_then(|status| status.instance_id)
                    .and_then(|id| id.parse().ok())
            }
        };
        let pin = Arc::new(Pin::new(instance));
        let mut held = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(held.get_or_insert(pin).clone())
    }

    /// Says how it is, while this process works.
    pub async fn report(&self, mut terms: watch::Receiver<Option<Term>>) {
        loop {
            let Ok(term) = terms
                .wait_for(Option::is_some)
                .await
                .map(|term| term.clone())
            else {
                return;
            };
            let described = self.look().await;
            let pause = if described.is_ok() { LOOK } else { LOOK_AWAY };
            if term.is_some_and(|term| term.is_current())
                && let Err(error) = self.say(described).await
            {
                let error = strongroom_runtime::Chain(&error).to_string();
                tracing::warn!(error, "the status of KeyService was not written");
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn say(
        &self,
        described: Result<DescribeInstallationResponse, Failure>,
    ) -> Result<(), WriteError> {
        let object = match in_time(self.api.get_opt(NAME)).await? {
            Some(object) => object,
            None => self.make().await?,
        };
        let awaits_init = self
            .service
            .trust()
            .is_some_and(|trust| trust.look() == Look::Missing);
        let before = object.status.clone().unwrap_or_default();
        let now = Timestamp::from_millisecond(self.clock.now().as_i64()).unwrap_or_default();
        let generation = object.meta().generation.unwrap_or_default();
        let status = status(&before, described, awaits_init, generation, now);
        if status == before {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": KeyService::api_version(&()),
            "kind": KeyService::kind(&()),
            "metadata": {"name": NAME, "resourceVersion": object.meta().resource_version},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        in_time(
            self.api
                .patch_status(NAME, &parameters, &Patch::Apply(&patch)),
        )
        .await
        .map(drop)
    }

    async fn make(&self) -> Result<KeyService, WriteError> {
        let patch = json!({
            "apiVersion": KeyService::api_version(&()),
            "kind": KeyService::kind(&()),
            "metadata": {"name": NAME},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER);
        in_time(self.api.patch(NAME, &parameters, &Patch::Apply(&patch))).await
    }
}

fn not_believed(error: &NotBelieved) -> Failure {
    Failure::Refused {
        reason: "OtherInstance".to_owned(),
        sentence: format!("the key service that answers is not believed: {error}"),
    }
}

/// Decides what is said.
fn status(
    before: &KeyServiceStatus,
    described: Result<DescribeInstallationResponse, Failure>,
    awaits_init: bool,
    generation: i64,
    now: Timestamp,
) -> KeyServiceStatus {
    let (mut status, verdict, parts) = match described {
        Ok(described) => serving(described),
        Err(failure) => (before.clone(), unwell(failure, awaits_init), None),
    };
    let ready = conditions(&before.conditions, &verdict, generation, now);
    let ready = ready.into_iter().filter(|it| it.type_ != "ResolvedRefs");
    let others = match parts {
        Some(parts) => parts
            .into_iter()
            .map(|part| part.condition(&before.conditions, generation, now))
            .collect(),
        // Nobody says how they are.
        None => Vec::new(),
    };
    status.observed_generation = Some(generation);
    status.conditions = ready.chain(others).collect();
    status
}

fn unwell(failure: Failure, awaits_init: bool) -> Verdict {
    let (reason, sentence, course) = match failure {
        _ if awaits_init => (
            Reason::AwaitingInit,
            "nobody has made an instance yet".to_owned(),
            Course::Reconciling,
        ),
        Failure::Refused { sentence, .. } => (Reason::OtherInstance, sentence, Course::Stalled),
        Failure::NotWelcome(_) => (
            Reason::KeyServiceRefuses,
            failure.to_string(),
            Course::Settled,
        ),
        Failure::Away(_) | Failure::Stale => (
            Reason::KeyServiceUnreachable,
            failure.to_string(),
            Course::Settled,
        ),
    };
    Verdict::not_ready(reason, sentence, course)
}

/// One condition of the installation.
struct Part {
    type_: String,
    ok: bool,
    reason: String,
    message: String,
}

impl Part {
    fn condition(self, before: &[Condition], generation: i64, now: Timestamp) -> Condition {
        let Self {
            type_,
            ok,
            reason,
            message,
        } = self;
        let status = if ok { Truth::True } else { Truth::False };
        let unchanged = before
            .iter()
            .find(|it| it.type_ == type_ && it.status == status);
        let since = unchanged.map(|it| it.last_transition_time.clone());
        Condition {
            type_,
            status,
            observed_generation: generation,
            last_transition_time: since.unwrap_or_else(|| crate::plan::to_the_second(now)),
            reason,
            message: message.chars().take(500).collect(),
        }
    }
}

fn serving(
    described: DescribeInstallationResponse,
) -> (KeyServiceStatus, Verdict, Option<Vec<Part>>) {
    let DescribeInstallationResponse {
        instance_id,
        version,
        hardware,
        token_model,
        store_epoch,
        seq: _,
        anchored_at: _,
        conditions,
    } = described;
    let failed = conditions.iter().find(|it| !it.ok);
    let verdict = match failed {
        None => Verdict::ready(
            Reason::Serving,
            "the key service answers and has what it needs",
        ),
        Some(wire::Condition {
            r#type, message, ..
        }) => Verdict::not_ready(
            Reason::Degraded,
            format!("{type}: {message}", type = r#type),
            Course::Settled,
        ),
    };
    let root = Part {
        type_: "HardwareRoot".to_owned(),
        ok: hardware,
        reason: if hardware {
            Reason::Hardware
        } else {
            Reason::SoftwareToken
        }
        .word()
        .to_owned(),
        message: if hardware {
            String::new()
        } else {
            format!(
                "the root keys are in {token_model}, which is not hardware; do not keep what matters here"
            )
        },
    };
    let parts = conditions
        .into_iter()
        .filter(|it| it.r#type != "Ready")
        .map(|it| Part {
            type_: it.r#type,
            ok: it.ok,
            reason: it.reason,
            message: it.message,
        });
    let status = KeyServiceStatus {
        instance_id: Some(instance_id),
        version: Some(version),
        hardware: Some(hardware),
        token_model: Some(token_model),
        store_epoch: Some(store_epoch.into()),
        ..KeyServiceStatus::default()
    };
    (
        status,
        verdict,
        Some(std::iter::once(root).chain(parts).collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn described(ok: bool) -> DescribeInstallationResponse {
        let condition = |kind: &str, ok| wire::Condition {
            r#type: kind.to_owned(),
            ok,
            reason: if ok { "Answering" } else { "Away" }.to_owned(),
            message: String::new(),
        };
        DescribeInstallationResponse {
            instance_id: "0123456789abcdef0123456789abcdef".to_owned(),
            version: "0.1.0".to_owned(),
            token_model: "SoftHSM v2".to_owned(),
            store_epoch: 1,
            conditions: vec![condition("Ready", ok), condition("HSMAvailable", ok)],
            ..DescribeInstallationResponse::default()
        }
    }

    fn told(status: &KeyServiceStatus) -> Vec<String> {
        let text = |it: &Condition| format!("{} {:?} {}", it.type_, it.status, it.reason);
        status.conditions.iter().map(text).collect()
    }

    #[test]
    fn software_token_is_said_and_does_not_stop_service() {
        let status = status(
            &KeyServiceStatus::default(),
            Ok(described(true)),
            false,
            1,
            at(0),
        );
        assert_eq!(
            told(&status),
            [
                "Ready True Serving",
                "HardwareRoot False SoftwareToken",
                "HSMAvailable True Answering"
            ]
        );
    }

    #[test]
    fn same_answer_changes_nothing_but_for_the_counter_of_changes() {
        let first = status(
            &KeyServiceStatus::default(),
            Ok(described(true)),
            false,
            1,
            at(0),
        );
        let mut later = described(true);
        later.seq = 99;
        assert_eq!(status(&first, Ok(later), false, 1, at(60)), first);
    }

    #[test]
    fn outage_keeps_what_was_known() {
        let first = status(
            &KeyServiceStatus::default(),
            Ok(described(true)),
            false,
            1,
            at(0),
        );
        let away = Failure::Away("nobody".to_owned());
        let after = status(&first, Err(away), false, 1, at(9));
        assert_eq!(after.instance_id, first.instance_id);
        assert_eq!(told(&after), ["Ready False KeyServiceUnreachable"]);
    }

    #[test]
    fn installation_without_an_instance_awaits_init() {
        let away = Failure::Away("nobody".to_owned());
        let status = status(&KeyServiceStatus::default(), Err(away), true, 1, at(0));
        assert_eq!(
            told(&status),
            ["Ready False AwaitingInit", "Reconciling True AwaitingInit"]
        );
    }

    #[test]
    fn another_instance_is_not_believed() {
        let refused = not_believed(&NotBelieved::Nameless);
        let status = status(&KeyServiceStatus::default(), Err(refused), false, 1, at(0));
        assert_eq!(told(&status)[0], "Ready False OtherInstance");
    }
}
