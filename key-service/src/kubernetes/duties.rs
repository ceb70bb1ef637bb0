//! What is asked of the API server and told to it, each with a pause of its own after a failure, so that one thing that is
//! forbidden or missing holds nothing else up.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};
use strongroom_auth::{Cluster, ClustersError, IssuerKeys, IssuerKeysError};
use strongroom_core::Name;
use strongroom_runtime::{Chain, Condition, Handle, metrics::Metrics};

use super::{
    AskError, Connection,
    issuer::{self, IssuerError, Said},
    request::{self, Answer, Made, Request},
    witness::{self, Witness},
};
use crate::{
    config::{ClusterConfig, Config, InitBy, KubernetesConfig},
    service::Service,
};

/// How often what is in order is looked at again.
const PERIOD: Duration = Duration::from_secs(60);
/// How often somebody may have asked for init.
const REQUESTS_PERIOD: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(60);

/// The ConfigMap in which clients find the root certificate.
const AUTHORITY: &str = "strongroom-ca";
const ROOT: &str = "ca.crt";

/// Why something is not done yet.
#[derive(Debug, thiserror::Error)]
enum DutyError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("the keys of the API server cannot be used; the ones before still count")]
    Keys(#[from] IssuerKeysError),
    #[error("the keys of the API server cannot be registered; the ones before still count")]
    Clusters(#[from] ClustersError),
    #[error("{0}")]
    Witness(String),
    #[error("the witness does not name this instance yet")]
    NotWitnessed,
}

/// One thing to do again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Duty {
    /// Learn the keys of tokens.
    Keys,
    /// Compare the instance with the witness, and name it there.
    Witness,
    /// Show the root certificate in a namespace.
    Authority(Name),
    /// Answer whoever asked for init.
    Requests,
}

impl Duty {
    const NAMES: [&str; 4] = ["keys", "witness", "ca", "init"];

    const fn name(&self) -> &'static str {
        match self {
            Self::Keys => Self::NAMES[0],
            Self::Witness => Self::NAMES[1],
            Self::Authority(_) => Self::NAMES[2],
            Self::Requests => Self::NAMES[3],
        }
    }

    const fn period(&self) -> Duration {
        match self {
            Self::Keys | Self::Witness | Self::Authority(_) => PERIOD,
            Self::Requests => REQUESTS_PERIOD,
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(namespace) => write!(f, "{} in {namespace}", self.name()),
            Self::Keys | Self::Witness | Self::Requests => f.write_str(self.name()),
        }
    }
}

/// When a duty is due, and how often in a row it failed.
struct Entry {
    duty: Duty,
    due: Instant,
    failures: u32,
}

/// Does everything that the configuration says, for as long as the process lives. `made_for` is the request for which this
/// process made the instance.
pub(crate) fn spawn(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    made_for: Option<String>,
) {
    let Some(kubernetes) = config.kubernetes.clone() else {
        return;
    };
    let asked = kubernetes.cluster.as_ref();
    let cluster = config
        .clusters
        .iter()
        .find(|cluster| Some(&cluster.name) == asked)
        .cloned();
    let worker = Worker::new(kubernetes, cluster, handle, service, made_for);
    let shutdown = handle.shutdown();
    handle.spawn("kubernetes", async move {
        tokio::select! {
            never = worker.run() => never,
            () = shutdown => {}
        }
        Ok::<(), Infallible>(())
    });
}

struct Worker {
    config: KubernetesConfig,
    cluster: Option<ClusterConfig>,
    connection: Connection,
    service: Arc<Service>,
    made_for: Option<String>,
    /// What the API server said of its keys last.
    said: Option<Said>,
    /// Missing until the keys of tokens are known, in a pod where no file says them.
    keys_known: Option<Condition>,
    fits: Condition,
    witnessed: bool,
    gauges: Gauges,
}

impl Worker {
    fn new(
        config: KubernetesConfig,
        cluster: Option<ClusterConfig>,
        handle: &Handle,
        service: Arc<Service>,
        made_for: Option<String>,
    ) -> Self {
        // In a pod nobody comes through the Service before. Beside an API server that has to start with us, this one is waited
        // for by nobody.
        let unknown = config.kubeconfig.is_none()
            && cluster
                .as_ref()
                .is_some_and(|cluster| cluster.keys_file.is_none());
        let keys_known = unknown.then(|| {
            let condition = handle.readiness.condition("cluster-keys");
            condition.missing("the API server has not told the keys of its tokens yet");
            condition
        });
        let fits = handle.readiness.condition("witness");
        // A key service that starts before its API server serves it.
        fits.met();
        Self {
            connection: Connection::new(config.kubeconfig.clone()),
            config,
            cluster,
            service,
            made_for,
            said: None,
            keys_known,
            fits,
            witnessed: false,
            gauges: Gauges::register(&handle.metrics),
        }
    }

    async fn run(mut self) {
        let mut entries = self.entries();
        loop {
            for entry in &mut entries {
                if entry.due <= Instant::now() {
                    let done = self.fulfil(&entry.duty).await;
                    self.note(entry, done);
                }
            }
            let next = entries.iter().map(|entry| entry.due).min();
            let next = next.unwrap_or_else(|| Instant::now() + PERIOD);
            tokio::time::sleep_until(next.into()).await;
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let keys = self.cluster.as_ref().map(|_| Duty::Keys);
        let namespaces = self.config.authority_namespaces();
        let requests = (self.config.init == InitBy::Request).then_some(Duty::Requests);
        let duties = keys
            .into_iter()
            .chain([Duty::Witness])
            .chain(namespaces.into_iter().map(Duty::Authority))
            .chain(requests);
        let entry = |duty| Entry {
            duty,
            due: Instant::now(),
            failures: 0,
        };
        duties.map(entry).collect()
    }

    /// Says in log and metrics how it went, once for each change, and when it is due again.
    fn note(&self, entry: &mut Entry, done: Result<(), DutyError>) {
        let name = entry.duty.name();
        self.gauges.show(name, done.is_ok());
        match done {
            Ok(()) => {
                if entry.failures > 0 {
                    tracing::info!(duty = %entry.duty, "done after all");
                }
                entry.failures = 0;
                entry.due = Instant::now() + entry.duty.period();
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                if entry.failures == 0 {
                    tracing::warn!(duty = %entry.duty, error, "not done yet, tried again for ever");
                } else {
                    tracing::debug!(duty = %entry.duty, error, "not done yet");
                }
                entry.failures = entry.failures.saturating_add(1);
                entry.due = Instant::now() + pause(entry.failures);
            }
        }
    }

    async fn fulfil(&mut self, duty: &Duty) -> Result<(), DutyError> {
        match duty {
            Duty::Keys => self.learn_keys().await,
            Duty::Witness => self.compare_witness().await,
            Duty::Authority(namespace) => self.show_root(namespace).await,
            Duty::Requests => self.answer_requests().await,
        }
    }

    async fn learn_keys(&mut self) -> Result<(), DutyError> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let said = issuer::ask(&mut self.connection, cluster.issuer.as_ref()).await?;
        if self.said.as_ref() != Some(&said) {
            self.service.workloads.register(Cluster {
                name: cluster.name.clone(),
                issuer: said.issuer.clone(),
                audience: cluster.audience.clone(),
                keys: IssuerKeys::from_jwks(said.keys.as_bytes())?,
            })?;
            tracing::info!(cluster = %cluster.name, issuer = said.issuer, "the API server told the keys of its tokens");
            self.said = Some(said);
        }
        if let Some(known) = &self.keys_known {
            known.met();
        }
        Ok(())
    }

    async fn compare_witness(&mut self) -> Result<(), DutyError> {
        let instance = self.service.registry.instance().id;
        let namespace = self.config.namespace.as_str();
        let found = self.connection.find(namespace, witness::NAME).await?;
        let mut witness = Witness::read(found.as_ref());
        if witness == Witness::Nobody {
            let data = Witness::data(instance);
            let written = self
                .connection
                .apply(namespace, witness::NAME, &data)
                .await?;
            tracing::info!(%instance, "the witness names this instance now");
            witness = Witness::read(Some(&written));
        }
        match witness.contradiction(instance) {
            None => self.fit(),
            Some(contradiction) => {
                self.contradict(&contradiction);
                return Err(DutyError::Witness(contradiction));
            }
        }
        self.witnessed = true;
        Ok(())
    }

    fn fit(&self) {
        if self.service.fence.reason().is_some() {
            tracing::warn!("the witness names this instance again: calls are answered");
        }
        self.service.fence.open();
        self.fits.met();
        self.gauges.differs.set(0);
    }

    fn contradict(&self, contradiction: &str) {
        if self.service.fence.reason().is_none() {
            tracing::error!(contradiction, "fenced: every call is refused");
        }
        self.service.fence.close(contradiction);
        self.fits.missing(contradiction);
        self.gauges.differs.set(1);
    }

    /// Whoever may write there could make clients of an evil twin, so what stands there is looked at, too.
    async fn show_root(&mut self, namespace: &Name) -> Result<(), DutyError> {
        if self.service.fence.reason().is_some() {
            return Err(DutyError::NotWitnessed);
        }
        let root = self.service.issuer.root_pem();
        let found = self.connection.find(namespace.as_str(), AUTHORITY).await?;
        let data = found.as_ref().and_then(|it| it.data.as_ref());
        let shown = data.and_then(|data| data.get(ROOT));
        if shown == Some(&root) {
            return Ok(());
        }
        if shown.is_some() {
            tracing::error!(%namespace, "{AUTHORITY} held another root certificate; it is put right");
        }
        let data = BTreeMap::from([(ROOT.to_owned(), root)]);
        self.connection
            .apply(namespace.as_str(), AUTHORITY, &data)
            .await?;
        tracing::info!(%namespace, "clients find the root certificate in {AUTHORITY}");
        Ok(())
    }

    async fn answer_requests(&mut self) -> Result<(), DutyError> {
        let namespace = self.config.namespace.as_str();
        let found = self.connection.find(namespace, request::NAME).await?;
        let Request::Fresh(uid) = Request::read(found.as_ref(), self.service.clock.now()) else {
            return Ok(());
        };
        // A volume that was lost now would otherwise be taken for a new installation.
        if !self.witnessed {
            return Err(DutyError::NotWitnessed);
        }
        let made = Made {
            instance: self.service.registry.instance().id.to_string(),
            audit_fingerprint: self.service.certifier_fingerprint.clone(),
        };
        let answer = if self.made_for.as_ref() == Some(&uid) {
            Answer::Initialised(made)
        } else {
            Answer::AlreadyInitialised(made)
        };
        let told = self
            .connection
            .add(namespace, request::NAME, &uid, &answer.data())
            .await;
        match told {
            Err(error) if !error.is_gone_or_changed() => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = failures.saturating_sub(1).min(16);
    PAUSE_LAST.min(PAUSE_FIRST * 2u32.pow(doubled))
}

struct Gauges {
    up: IntGaugeVec,
    failures: IntCounterVec,
    differs: IntGauge,
}

impl Gauges {
    fn register(metrics: &Metrics) -> Self {
        let gauges = Self {
            up: metrics.gauges(
                "kubernetes_up",
                "1 while what is asked of the API server, or told to it, is done.",
                &["duty"],
            ),
            failures: metrics.counters(
                "kubernetes_failures_total",
                "Times that it was not done.",
                "duty",
                &Duty::NAMES,
            ),
            differs: metrics.gauge(
                "witness_differs",
                "1 while ConfigMap strongroom-witness names another instance, so that every call is refused.",
            ),
        };
        for name in Duty::NAMES {
            gauges.up.with_label_values(&[name]).set(0);
        }
        gauges
    }

    fn show(&self, duty: &str, is_done: bool) {
        self.up.with_label_values(&[duty]).set(is_done.into());
        if !is_done {
            self.failures.with_label_values(&[duty]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_a_minute() {
        let pauses = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60]);
    }
}
