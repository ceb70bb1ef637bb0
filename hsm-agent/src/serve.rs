//! `serve`: where socket, worker, probes and metrics meet.
#![forbid(unsafe_code)]

use std::{convert::Infallible, path::PathBuf, process::ExitCode, time::Duration};

use strongroom_api::strongroom::hsm::v1::hsm_agent_server::HsmAgentServer;
use strongroom_runtime::{
    Handle, Program,
    limits::Limits,
    socket::{self, BindError, Refusals, SocketOptions},
};
use tokio::time::interval;

use crate::{
    config::{Config, ConfigError, SocketConfig},
    metrics::AgentMetrics,
    server::{AllowList, Server},
    supervisor::Supervisor,
};

/// The key service is the only client, and asks little: KEKs are cached there.
const LIMITS: Limits = Limits {
    streams_per_connection: 64,
    concurrent_requests: 128,
    queue_wait: Duration::from_secs(1),
    // A second in the queue and ten in the module.
    request_timeout: Duration::from_secs(12),
    message_bytes: 64 * 1024,
};
const COUNT_REFUSALS_EVERY: Duration = Duration::from_secs(1);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The configuration does not fit this machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket cannot be offered.
    #[error("the socket cannot be offered")]
    Bind(#[source] BindError),
}

/// Runs the agent.
pub(crate) fn run(config_path: PathBuf, config: Config, program: Program) -> ExitCode {
    strongroom_runtime::run(program, |handle| async move {
        start(config_path, config, &handle)
    })
}

fn start(config_path: PathBuf, config: Config, handle: &Handle) -> Result<(), ServeError> {
    config.check_module()?;
    let metrics = AgentMetrics::new(&handle.metrics);
    let SocketConfig { path, group, peers } = &config.socket;
    let options = SocketOptions {
        group: *group,
        ..SocketOptions::new(config.socket.uids()?)
    };
    let incoming = socket::bind(path, options).map_err(ServeError::Bind)?;
    let refusals = count_refusals(incoming.refusals(), metrics.clone(), handle.shutdown());
    let allowed = AllowList::new(peers);
    let condition = handle.readiness.condition("token");
    let (supervisor, worker) = Supervisor::new(
        config,
        config_path,
        handle.tasks.clone(),
        condition,
        metrics.clone(),
    );
    let service = HsmAgentServer::new(Server {
        allowed,
        worker,
        metrics,
    })
    .max_decoding_message_size(LIMITS.message_bytes)
    .max_encoding_message_size(LIMITS.message_bytes);
    let server = LIMITS
        .server()
        .layer(LIMITS.concurrency())
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("worker", supervisor.run());
    handle.spawn("refusals", refusals);
    handle.spawn("socket", server);
    Ok(())
}

/// Copies the count of refused peers to where it is shown.
async fn count_refusals(
    refusals: Refusals,
    metrics: AgentMetrics,
    stop: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    let mut next = interval(COUNT_REFUSALS_EVERY);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = next.tick() => {
                metrics.peers_refused.set(refusals.count().try_into().unwrap_or(i64::MAX));
            }
            () = &mut stop => return Ok(()),
        }
    }
}
