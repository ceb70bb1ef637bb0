//! Native gRPC over TLS, for administrators and applications: everybody shows a certificate, and no node has one of those.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::v1::{
    crypto_server, instance_server, keys_server, nodes_server, secrets_server,
};
use strongroom_auth::{IdentityError, identity, not_after, server_tls};
use strongroom_core::UnixMillis;
use strongroom_runtime::{Condition, Handle, limits::Limits};

use super::{
    ListenError, Serving,
    observe::Observe,
    sources::Place,
    tls::{self, Port},
    while_serving,
};
use crate::{
    config::Config,
    grpc::{
        CryptoServer, InstanceServer, KeysServer, NodesServer, SecretsServer, TlsIdentity, Until,
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

/// Serves native gRPC over TLS 1.3.
pub(crate) async fn spawn_tls(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let ready: Condition = handle.readiness.condition("tls");
    let (listener, incoming) = tls::bind(config.listen, Native(service.clone())).await?;
    let accept = listener.run(handle.shutdown());
    handle.spawn("tls-accept", async move {
        accept.await;
        Ok::<(), std::convert::Infallible>(())
    });
    let keys = keys_server::KeysServer::new(KeysServer(service.clone()));
    let crypto = crypto_server::CryptoServer::new(CryptoServer(service.clone()));
    let nodes = nodes_server::NodesServer::new(NodesServer(service.clone()));
    let secrets = secrets_server::SecretsServer::new(SecretsServer(service.clone()));
    let instance = InstanceServer {
        service,
        readiness: handle.readiness.clone(),
    };
    let serve = LIMITS
        .server()
        .layer(Observe::new(&handle.metrics, "tls"))
        .layer(LIMITS.concurrency())
        .add_service(keys.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(crypto.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(secrets.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(nodes.max_decoding_message_size(LIMITS.message_bytes))
        .add_service(instance_server::InstanceServer::new(instance))
        .serve_with_incoming_shutdown(incoming, handle.shutdown());
    handle.spawn("tls", while_serving(serve, serving));
    ready.met();
    Ok(())
}

struct Native(Arc<Service>);

impl Native {
    fn read(&self, leaf: &CertificateDer<'_>) -> Result<TlsIdentity, IdentityError> {
        Ok(TlsIdentity {
            identity: identity(leaf)?,
            until: Until::not_after(self.0.clock.clone(), not_after(leaf)?),
        })
    }
}

impl Port for Native {
    type Peer = TlsIdentity;

    fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        self.0.issuer.server_leaf(self.0.clock.now())
    }

    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError> {
        server_tls(leaf, self.0.issuer.client_anchor(), self.0.clock.clone())
            .map_err(|error| ListenError::Tls(error.into()))
    }

    fn admit(&self, _: IpAddr) -> Option<Place> {
        Some(Place::unbounded())
    }

    fn identify(&self, certificate: Option<&CertificateDer<'_>>) -> Option<(TlsIdentity, Until)> {
        let identity = self
            .read(certificate?)
            .inspect_err(|error| tracing::debug!(%error, "client certificate refused"))
            .ok()?;
        let until = identity.until.clone();
        Some((identity, until))
    }
}
