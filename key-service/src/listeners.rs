//! The doors: TLS for administrators and applications, TLS for callers with tokens, a socket for the plugin and a TLS port
//! for those of other nodes, each of the two with a thread of its own, and a socket for certificates.

mod connection;
mod guard;
mod methods;
mod native;
mod observe;
mod plugins;
mod shares;
mod sources;
mod tls;
mod tokens;
mod workloads;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use strongroom_api::strongroom::{kms::v1::etcd_keys_server, v1::certificates_server};
use strongroom_runtime::{
    Handle,
    limits::Limits,
    socket::{self, BindError, Peers, PeersError, SocketOptions},
    tasks::TaskFailure,
};

use tokio::sync::mpsc;

use self::{guard::Guard, observe::Observe};
use crate::{
    config::Config,
    grpc::{CertificatesServer, Door, EtcdKeysServer},
    service::Service,
};

pub(crate) use native::spawn_tls;
pub(crate) use plugins::spawn_plugins;
pub(crate) use shares::Share;
pub(crate) use workloads::spawn_workloads;

/// Why a listener cannot be offered. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// A list of peers is not valid.
    #[error("the peers of socket {0} are not valid")]
    Peers(&'static str, #[source] PeersError),
    /// A socket cannot be bound.
    #[error("socket {0} cannot be offered")]
    Socket(&'static str, #[source] BindError),
    /// The TLS address cannot be bound.
    #[error("address {0} cannot be bound")]
    Address(std::net::SocketAddr, #[source] io::Error),
    /// A thread cannot be made.
    #[error("the thread of socket {0} cannot be made")]
    Thread(&'static str, #[source] io::Error),
    /// Certificates cannot be used.
    #[error("the server's certificate cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Held by a listener until it has answered its last call; never used to send.
pub(crate) type Serving = mpsc::Sender<Infallible>;

async fn while_serving<T>(serve: impl Future<Output = T>, serving: Serving) -> T {
    let ended = serve.await;
    drop(serving);
    ended
}

/// A plugin asks rarely and must never wait for others.
const KMS_LIMITS: Limits = Limits {
    streams_per_connection: 64,
    concurrent_requests: 64,
    queue_wait: Duration::from_secs(1),
    request_timeout: Duration::from_secs(5),
    message_bytes: 64 * 1024,
};

const ADMIN_LIMITS: Limits = Limits {
    streams_per_connection: 8,
    concurrent_requests: 8,
    queue_wait: Duration::from_secs(1),
    request_timeout: Duration::from_secs(10),
    message_bytes: 64 * 1024,
};

/// Serves the plugin on a thread and a runtime of its own.
pub(crate) fn spawn_kms(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let Some(socket) = config.kms_socket.clone() else {
        return Ok(());
    };
    let peers = Peers::new(socket.peers).map_err(|error| ListenError::Peers("kmsSocket", error))?;
    let options = SocketOptions {
        group: socket.group,
        ..SocketOptions::new(peers)
    };
    let ready = handle.readiness.condition("kms-socket");
    let observe = Observe::new(&handle.metrics, "kms_socket", methods::KMS);
    let guard = Guard(service.fence.clone());
    let metrics = handle.metrics.component("kms_socket");
    let shutdown = handle.shutdown();
    let serve = async move {
        let incoming =
            socket::bind(&socket.path, options).map_err(|e| ListenError::Socket("kmsSocket", e))?;
        let refusals = incoming.refusals();
        metrics.pulled(
            "peers_refused",
            "Connections refused for their uid.",
            move || refusals.count() as f64,
        );
        let etcd_keys = EtcdKeysServer {
            service,
            door: Door::Socket,
        };
        let server = etcd_keys_server::EtcdKeysServer::new(etcd_keys)
            .max_decoding_message_size(KMS_LIMITS.message_bytes);
        ready.met();
        KMS_LIMITS
            .server()
            .layer(observe)
            .layer(guard)
            .layer(KMS_LIMITS.concurrency())
            .add_service(server)
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await?;
        drop(serving);
        Ok::<(), TaskFailure>(())
    };
    handle
        .tasks
        .spawn_thread("kms-socket", serve)
        .map_err(|error| ListenError::Thread("kmsSocket", error))
}

/// Serves certificates to the service's own user id.
pub(crate) fn spawn_admin(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let own = rustix::process::geteuid().as_raw();
    let peers = Peers::new([own]).map_err(|error| ListenError::Peers("adminSocket", error))?;
    let incoming = socket::bind(
        &config.admin_socket,
        SocketOptions {
            mode: 0o600,
            ..SocketOptions::new(peers)
        },
    )
    .map_err(|error| ListenError::Socket("adminSocket", error))?;
    let guard = Guard(service.fence.clone());
    let server = certificates_server::CertificatesServer::new(CertificatesServer(service))
        .max_decoding_message_size(ADMIN_LIMITS.message_bytes);
    let shutdown = handle.shutdown();
    let serve = ADMIN_LIMITS
        .server()
        .layer(Observe::new(
            &handle.metrics,
            "admin_socket",
            methods::ADMIN,
        ))
        .layer(guard)
        .layer(ADMIN_LIMITS.concurrency())
        .add_service(server)
        .serve_with_incoming_shutdown(incoming, shutdown);
    handle.spawn("admin-socket", while_serving(serve, serving));
    Ok(())
}
