//! The TLS port for callers who show tokens of service accounts: nobody has a certificate here, and whoever shows no token
//! that counts is sent away soon.

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::v1::pods_server;
use strongroom_auth::token_server_tls;
use strongroom_core::Clock;
use strongroom_runtime::{Handle, limits::Limits};

use super::{
    ListenError, Serving,
    observe::Observe,
    shares::{Bounds, ByCaller, Calls, Share, Shares, Sharing},
    sources::{Quota, Refusal},
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
    handshakes: 4,
    connections: 8,
    total: 4096,
    // As many nodes as the largest clusters have; an entry is 50 bytes.
    sources: 16 * 1024,
};

/// Nobody has a name before his first token; behind each connection is one driver.
const BOUNDS: Bounds = Bounds {
    connections: QUOTA.total as usize,
    calls: Calls::Each(64),
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
    let port = Workloads {
        service: service.clone(),
        shares: Shares::default(),
    };
    let metrics = handle.metrics.component("workloads");
    let (listener, incoming) = tls::bind(workloads.listen, port, &metrics).await?;
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
        .layer(ByCaller::<WorkloadPeer>::new())
        .layer(LIMITS.concurrency())
        .add_service(pods)
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("workloads", while_serving(serve, serving));
    ready.met();
    Ok(())
}

struct Workloads {
    service: Arc<Service>,
    shares: Shares,
}

impl Sharing for WorkloadPeer {
    fn share(&self) -> &Share {
        &self.share
    }
}

impl Port for Workloads {
    type Peer = WorkloadPeer;

    fn clock(&self) -> &dyn Clock {
        &*self.service.clock
    }

    fn quota(&self) -> Quota {
        QUOTA
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

    fn identify(&self, _: Option<&CertificateDer<'_>>) -> Result<(WorkloadPeer, Until), Refusal> {
        let until = Until::extendable(self.service.clock.clone(), STRANGER_LIFETIME);
        let peer = WorkloadPeer {
            until: until.clone(),
            share: self.shares.admit("", BOUNDS).ok_or(Refusal::Caller)?,
        };
        Ok((peer, until))
    }
}
