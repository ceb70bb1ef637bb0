//! Native gRPC over TLS, for administrators and applications: everybody shows a certificate, and no node has one of those.

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::v1::{
    clock_server, crypto_server, instance_server, keys_server, nodes_server, secrets_server,
};
use strongroom_auth::{IdentityError, identity, not_after, server_tls};
use strongroom_core::{CertificateIdentity, Clock};
use strongroom_runtime::{Condition, Handle, descriptors, limits::Limits};

use super::{
    ListenError, Serving,
    guard::Guard,
    methods,
    observe::Observe,
    shares::{Bounds, ByCaller, Calls, Share, Shares, Sharing},
    sources::{Quota, Refusal},
    tls::{self, Port},
    while_serving,
};
use crate::{
    config::Config,
    grpc::{
        ClockServer, CryptoServer, InstanceServer, KeysServer, NodesServer, SecretsServer,
        TlsIdentity, Until,
    },
    pki::PkiError,
    service::Service,
};

/// A plaintext of 64 KiB, its context and the framing fit.
const LIMITS: Limits = Limits {
    streams_per_connection: 256,
    concurrent_requests: 1024,
    queue_wait: Duration::from_secs(1),
    request_timeout: Duration::from_secs(30),
    message_bytes: 128 * 1024,
};

/// Behind one address may be many: the pods of a node, or all clients of a load balancer.
const QUOTA: Quota = Quota {
    burst: 200,
    interval: Duration::from_millis(10),
    handshakes: 64,
    connections: 1024,
    total: CONNECTIONS_MAX,
    sources: 4096,
};

/// Descriptors of this port, as far as half of those that the process may have go: the rest is for the plugin's listeners,
/// the store and the audit log.
const CONNECTIONS_MAX: u32 = 2048;

/// One name may stand for all pods of an application.
const BOUNDS: Bounds = Bounds {
    connections: 512,
    calls: Calls::Together(256),
};

/// Serves native gRPC over TLS 1.3.
pub(crate) async fn spawn_tls(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let ready: Condition = handle.readiness.condition("tls");
    let (listener, incoming) = {
        let port = Native {
            service: service.clone(),
            total: CONNECTIONS_MAX.min(descriptors::raise() / 2),
            shares: Shares::default(),
        };
        tls::bind(config.listen, port, &handle.metrics.component("tls")).await?
    };
    let accept = listener.run(handle.shutdown());
    handle.spawn("tls-accept", async move {
        accept.await;
        Ok::<(), std::convert::Infallible>(())
    });
    let keys = keys_server::KeysServer::new(KeysServer(service.clone()));
    let crypto = crypto_server::CryptoServer::new(CryptoServer(service.clone()));
    let nodes = nodes_server::NodesServer::new(NodesServer(service.clone()));
    let secrets = secrets_server::SecretsServer::new(SecretsServer(service.clone()));
    let clock = clock_server::ClockServer::new(ClockServer(service.clone()));
    let guard = Guard(service.fence.clone());
    let instance = InstanceServer {
        service,
        readiness: handle.readiness.clone(),
    };
    let serve = LIMITS
        .server()
        .layer(Observe::new(&handle.metrics, "tls", methods::NATIVE))
        .layer(guard)
        .layer(ByCaller::<TlsIdentity>::new())
        .layer(LIMITS.concurrency())
        .add_service(keys.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(crypto.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(secrets.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(nodes.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(clock.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(instance_server::InstanceServer::new(instance))
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("tls", while_serving(serve, serving));
    ready.met();
    Ok(())
}

struct Native {
    service: Arc<Service>,
    total: u32,
    shares: Shares,
}

impl Sharing for TlsIdentity {
    fn share(&self) -> &Share {
        &self.share
    }
}

impl Native {
    fn read(
        &self,
        leaf: &CertificateDer<'_>,
    ) -> Result<(CertificateIdentity, Until), IdentityError> {
        let until = Until::not_after(self.service.clock.clone(), not_after(leaf)?);
        Ok((identity(leaf)?, until))
    }
}

impl Port for Native {
    type Peer = TlsIdentity;

    fn clock(&self) -> &dyn Clock {
        &*self.service.clock
    }

    fn quota(&self) -> Quota {
        Quota {
            total: self.total,
            ..QUOTA
        }
    }

    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        self.service.issuer.server_leaf(self.service.clock.now())
    }

    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError> {
        let Service { issuer, clock, .. } = &*self.service;
        server_tls(leaf, issuer.client_anchor(), clock.clone())
            .map_err(|error| ListenError::Tls(error.into()))
    }

    fn identify(
        &self,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<(TlsIdentity, Until), Refusal> {
        let leaf = certificate.ok_or(Refusal::Certificate)?;
        let (identity, until) = self.read(leaf).map_err(|error| {
            tracing::debug!(%error, "client certificate refused");
            Refusal::Certificate
        })?;
        let share = self.shares.admit(&identity.name, BOUNDS);
        let peer = TlsIdentity {
            identity,
            until: until.clone(),
            share: share.ok_or(Refusal::Caller)?,
        };
        Ok((peer, until))
    }
}
