//! What volumes of pods hold. The driver of a node asks with its own token and shows that of the pod for which it asks;
//! each secret is decided on as that pod, in the pod's own namespace.
//!
//! Tokens that do not count are counted and not recorded: whoever has none is nobody.

mod error;
mod grant;
mod metrics;
mod streams;
mod watch;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

pub use error::{PodError, Whose};
pub use metrics::PodsMetrics;
use streams::Streams;
use strongroom_audit::{Item, Outcome};
use strongroom_auth::{PodToken, TokenVerifier};
use strongroom_core::{
    Action, Caller, ContextDigest, Name, ObjectName, PodIdentity, Resource, SecretBytes, Tenant,
    UnixMillis, action,
};
pub use watch::{Event, Session, Subscription};

use self::grant::{Grant, Refused};
use super::{CallContext, CallError, Service, call, detail};
use crate::{registry::Position, trail::Origin};

/// Who shows tokens, and what is known of them.
pub struct Workloads {
    /// Says whose a token is.
    pub verifier: TokenVerifier,
    /// The names under which clusters are registered.
    pub clusters: HashSet<Name>,
    /// The accounts of drivers.
    pub drivers: HashSet<(Tenant, ObjectName)>,
    /// What is counted.
    pub metrics: PodsMetrics,
    /// The streams that are open.
    streams: Streams,
}

impl Workloads {
    /// Takes over what the configuration says.
    #[must_use]
    pub fn new(
        verifier: TokenVerifier,
        clusters: HashSet<Name>,
        drivers: HashSet<(Tenant, ObjectName)>,
        metrics: PodsMetrics,
    ) -> Self {
        Self {
            verifier,
            clusters,
            drivers,
            metrics,
            streams: Streams::default(),
        }
    }
}

/// The driver of a node, by its own token.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Whose token it is.
    pub identity: Arc<PodIdentity>,
    /// From this moment on it counts no more.
    pub expires: UnixMillis,
    /// Where the call comes from.
    pub origin: Origin,
}

/// The pod for which the driver asks, and what its volume asks for.
#[derive(Clone)]
pub struct VolumeRequest {
    /// The pod's token.
    pub token: String,
    /// The pod's uid, as the kubelet says it.
    pub pod_uid: String,
    /// Names of secrets in the pod's namespace.
    pub secrets: BTreeSet<Name>,
}

/// What a volume should hold.
pub struct Volume {
    /// Changes with any file.
    pub etag: String,
    /// None when the volume holds just that.
    pub files: Option<Vec<File>>,
    /// Where the store is.
    pub position: Position,
}

/// A file of a volume.
pub struct File {
    /// `SECRET/FIELD`.
    pub path: String,
    /// What it holds.
    pub content: SecretBytes,
}

impl Service {
    /// Says which driver calls.
    ///
    /// # Errors
    /// A token that does not count, or whose account is no driver's.
    pub async fn driver(&self, token: Option<&str>, origin: Origin) -> Result<Driver, CallError> {
        let token = token.ok_or_else(|| self.not_counted(PodError::NoToken))?;
        let PodToken { identity, expires } = self.verify(Whose::Driver, token)?;
        let driver = Driver {
            identity,
            expires,
            origin,
        };
        let account = &driver.identity.account;
        let known = (account.tenant.clone(), account.id.name.clone());
        if !self.workloads.drivers.contains(&known) {
            let error = PodError::NotADriver(account.clone());
            let context = driver.context(Caller::Pod(driver.identity.clone()));
            return Err(self.refuse::<action::ServePods>(&context, error).await);
        }
        let context = driver.context(Caller::CsiDriver(driver.identity.clone()));
        let resource = Resource::Instance;
        self.admit::<action::ServePods>(
            &context,
            &resource,
            Some(resource.clone()),
            ContextDigest::default(),
        )
        .await?;
        Ok(driver)
    }

    /// Reads what a volume of a pod should hold; nothing is opened when it holds that already.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn read_for_pod(
        &self,
        driver: &Driver,
        request: &VolumeRequest,
        have: &str,
    ) -> Result<Volume, CallError> {
        let pod = self.pod(driver, request).await?;
        let grants = self
            .granted(driver, &pod.identity, &request.secrets)
            .await?;
        let etag = self.etag(&grants);
        let position = self.registry.position();
        if etag == have {
            self.trail.unchanged(&Caller::Pod(pod.identity));
            return Ok(Volume {
                etag,
                files: None,
                position,
            });
        }
        let context = driver.context(Caller::Pod(pod.identity.clone()));
        let files = match self.open_grants(&grants).await {
            Ok(files) => files,
            Err(error) => {
                let asked = asked(&pod.identity);
                self.record_failure::<action::ReadSecret>(&context, &asked, &error)
                    .await;
                return Err(error);
            }
        };
        self.record_read(driver, &context, &pod.identity, &grants)
            .await?;
        Ok(Volume {
            etag,
            files: Some(files),
            position,
        })
    }

    async fn open_grants(&self, grants: &[Grant]) -> Result<Vec<File>, CallError> {
        let mut files = Vec::new();
        for Grant {
            permit,
            stored,
            version,
        } in grants
        {
            let value = self.open_value(permit, stored, *version).await?;
            files.extend(value.into_iter().map(|(field, content)| File {
                path: format!("{}/{field}", stored.head.name),
                content,
            }));
        }
        Ok(files)
    }

    /// One record with every secret and its version; only then may the values leave.
    async fn record_read(
        &self,
        driver: &Driver,
        context: &CallContext,
        pod: &PodIdentity,
        grants: &[Grant],
    ) -> Result<(), CallError> {
        let item = |grant: &Grant| Item {
            resource: format!("{}/{}", grant.permit.resource(), grant.version),
            outcome: Outcome::Succeeded,
            code: "Ok".to_owned(),
        };
        let items = grants.iter().map(item).collect();
        let detail = detail([("driver", driver.identity.pod.to_string())]);
        let asked = asked(pod);
        let call = call::<action::ReadSecret>(context, &asked);
        let recorded = self.trail.succeeded_batch(&call, detail, items).await;
        recorded.map_err(CallError::audit)
    }

    /// The pod for which the driver asks: its token counts, and it runs where the driver does.
    async fn pod(&self, driver: &Driver, request: &VolumeRequest) -> Result<PodToken, CallError> {
        let pod = self.verify(Whose::Pod, &request.token)?;
        let elsewhere = pod.identity.account.tenant.cluster
            != driver.identity.account.tenant.cluster
            || pod.identity.node != driver.identity.node;
        let error = if elsewhere {
            PodError::NotThisNode
        } else if pod.identity.pod.uid.as_str() != request.pod_uid {
            PodError::NotThisPod
        } else {
            return Ok(pod);
        };
        // Who shows a token that is not his own node's is the one to be looked at.
        let context = driver.context(Caller::CsiDriver(driver.identity.clone()));
        Err(self.refuse::<action::ReadSecret>(&context, error).await)
    }

    /// What the pod may read now; the first secret that it may not is recorded.
    async fn granted(
        &self,
        driver: &Driver,
        pod: &Arc<PodIdentity>,
        secrets: &BTreeSet<Name>,
    ) -> Result<Vec<Grant>, CallError> {
        match self.grant(pod, secrets) {
            Ok(grants) => Ok(grants),
            Err(Refused { secret, error }) => {
                let context = driver.context(Caller::Pod(pod.clone()));
                let asked = format!("{}/name:{secret}", asked(pod));
                self.record_failure::<action::ReadSecret>(&context, &asked, &error)
                    .await;
                Err(*error)
            }
        }
    }

    fn verify(&self, whose: Whose, token: &str) -> Result<PodToken, CallError> {
        let verified = self.workloads.verifier.verify(token, self.clock.now());
        verified.map_err(|error| {
            tracing::debug!(error = %strongroom_runtime::Chain(&error), "token refused");
            self.not_counted(PodError::Token { whose, error })
        })
    }

    fn not_counted(&self, error: PodError) -> CallError {
        self.workloads.metrics.refused(&error);
        CallError::Pod(error)
    }

    async fn refuse<A: Action>(&self, context: &CallContext, error: PodError) -> CallError {
        let error = CallError::Pod(error);
        self.record_failure::<A>(context, &Resource::Instance, &error)
            .await;
        error
    }
}

impl Driver {
    fn context(&self, caller: Caller) -> CallContext {
        CallContext {
            caller,
            origin: self.origin.clone(),
        }
    }
}

/// What the audit log shows of secrets that a pod asked for: where names are looked up.
fn asked(pod: &PodIdentity) -> String {
    format!("secrets/{}", pod.account.tenant)
}
