//! The one place where everything meets: API server, key service, watches, terms, workers.

use std::{convert::Infallible, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::{DeserializeGuard, PartialObjectMeta},
};
use strongroom_core::Clock;
use strongroom_runtime::{
    Handle, Program, SystemClock,
    key_service::{KeyServiceConfig, KeyServiceConfigError},
    metrics::Metrics,
};
use tokio::sync::watch;

use crate::{
    changes,
    cluster::{GUARD, Recorder, Watch, Writer, lease::Holding},
    config::Config,
    counters::Counters,
    crds::{CryptoKey, KeyRing, ManagedSecret, SecretBundle, SecretRotation},
    installation::Installation,
    kinds::Managed,
    leadership::{Leadership, Term},
    object::Kind,
    progress::Progress,
    queue::Queue,
    reconcile::Reconciler,
    service::Service,
    sinks::{Accounts, Binding, Namespaces, Objects, Policy, Wake},
};

/// It waits for others; two threads keep one answer from delaying the next.
const WORKER_THREADS: usize = 2;

/// What gets on by itself.
const PULSES: [&str; 10] = [
    "KeyRing",
    "CryptoKey",
    "ManagedSecret",
    "SecretBundle",
    "SecretRotation",
    "Namespace",
    "ServiceAccount",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    LEASE,
];
const LEASE: &str = "Lease";

/// Why the operator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kubeconfig cannot be read.
    #[error("the API server is not known by {}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no service account.
    #[error("the API server is not known: this is no pod, and no kubeconfig is configured")]
    InCluster(#[source] InClusterError),
    /// No connection can be prepared.
    #[error("no connection to the API server can be prepared")]
    Client(#[source] kube::Error),
    /// The way to the key service is not known.
    #[error("the key service cannot be asked")]
    Service(#[source] KeyServiceConfigError),
    /// There are no random numbers.
    #[error("the process cannot name itself")]
    Name(#[source] std::io::Error),
}

/// Serves until the process is asked to end.
pub fn run(config: Config, path: PathBuf, pod: String) -> ExitCode {
    let program = Program {
        name: "operator",
        version: env!("CARGO_PKG_VERSION"),
        configuration: path,
        log: config.log.clone(),
        probes: Some(config.probes),
        worker_threads: WORKER_THREADS,
    };
    strongroom_runtime::run(program, |handle| async move {
        start(&handle, &config, pod, Arc::new(SystemClock)).await
    })
}

/// Spawns the tasks of the operator.
///
/// # Errors
///
/// When it cannot know where to ask; that nobody answers is no reason.
pub async fn start(
    handle: &Handle,
    config: &Config,
    pod: String,
    clock: Arc<dyn Clock>,
) -> Result<(), StartError> {
    let metrics = handle.metrics.component("operator");
    let client = client(config).await?;
    let service =
        Service::new(&config.key_service, clock.clone(), &metrics).map_err(StartError::Service)?;
    let service = Arc::new(service);
    spawn_trust(handle, &config.key_service, &service);
    let progress = Arc::new(Progress::new(&PULSES, clock.clone(), &metrics));
    let wake = Wake {
        caches: Arc::default(),
        queue: Arc::default(),
    };
    show_depth(&metrics, &wake.queue);
    spawn_watches(handle, &client, &wake, &progress);
    spawn_report(handle, progress.clone());

    let counters = Counters::new(&metrics);
    let installation = Arc::new(Installation::new(
        service.clone(),
        client.clone(),
        config.key_service.instance_id,
        clock.clone(),
    ));
    let process = random_name().map_err(StartError::Name)?;
    let (terms, term) = watch::channel(None);
    let leadership = Leadership {
        holding: Holding::new(
            client.clone(),
            &config.namespace,
            format!("{pod}_{process}"),
        ),
        service: service.clone(),
        caches: wake.caches.clone(),
        installation: installation.clone(),
        counters: counters.clone(),
        pulse: progress.pulse(LEASE),
        process,
    };
    let shutdown = handle.shutdown();
    spawn(handle, "leadership", leadership.run(terms, shutdown));
    spawn_while_serving(handle, "installation", {
        let term = term.clone();
        async move { installation.report(term).await }
    });
    spawn_while_serving(
        handle,
        "changes",
        changes::follow(
            service.clone(),
            wake.clone(),
            term.clone(),
            counters.clone(),
        ),
    );
    let reconciler = Arc::new(Reconciler {
        caches: wake.caches,
        queue: wake.queue,
        service,
        writer: Writer::new(client.clone()),
        recorder: Recorder::new(client, pod),
        counters,
        clock,
    });
    let workers = (0..config.concurrency).map(|_| {
        let (reconciler, progress, term) = (reconciler.clone(), progress.clone(), term.clone());
        work(reconciler, progress, term)
    });
    let workers = join_all(workers.collect::<Vec<_>>());
    spawn_while_serving(handle, "workers", async move {
        workers.await;
    });
    Ok(())
}

async fn client(config: &Config) -> Result<Client, StartError> {
    let config = match &config.kubeconfig {
        Some(path) => {
            let refused = |source| StartError::Kubeconfig {
                path: path.clone(),
                source: Box::new(source),
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(refused)?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(refused)?
        }
        None => kube::Config::incluster().map_err(StartError::InCluster)?,
    };
    Client::try_from(config).map_err(StartError::Client)
}

/// Looks at objects, one after the other, in this process's terms.
async fn work(
    reconciler: Arc<Reconciler>,
    progress: Arc<Progress>,
    mut terms: watch::Receiver<Option<Term>>,
) {
    // What is not there may only not have been listed yet.
    while !progress.has_begun() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    loop {
        let key = reconciler.queue.next().await;
        let Some(term) = current(&mut terms).await else {
            return;
        };
        let again = reconciler.look(&key, &term).await;
        reconciler.queue.done(key, again);
    }
}

/// Waits for a term of this process; none when there will be no more.
async fn current(terms: &mut watch::Receiver<Option<Term>>) -> Option<Term> {
    loop {
        let term = terms.wait_for(Option::is_some).await.ok()?.clone();
        if let Some(term) = term.filter(Term::is_current) {
            return Some(term);
        }
        // Whoever keeps the terms up to date ends this one in a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// 32 hexadecimal digits that no other process has.
fn random_name() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

fn show_depth(metrics: &Metrics, queue: &Arc<Queue>) {
    // The registry lives as long as the process.
    let queue = Arc::downgrade(queue);
    let depth = move || queue.upgrade().map_or(0, |queue| queue.depth());
    metrics.pulled(
        "queue_depth",
        "Objects that wait to be looked at, or are looked at.",
        move || depth() as f64,
    );
}

fn spawn_trust(handle: &Handle, config: &KeyServiceConfig, service: &Arc<Service>) {
    let Some(trust) = service.trust().cloned() else {
        return;
    };
    let condition = handle.readiness.condition("root");
    let (endpoints, shutdown) = (config.endpoints.clone(), handle.shutdown());
    spawn(handle, "root", async move {
        trust.watch(&endpoints, condition, shutdown).await;
    });
}

fn spawn_report(handle: &Handle, progress: Arc<Progress>) {
    let ready = handle.readiness.condition("watches");
    let alive = handle.liveness.condition("progress");
    alive.met();
    spawn_while_serving(handle, "progress", async move {
        progress.report(ready, alive).await;
    });
}

fn spawn_watches(handle: &Handle, client: &Client, wake: &Wake, progress: &Arc<Progress>) {
    spawn_objects::<KeyRing>(handle, client, wake, progress);
    spawn_objects::<CryptoKey>(handle, client, wake, progress);
    spawn_objects::<ManagedSecret>(handle, client, wake, progress);
    spawn_objects::<SecretBundle>(handle, client, wake, progress);
    spawn_objects::<SecretRotation>(handle, client, wake, progress);

    let namespaces: Watch<PartialObjectMeta<Namespace>> = Watch {
        api: Api::all(client.clone()),
        fields: None,
        pulse: progress.pulse(PULSES[5]),
    };
    let sink = Namespaces(wake.clone());
    spawn_while_serving(handle, "watch-namespaces", namespaces.run(sink));
    let accounts: Watch<PartialObjectMeta<ServiceAccount>> = Watch {
        api: Api::all(client.clone()),
        fields: None,
        pulse: progress.pulse(PULSES[6]),
    };
    let sink = Accounts(wake.clone());
    spawn_while_serving(handle, "watch-accounts", accounts.run(sink));
    let guard = Some(format!("metadata.name={GUARD}"));
    let policies: Watch<ValidatingAdmissionPolicy> = Watch {
        api: Api::all(client.clone()),
        fields: guard.clone(),
        pulse: progress.pulse(PULSES[7]),
    };
    let sink = Policy(wake.clone());
    spawn_while_serving(handle, "watch-policy", policies.run(sink));
    let bindings: Watch<ValidatingAdmissionPolicyBinding> = Watch {
        api: Api::all(client.clone()),
        fields: guard,
        pulse: progress.pulse(PULSES[8]),
    };
    let sink = Binding(wake.clone());
    spawn_while_serving(handle, "watch-policy-binding", bindings.run(sink));
}

fn spawn_objects<K: Managed>(
    handle: &Handle,
    client: &Client,
    wake: &Wake,
    progress: &Arc<Progress>,
) {
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let watch = Watch {
        api,
        fields: None,
        pulse: progress.pulse(K::KIND.name()),
    };
    let name = match K::KIND {
        Kind::KeyRing => "watch-key-rings",
        Kind::CryptoKey => "watch-crypto-keys",
        Kind::ManagedSecret => "watch-managed-secrets",
        Kind::SecretBundle => "watch-secret-bundles",
        Kind::SecretRotation => "watch-secret-rotations",
    };
    spawn_while_serving(handle, name, watch.run(Objects::<K>::new(wake.clone())));
}

fn spawn(handle: &Handle, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    handle.spawn(name, async move {
        task.await;
        Ok::<(), Infallible>(())
    });
}

/// Spawns what would go on for ever.
fn spawn_while_serving(
    handle: &Handle,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let shutdown = handle.shutdown();
    spawn(handle, name, async move {
        tokio::select! {
            () = task => {}
            () = shutdown => {}
        }
    });
}
