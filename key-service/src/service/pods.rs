//! What volumes of pods hold. The driver of a node asks with its own token and shows that of the pod for which it asks;
//! each secret is decided on as that pod, in the pod's own namespace.
//!
//! Tokens that do not count are counted and not recorded: whoever has none is nobody.

mod consumers;
mod content;
mod error;
mod grant;
mod metrics;
mod plan;
mod streams;
mod watch;

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

pub use consumers::{Consumed, Consumers, HERE_WITHIN, SecretKey, TOLD_WITHIN};
pub use error::{PodError, Whose};
pub use metrics::PodsMetrics;
pub use plan::Wanted;
use streams::Streams;
use strongroom_audit::{Item, Outcome};
use strongroom_auth::{Cluster, ClustersError, PodToken, TokenVerifier};
use strongroom_core::{
    Action, Caller, ContextDigest, FileMode, Name, ObjectName, PodIdentity, Resource, SecretBytes,
    Tenant, UnixMillis, action,
};
pub use watch::{Event, Session, Subscription};

use self::{
    grant::Grant,
    plan::{Plan, Refused},
};
use super::{CallContext, CallError, Service, Shown, WorkloadKind, call, detail};
use crate::{registry::Position, trail::Origin};

/// Who shows tokens, and what is known of them.
pub struct Workloads {
    /// Says whose a token is; other keys are another verifier.
    verifier: RwLock<Arc<TokenVerifier>>,
    /// The names under which clusters are registered.
    pub clusters: HashSet<Name>,
    /// The accounts of drivers.
    pub drivers: HashSet<(Tenant, ObjectName)>,
    /// The accounts of operators.
    pub operators: HashSet<(Tenant, ObjectName)>,
    /// What is counted.
    pub metrics: PodsMetrics,
    /// Which volumes follow which secrets.
    pub consumers: Consumers,
    /// The streams that are open.
    streams: Streams,
}

impl Workloads {
    /// Takes over what the configuration says, in a process that began at that moment.
    #[must_use]
    pub fn new(
        verifier: TokenVerifier,
        clusters: HashSet<Name>,
        drivers: HashSet<(Tenant, ObjectName)>,
        operators: HashSet<(Tenant, ObjectName)>,
        metrics: PodsMetrics,
        began: UnixMillis,
    ) -> Self {
        Self {
            verifier: RwLock::new(Arc::new(verifier)),
            clusters,
            drivers,
            operators,
            metrics,
            consumers: Consumers::since(began),
            streams: Streams::default(),
        }
    }

    /// Says whose a token is.
    #[must_use]
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        let verifier = self.verifier.read();
        verifier.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Verifies tokens of a cluster with these keys from now on, and with no others.
    ///
    /// # Errors
    /// See `ClustersError`; the keys before still count then.
    pub fn register(&self, cluster: Cluster) -> Result<(), ClustersError> {
        let next = Arc::new(self.verifier().with(cluster)?);
        *self
            .verifier
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
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
    /// What the volume asks for.
    pub wanted: Wanted,
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
    /// Where it is.
    pub path: String,
    /// Its permission bits.
    pub mode: FileMode,
    /// Its owner; root when there is none.
    pub uid: Option<u32>,
    /// Its group; the pod's when there is none.
    pub gid: Option<u32>,
    /// What it holds.
    pub content: SecretBytes,
}

impl Service {
    /// Says which driver calls.
    ///
    /// # Errors
    /// An account that is no driver's.
    pub async fn driver(&self, shown: &Shown, origin: Origin) -> Result<Driver, CallError> {
        let driver = Driver {
            identity: shown.identity.clone(),
            expires: shown.expires,
            origin,
        };
        let context = driver.context(shown.caller());
        if shown.kind != WorkloadKind::Driver {
            let error = PodError::NotADriver(driver.identity.account.clone());
            return Err(self.refuse::<action::ServePods>(&context, error).await);
        }
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
        let plan = self.planned(driver, &pod.identity, &request.wanted).await?;
        let etag = self.etag(&plan);
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
        let tenant = &pod.identity.account.tenant;
        let files = match self.make_files(&plan, tenant).await {
            Ok(files) => files,
            Err(error) => {
                let asked = format!("{tenant}/{}", request.wanted);
                self.record_failure::<action::ReadSecret>(&context, &asked, &error)
                    .await;
                return Err(error);
            }
        };
        self.record_read(driver, &context, &pod.identity, &plan)
            .await?;
        Ok(Volume {
            etag,
            files: Some(files),
            position,
        })
    }

    /// One record with every secret and its version; only then may the values leave.
    async fn record_read(
        &self,
        driver: &Driver,
        context: &CallContext,
        pod: &PodIdentity,
        plan: &Plan,
    ) -> Result<(), CallError> {
        let item = |grant: &Grant| Item {
            resource: format!("{}/{}", grant.permit.resource(), grant.version),
            outcome: Outcome::Succeeded,
            code: "Ok".to_owned(),
        };
        let items = plan.grants.iter().map(item).collect();
        let mut detail = detail([("driver", driver.identity.pod.to_string())]);
        if let Some(stored) = &plan.bundle {
            detail.insert("bundle".to_owned(), stored.bundle.name.to_string());
        }
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

    /// What the volume shall hold now; the first thing that the pod may not have is recorded.
    async fn planned(
        &self,
        driver: &Driver,
        pod: &Arc<PodIdentity>,
        wanted: &Wanted,
    ) -> Result<Plan, CallError> {
        match self.plan(pod, wanted) {
            Ok(plan) => Ok(plan),
            Err(Refused { asked, error }) => {
                let context = driver.context(Caller::Pod(pod.clone()));
                self.record_failure::<action::ReadSecret>(&context, &asked, &error)
                    .await;
                Err(*error)
            }
        }
    }

    pub(super) fn verify(&self, whose: Whose, token: &str) -> Result<PodToken, CallError> {
        let verified = self.workloads.verifier().verify(token, self.clock.now());
        verified.map_err(|error| {
            tracing::debug!(error = %strongroom_runtime::Chain(&error), "token refused");
            self.not_counted(PodError::Token { whose, error })
        })
    }

    pub(super) fn not_counted(&self, error: PodError) -> CallError {
        self.workloads.metrics.refused(&error);
        error.into()
    }

    async fn refuse<A: Action>(&self, context: &CallContext, error: PodError) -> CallError {
        let error = CallError::from(error);
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
