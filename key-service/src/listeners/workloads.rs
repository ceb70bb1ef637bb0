//! The TLS port for callers who show tokens of service accounts: nobody has a certificate here, and whoever shows no token
//! that counts is sent away soon.

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::v1::{crypto_server, operator_server, pods_server};
use strongroom_auth::token_server_tls;
use strongroom_core::Clock;
use strongroom_runtime::{Handle, limits::Limits};

use super::{
    ListenError, Serving,
    guard::Guard,
    methods,
    observe::Observe,
    sources::{Quota, Refusal},
    tls::{self, Port},
    tokens::ByToken,
    while_serving,
};
use crate::{
    config::Config,
    grpc::{CryptoServer, OperatorServer, PodsServer, Until, WorkloadPeer},
    pki::PkiError,
    service::Service,
};

/// A request of a driver is two tokens and a list of names.
const LIMITS: Limits = Limits {
    // A volume for each pod of a node at once, and the stream.
    streams_per_connection: 256,
    concurrent_requests: 1024,
    queue_wait: Duration::from_secs(1),
    request_timeout: Duration::from_secs(30),
    message_bytes: 64 * 1024,
};

/// A plaintext of 64 KiB, its context and the framing fit.
const CRYPTO_MESSAGE_BYTES: usize = 128 * 1024;

/// A custom resource has at most 1.5 MiB in etcd, and a bundle's templates are most of it.
const OPERATOR_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// One source may be a node with its driver and all its pods: the address of a pod is often that of its node by then.
const QUOTA: Quota = Quota {
    burst: 100,
    interval: Duration::from_millis(20),
    handshakes: 16,
    connections: 256,
    total: 4096,
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
    let port = Workloads {
        service: service.clone(),
    };
    let metrics = handle.metrics.component("workloads");
    let guard = Guard(service.fence.clone());
    let (listener, incoming) = tls::bind(workloads.listen, port, &metrics).await?;
    let accept = listener.run(handle.shutdown());
    handle.spawn("workloads-accept", async move {
        accept.await;
        Ok::<(), std::convert::Infallible>(())
    });
    let crypto = crypto_server::CryptoServer::new(CryptoServer(service.clone()));
    let operator = operator_server::OperatorServer::new(OperatorServer {
        service: service.clone(),
        readiness: handle.readiness.clone(),
        tasks: handle.tasks.clone(),
    });
    let pods = PodsServer::new(service.clone(), handle.tasks.clone());
    let pods = pods_server::PodsServer::new(pods).max_decoding_message_size(LIMITS.message_bytes);
    let serve = LIMITS
        .server()
        .layer(Observe::new(
            &handle.metrics,
            "workloads",
            methods::WORKLOADS,
        ))
        .layer(guard)
        .layer(ByToken::new(service))
        .layer(LIMITS.concurrency())
        .add_service(pods)
        .add_service(operator.max_decoding_message_size(OPERATOR_MESSAGE_BYTES))
        .add_service(crypto.max_decoding_message_size(CRYPTO_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("workloads", while_serving(serve, serving));
    ready.met();
    Ok(())
}

struct Workloads {
    service: Arc<Service>,
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
        };
        Ok((peer, until))
    }
}
