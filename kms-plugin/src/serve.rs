//! The one place where everything meets: state, probe, socket, tasks.

use std::{convert::Infallible, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use rustix::process::geteuid;
use strongroom_api::kubernetes::kms::v2::key_management_service_server::KeyManagementServiceServer;
use strongroom_core::Clock;
use strongroom_runtime::{
    Chain, Condition, Handle, Program, SystemClock,
    limits::Limits,
    socket::{self, BindError, Incoming, SocketOptions},
    tasks::TaskFailure,
};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{
    config::{Config, ConfigError},
    health::{self, Exposition},
    plugin::Plugin,
    probe::{Board, Health, Prober},
    renewal::{Expiry, Renewal},
    service::Transport,
    state::{HighWater, StateError, StateFile},
    upstream::Upstream,
};

/// The plugin waits for others; two threads keep Status answering while one is busy.
const WORKER_THREADS: usize = 2;
/// kube-apiserver sends 32 bytes, and gets back a kilobyte with annotations. 32 KiB of those are allowed.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Requests that one API server may have open.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Requests of all API servers. Far above `concurrency`, which bounds what reaches the key service: Status must answer
/// while Encrypt and Decrypt wait for their slots.
const MAX_REQUESTS: usize = 1024;
const READINESS_INTERVAL: Duration = Duration::from_millis(250);
/// How often a state whose volume is late is looked for again.
const LATE_RETRY: Duration = Duration::from_millis(500);

/// The file of the state, and what it says.
type State = (StateFile, Option<HighWater>);

/// Why the plugin did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is not usable.
    #[error("the configuration cannot be used")]
    Config(#[source] ConfigError),
    /// The state is not usable.
    #[error("the state cannot be used")]
    State(#[source] StateError),
    /// The socket cannot be offered.
    #[error("the socket for kube-apiserver cannot be offered")]
    Bind(#[source] BindError),
}

/// Serves until the process is asked to end.
pub fn run(config: Config, path: PathBuf) -> ExitCode {
    let program = Program {
        name: "kms-plugin",
        version: env!("CARGO_PKG_VERSION"),
        configuration: path,
        log: config.log.clone(),
        probes: Some(config.probes),
        worker_threads: WORKER_THREADS,
    };
    strongroom_runtime::run(program, |handle| async move { start(&handle, &config) })
}

/// Spawns the tasks of the plugin. Must be called within a runtime.
///
/// # Errors
///
/// When state or socket cannot be used; that the key service is away or the state's volume is late is no reason.
pub fn start(handle: &Handle, config: &Config) -> Result<(), StartError> {
    start_at(handle, config, Arc::new(SystemClock))
}

/// Spawns the tasks of the plugin under another clock.
///
/// # Errors
///
/// As [`start`].
pub fn start_at(handle: &Handle, config: &Config, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    // Before the socket: a second process must not answer with a state that it does not hold. A state that is late does not
    // hold the socket up, or kube-apiserver, which tries ever more rarely to connect, would be late by minutes more.
    let state = match StateFile::open(&config.state) {
        Err(error) if !error.is_late() => return Err(StartError::State(error)),
        opened => opened,
    };
    let incoming = bind(config)?;
    let board = Arc::new(Board::new(config.status.max_age));
    let upstream = Upstream::new(config);

    let mut exposition = Exposition::new(board.clone(), incoming.refusals());
    exposition.paths(upstream.paths().clone());
    if let Some(expiry) = spawn_renewal(handle, config, &upstream, clock) {
        exposition.certificate(expiry);
    }
    handle.metrics.computed(exposition);
    let condition = handle.readiness.condition("key-service");
    spawn_readiness(handle, board.clone(), condition);

    spawn_probe(handle, config, &upstream, &board, state);

    let plugin = Plugin::new(config, board, upstream);
    let api_servers = config.peers().map_err(StartError::Config)?;
    let metrics = handle.metrics.component("kms_plugin");
    let transport = Transport::new(plugin, api_servers, &metrics);
    spawn_server(handle, config, transport, incoming);
    Ok(())
}

/// Probes as soon as the state is there. Until then `Status` is an error that names it.
fn spawn_probe(
    handle: &Handle,
    config: &Config,
    upstream: &Upstream,
    board: &Arc<Board>,
    state: Result<State, StateError>,
) {
    let (config, upstream, board) = (config.clone(), upstream.clone(), board.clone());
    let condition = handle.readiness.condition("state");
    let shutdown = handle.shutdown();
    handle.spawn("probe", async move {
        tokio::pin!(shutdown);
        let state = tokio::select! {
            state = wait_for_state(&config, state, &board, &condition) => state?,
            () = &mut shutdown => return Ok(()),
        };
        condition.met();
        let prober = Prober::new(&config, upstream, board, state);
        prober.run(shutdown).await;
        Ok::<(), StateError>(())
    });
}

async fn wait_for_state(
    config: &Config,
    mut state: Result<State, StateError>,
    board: &Board,
    condition: &Condition,
) -> Result<State, StateError> {
    loop {
        let error = match state {
            Err(error) if error.is_late() => error,
            state => return state,
        };
        let cause = format!("{}: mount the volume of the state", Chain(&error));
        condition.missing(cause.clone());
        board.fail(Health::Unusable { cause });
        tokio::time::sleep(LATE_RETRY).await;
        state = StateFile::open(&config.state);
    }
}

/// The certificate is of no use without endpoints, and missing from nothing.
fn spawn_renewal(
    handle: &Handle,
    config: &Config,
    upstream: &Upstream,
    clock: Arc<dyn Clock>,
) -> Option<watch::Receiver<Expiry>> {
    if config.key_service.endpoints.is_empty() {
        return None;
    }
    let condition = handle.readiness.condition("certificate");
    let paths = upstream.paths().clone();
    let renewal = Renewal::new(&config.key_service, paths, clock, condition)?;
    let (expiry, shutdown) = (renewal.expiry(), handle.shutdown());
    handle.spawn("renewal", async move {
        renewal.run(shutdown).await;
        Ok::<(), Infallible>(())
    });
    Some(expiry)
}

fn bind(config: &Config) -> Result<Incoming, StartError> {
    let peers = config.peers().map_err(StartError::Config)?;
    // What waits for this plugin before an API server starts need not be root.
    let peers = peers.and(geteuid().as_raw());
    let options = SocketOptions {
        group: config.listen.group,
        ..SocketOptions::new(peers)
    };
    let incoming = socket::bind(&config.listen.path, options).map_err(StartError::Bind)?;
    tracing::info!(path = %config.listen.path.display(), "serving kube-apiserver");
    Ok(incoming)
}

fn spawn_readiness(handle: &Handle, board: Arc<Board>, condition: Condition) {
    let shutdown = handle.shutdown();
    handle.spawn("readiness", async move {
        let mut ticks = tokio::time::interval(READINESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                _ = ticks.tick() => health::show(&board, &condition),
                () = &mut shutdown => return Ok::<(), Infallible>(()),
            }
        }
    });
}

fn spawn_server(
    handle: &Handle,
    config: &Config,
    transport: Transport<Plugin>,
    incoming: Incoming,
) {
    let limits = Limits {
        streams_per_connection: STREAMS_PER_CONNECTION,
        concurrent_requests: MAX_REQUESTS,
        queue_wait: Duration::ZERO,
        // Later than our own deadline, which has the better text.
        request_timeout: config.deadline + Duration::from_millis(500),
        message_bytes: MAX_MESSAGE_BYTES,
    };
    let service = KeyManagementServiceServer::new(transport)
        .max_decoding_message_size(limits.message_bytes)
        .max_encoding_message_size(limits.message_bytes);
    let shutdown = handle.shutdown();
    handle.spawn("server", async move {
        let mut server = limits.server().layer(limits.concurrency());
        let served = server
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, shutdown);
        served.await.map_err(TaskFailure::from)
    });
}
