//! What the key service does, whatever the transport: admit the caller, act with the permit, record, answer.

mod certificates;
mod crypto;
mod enrolment;
mod error;
mod etcd;
mod instance;
mod keys;
mod operator;
mod pods;
mod rotation;
mod secrets;
mod shown;
mod time;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use certificates::{CertificateRequest, IssuedCertificate};
pub use crypto::{DecryptRequest, Decrypted, EncryptRequest, Encrypted, PLAINTEXT_MAX};
pub use enrolment::{CredentialError, EnrolmentMetrics, IssuedNodeCertificate, NodeInvitation};
pub use error::CallError;
pub use etcd::{EtcdProbe, SEED_MAX, SeedRequest};
pub use instance::InstanceView;
pub use keys::{NewKeyRequest, NewRingRequest, VersionChange};
pub use operator::{
    Adoption, Applied, ApplyOutcome, BundleView, ObjectRef, ObjectType, ObjectWatch, Operator,
    OperatorError, Released, RingView, RotationTarget, SecretView, WantedBundle, WantedKey,
    WantedRing, WantedSecret, WatchEnd,
};
pub use pods::{
    Consumed, Consumers, Driver, Event, File, HERE_WITHIN, PodError, PodsMetrics, SecretKey,
    Session, Subscription, TOLD_WITHIN, Volume, VolumeRequest, Wanted, Whose, Workloads,
};
use rotation::when;
pub use rotation::{RotationMetrics, RotationRequest};
pub use secrets::{InvalidReason, NewSecretRequest, Reason, RevealRequest, Revealed, SecretChange};
pub use shown::{Shown, WorkloadKind};
use strongroom_audit::Outcome;
use strongroom_auth::Policy;
use strongroom_core::{
    Access, AccessBinding, AccessRole, Action, ActionKind, Caller, Clock, ContextDigest, Denied,
    Permit, Resource, authorize,
};
use strongroom_crypto::DigestKey;
use strongroom_hsm::Hsm;
pub use time::ConfirmedClock;

use crate::{
    fence::Fence,
    keyring::Keyring,
    pki::Issuer,
    registry::Registry,
    timekeeper::Timekeeper,
    trail::{Call, Origin, Trail},
};

/// Everything that a call needs.
pub struct Service {
    /// The records.
    pub registry: Registry,
    /// The keys.
    pub keyring: Keyring,
    /// The audit log.
    pub trail: Arc<Trail>,
    /// Who may do what.
    pub policy: Policy,
    /// The token, to be described.
    pub hsm: Arc<dyn Hsm>,
    /// The machine's clocks: for certificates, which others compare with the same clock, and for observations.
    pub clock: Arc<dyn Clock>,
    /// Service time: for what the store keeps and a later time is compared with.
    pub time: Timekeeper,
    /// Keyed digests of contexts.
    pub digests: DigestKey,
    /// Signs certificates of administrators.
    pub issuer: Issuer,
    /// Name of this replica.
    pub replica: String,
    /// Where plugins of other nodes connect; none when there is no such port.
    pub plugin_endpoints: Option<Vec<String>>,
    /// What is counted of nodes.
    pub enrolment_metrics: EnrolmentMetrics,
    /// What is counted of rotations.
    pub rotation_metrics: RotationMetrics,
    /// Who shows tokens in place of certificates.
    pub workloads: Workloads,
    /// Whether anything may be done at all.
    pub fence: Fence,
    /// Common names that the configuration lists.
    pub certificate_names: Vec<String>,
    /// Fingerprint of the checkpoint-certifying key.
    pub certifier_fingerprint: String,
}

/// Who calls, and the call's id.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The verified caller.
    pub caller: Caller,
    /// Where the call comes from.
    pub origin: Origin,
}

/// What the audit log says beside who, what and how it ended.
pub(crate) type Detail = BTreeMap<String, String>;

/// A detail of one pair.
pub(crate) fn detail<const N: usize>(pairs: [(&str, String); N]) -> Detail {
    let mut detail = Detail::new();
    for (key, value) in pairs {
        detail.insert(key.to_owned(), value);
    }
    detail
}

impl Service {
    /// Admits a caller to an action on a resource, or records and returns the refusal.
    ///
    /// `None` stands for a resource that does not exist; the caller cannot tell it from one that he may not see.
    pub(crate) async fn admit<A: Action>(
        &self,
        context: &CallContext,
        asked: &(dyn fmt::Display + Sync),
        resource: Option<Resource>,
        digest: ContextDigest,
    ) -> Result<Permit<A>, CallError> {
        let admitted = resource
            .ok_or(CallError::NotFound)
            .and_then(|resource| self.authorize::<A>(&context.caller, resource, digest));
        if let Err(error) = &admitted {
            self.record_failure::<A>(context, asked, error).await;
        }
        admitted
    }

    fn authorize<A: Action>(
        &self,
        caller: &Caller,
        resource: Resource,
        digest: ContextDigest,
    ) -> Result<Permit<A>, CallError> {
        authorize(&self.policy, caller, resource, digest).map_err(|denied| {
            if let Some(missing) = self.missing_role(&denied) {
                missing.into()
            } else if self.may_see(caller, &denied.resource) {
                CallError::Denied(Box::new(denied))
            } else {
                // Whoever may not even see a key is told that there is none.
                CallError::NotFound
            }
        })
    }

    /// What the account of a pod would need for a key of its own namespace, of which it may know.
    fn missing_role(&self, denied: &Denied) -> Option<PodError> {
        let role = match denied.action {
            ActionKind::Encrypt => AccessRole::KeyEncrypter,
            ActionKind::Decrypt => AccessRole::KeyDecrypter,
            _ => return None,
        };
        let (Caller::Pod(identity), Resource::Key { ring, key, .. }) =
            (&denied.caller, &denied.resource)
        else {
            return None;
        };
        let account = identity.account.clone();
        let own = ring.access.tenant() == Some(&account.tenant);
        let key = self.registry.key_name(ring.id, *key).filter(|_| own)?;
        Some(PodError::KeyRoleMissing { account, role, key })
    }

    fn may_see(&self, caller: &Caller, resource: &Resource) -> bool {
        use strongroom_core::action::{DescribeKey, DescribeSecret, ListKeys};
        let none = ContextDigest::default();
        match resource {
            Resource::Instance => true,
            Resource::Ring(_) => {
                authorize::<ListKeys>(&self.policy, caller, resource.clone(), none).is_ok()
            }
            Resource::Key { .. } => {
                authorize::<DescribeKey>(&self.policy, caller, resource.clone(), none).is_ok()
            }
            Resource::Secret { .. } => {
                authorize::<DescribeSecret>(&self.policy, caller, resource.clone(), none).is_ok()
            }
        }
    }

    /// Records how a call ended that changed nothing. A success is returned only once it is on disk.
    pub(crate) async fn conclude<A: Action, T>(
        &self,
        context: &CallContext,
        permit: &Permit<A>,
        outcome: Result<(T, Detail), CallError>,
    ) -> Result<T, CallError> {
        match outcome {
            Ok((answer, detail)) => {
                let call = call::<A>(context, permit.resource());
                self.trail
                    .succeeded(&call, detail)
                    .await
                    .map_err(CallError::audit)?;
                Ok(answer)
            }
            Err(error) => {
                self.record_failure::<A>(context, permit.resource(), &error)
                    .await;
                Err(error)
            }
        }
    }

    /// Records how a change ended; a change that was made is in the log by its outbox.
    pub(crate) async fn conclude_change<A: Action, T>(
        &self,
        context: &CallContext,
        permit: &Permit<A>,
        outcome: Result<T, CallError>,
    ) -> Result<T, CallError> {
        if let Err(error) = &outcome {
            self.record_failure::<A>(context, permit.resource(), error)
                .await;
        }
        outcome
    }

    /// The refusal is answered either way: nothing was done that would have to be recorded first.
    async fn record_failure<A: Action>(
        &self,
        context: &CallContext,
        resource: &(dyn fmt::Display + Sync),
        error: &CallError,
    ) {
        let outcome = match error {
            CallError::NotFound | CallError::Denied(_) | CallError::Credential(_) => {
                Outcome::Denied
            }
            CallError::Pod(error) if error.is_denial() => Outcome::Denied,
            CallError::Operator(error) if error.is_denial() => Outcome::Denied,
            _ => Outcome::Failed,
        };
        let recorded = self
            .trail
            .refused(&call::<A>(context, resource), outcome, error.code())
            .await;
        if let Err(error) = recorded {
            self.trail.lose_refusal(&error);
        }
    }
}

/// Who has which role, as the audit log shows it: `ROLE ACCOUNT#UID`, by comma.
fn grants(access: &Access) -> String {
    let shown = |binding: &AccessBinding| format!("{} {}", binding.role.as_str(), binding.account);
    let grants: Vec<String> = access.bindings().iter().map(shown).collect();
    grants.join(",")
}

fn call<'a, A: Action>(
    context: &'a CallContext,
    resource: &'a (dyn fmt::Display + Sync),
) -> Call<'a> {
    Call {
        caller: &context.caller,
        action: A::KIND,
        resource,
        origin: &context.origin,
    }
}
