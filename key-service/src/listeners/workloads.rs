//! The TLS port for callers who show tokens of service accounts: nobody has a certificate here, and whoever shows no token
//! that counts is sent away soon.

use std::{net::IpAddr, sync::Arc, time::Duration};

use prometheus::IntCounterVec;
use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::v1::pods_server;
use strongroom_auth::token_server_tls;
use strongroom_core::UnixMillis;
use strongroom_runtime::{Handle, limits::Limits};

use super::{
    ListenError, Serving,
    observe::Observe,
    sources::{Place, Quota, Refusal, Sources},
    tls::{self, Port},
    while_serving,
};
use crate::{
    config::Config,
    grpc::{PodsServer, Until, WorkloadPeer},
    pki::PkiError,
    service::Service,
};

/// A request is two tokens and a list of names.
const LIMITS: Limits = Limits {
    // A volume for each pod of a node at once, and the stream.
    streams_per_connection: 256,
    concurrent_requests: 1024,
    queue_wait: Duration::from_secs(1),
    request_timeout: Duration::from_secs(30),
    message_bytes: 64 * 1024,
};

/// One source is one node with one driver, and its successor while it is replaced. A driver that lost its connection makes
/// another with its own backoff.
const QUOTA: Quota = Quota {
    burst: 20,
    interval: Duration::from_millis(500),
    connections: 8,
    // As many nodes as the largest clusters have; an entry is 50 bytes.
    sources: 16 * 1024,
};

/// A token comes with the first call.
const STRANGER_LIFETIME: Duration = Duration::from_secs(10);

/// Serves those who show tokens, where the configuration says so.
pub(crate) async fn spawn_workloads(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let Some(workloads) = &config.workloads else {
        return Ok(());
    };
    let ready = handle.readiness.condition("workloads");
    let port = Workloads::new(service.clone(), handle);
    let (listener, incoming) = tls::bind(workloads.listen, port).await?;
    let accept = listener.run(handle.shutdown());
    handle.spawn("workloads-accept", async move {
        accept.await;
        Ok::<(), std::convert::Infallible>(())
    });
    let pods = PodsServer::new(service, handle.tasks.clone());
    let pods = pods_server::PodsServer::new(pods).max_decoding_message_size(LIMITS.message_bytes);
    let serve = LIMITS
        .server()
        .layer(Observe::new(&handle.metrics, "workloads"))
        .layer(LIMITS.concurrency())
        .add_service(pods)
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("workloads", while_serving(serve, serving));
    ready.met();
    Ok(())
}

struct Workloads {
    service: Arc<Service>,
    sources: Sources,
    refused: IntCounterVec,
}

impl Workloads {
    fn new(service: Arc<Service>, handle: &Handle) -> Self {
        Self {
            service,
            sources: Sources::new(QUOTA),
            refused: handle.metrics.component("workloads").counters(
                "connections_refused_total",
                "Connections that were refused before any call.",
                "reason",
                &Refusal::ALL.map(Refusal::reason),
            ),
        }
    }
}

impl Port for Workloads {
    type Peer = WorkloadPeer;

    fn now(&self) -> UnixMillis {
        self.service.clock.now()
    }

    /// With the root, so that a client can pin its digest.
    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        let now = self.service.clock.now();
        self.service.issuer.server_leaf_with_root(now)
    }

    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError> {
        token_server_tls(leaf, self.service.clock.clone())
            .map_err(|error| ListenError::Tls(error.into()))
    }

    fn admit(&self, source: IpAddr) -> Option<Place> {
        let admitted = self.sources.admit(source, self.service.clock.elapsed());
        if let Err(refusal) = &admitted {
            self.refused.with_label_values(&[refusal.reason()]).inc();
        }
        admitted.ok()
    }

    fn identify(&self, _: Option<&CertificateDer<'_>>) -> Option<(WorkloadPeer, Until)> {
        let until = Until::extendable(self.service.clock.clone(), STRANGER_LIFETIME);
        Some((WorkloadPeer(until.clone()), until))
    }
}
