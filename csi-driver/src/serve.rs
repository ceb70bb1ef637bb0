//! The one place where everything meets: self-test, table, key service, sockets, tasks.

use std::{convert::Infallible, io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use strongroom_api::{
    csi::v1::{identity_server::IdentityServer, node_server::NodeServer},
    kubernetes::pluginregistration::v1::registration_server::RegistrationServer,
};
use strongroom_core::Clock;
use strongroom_runtime::{
    Handle, Program, SystemClock,
    key_service::KeyServiceConfigError,
    limits::Limits,
    socket::{self, BindError, Incoming, Peers, PeersError, SocketOptions},
    tasks::TaskFailure,
    tls::{RemoteAddress, Trust},
};

use crate::{
    config::Config,
    driver::Driver,
    exposition::{Counters, Exposition},
    identity::Identity,
    node::Node,
    registration::{self, Registration},
    source::Source,
    table::Table,
    volume::{Pods, SelfTestError, SystemError, self_test},
    watch,
};

/// The driver waits for others; two threads keep one volume from delaying the next.
const WORKER_THREADS: usize = 2;
/// kubelet runs as root.
const KUBELET_UID: u32 = 0;

const LIMITS: Limits = Limits {
    streams_per_connection: 512,
    concurrent_requests: 512,
    queue_wait: Duration::from_secs(10),
    // kubelet gives up after two minutes; the key service's deadline has the better text.
    request_timeout: Duration::from_secs(110),
    message_bytes: 1024 * 1024,
};

/// Why the driver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// kubelet's folder of pods is not there.
    #[error("kubelet's folder of pods cannot be used")]
    Pods(#[source] SystemError),
    /// The list of mounts cannot be read.
    #[error("it cannot be told which volumes are published")]
    Published(#[source] io::Error),
    /// Volumes would not be what they should be.
    #[error("no volume can be published on this node")]
    SelfTest(#[source] SelfTestError),
    /// The way to the key service is not known.
    #[error("the key service cannot be asked")]
    Source(#[source] KeyServiceConfigError),
    /// kubelet cannot be a peer.
    #[error("kubelet cannot be served")]
    Peers(#[source] PeersError),
    /// A socket cannot be offered.
    #[error("a socket for kubelet cannot be offered")]
    Bind(#[source] BindError),
}

/// Serves until the process is asked to end.
pub fn run(config: Config, path: PathBuf, node: String) -> ExitCode {
    let program = Program {
        name: "csi-driver",
        version: env!("CARGO_PKG_VERSION"),
        configuration: path,
        log: config.log.clone(),
        probes: Some(config.probes),
        worker_threads: WORKER_THREADS,
    };
    strongroom_runtime::run(program, |handle| async move {
        start(&handle, &config, node, Arc::new(SystemClock)).await
    })
}

/// Spawns the tasks of the driver.
///
/// # Errors
///
/// When volumes or sockets cannot be made; that the key service is away is no reason.
pub async fn start(
    handle: &Handle,
    config: &Config,
    node: String,
    clock: Arc<dyn Clock>,
) -> Result<(), StartError> {
    let metrics = handle.metrics.component("csi_driver");
    let volume = &config.volume;
    let tmpfs = self_test(&volume.self_test_dir, config.room(), volume.without_noswap)
        .map_err(StartError::SelfTest)?;
    metrics
        .gauge("noswap", "Whether the kernel keeps volumes out of swap.")
        .set(i64::from(tmpfs.noswap));
    let driver = Arc::new(Driver {
        pods: Pods::open(&config.pods()).map_err(StartError::Pods)?,
        tmpfs,
        table: Table::default(),
        source: Source::new(&config.key_service, clock.clone()).map_err(StartError::Source)?,
        clock,
        stale_after: config.stale_after,
        counters: Counters::new(&metrics),
    });
    let found = driver.take_over().await.map_err(StartError::Published)?;
    let (volumes, orphans) = (found.volumes, found.orphans);
    tracing::info!(
        volumes,
        orphans,
        noswap = tmpfs.noswap,
        "volumes taken over"
    );
    handle.metrics.computed(Exposition::new(&driver));

    if let Some(trust) = driver.source.trust().cloned() {
        spawn_trust(handle, trust, config.key_service.endpoints.clone());
    }
    spawn_watch(handle, driver.clone());
    let registered = handle.readiness.condition("registration");
    let service = Node::new(
        driver,
        config.tokens.clone(),
        node,
        registered.clone(),
        &metrics,
    );
    // Before the registration, at which kubelet asks on this socket.
    spawn_node(handle, config, service)?;
    spawn_registration(handle, config, registered)
}

fn spawn_trust(handle: &Handle, trust: Arc<Trust>, endpoints: Vec<RemoteAddress>) {
    let (root, shutdown) = (handle.readiness.condition("root"), handle.shutdown());
    handle.spawn("trust", async move {
        trust.watch(&endpoints, root, shutdown).await;
        Ok::<(), Infallible>(())
    });
}

fn spawn_watch(handle: &Handle, driver: Arc<Driver>) {
    let shutdown = handle.shutdown();
    handle.spawn("watch", async move {
        watch::run(driver, shutdown).await;
        Ok::<(), Infallible>(())
    });
}

fn bind(path: &std::path::Path) -> Result<Incoming, StartError> {
    let peers = Peers::for_api_server([KUBELET_UID]).map_err(StartError::Peers)?;
    let options = SocketOptions {
        mode: 0o600,
        ..SocketOptions::new(peers)
    };
    let incoming = socket::bind(path, options).map_err(StartError::Bind)?;
    tracing::info!(path = %path.display(), "serving kubelet");
    Ok(incoming)
}

fn spawn_node(handle: &Handle, config: &Config, node: Node) -> Result<(), StartError> {
    let incoming = bind(&config.socket())?;
    let node = NodeServer::new(node).max_decoding_message_size(LIMITS.message_bytes);
    let shutdown = handle.shutdown();
    handle.spawn("csi", async move {
        let mut server = LIMITS.server().layer(LIMITS.concurrency());
        let served = server
            .add_service(IdentityServer::new(Identity))
            .add_service(node)
            .serve_with_incoming_shutdown(incoming, shutdown);
        served.await.map_err(TaskFailure::from)
    });
    Ok(())
}

fn spawn_registration(
    handle: &Handle,
    config: &Config,
    registered: strongroom_runtime::Condition,
) -> Result<(), StartError> {
    let incoming = registration::understood(bind(&config.registration_socket())?);
    let (registration, mut refused) = Registration::new(config.socket(), registered);
    let shutdown = handle.shutdown();
    handle.spawn("registration", async move {
        let mut server = LIMITS.server().layer(LIMITS.concurrency());
        let served = server
            .add_service(RegistrationServer::new(registration))
            .serve_with_incoming_shutdown(incoming, shutdown);
        tokio::select! {
            outcome = served => outcome.map_err(TaskFailure::from),
            Some(refused) = refused.recv() => Err(refused.into()),
        }
    });
    Ok(())
}
