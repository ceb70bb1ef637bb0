//! The TLS port for plugins of other control-plane nodes, on a thread of its own like the plugin's socket: certificates
//! of nodes, and for a short while strangers who are about to enrol.

use std::{net::IpAddr, sync::Arc, time::Duration};

use prometheus::IntCounterVec;
use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::kms::v1::{etcd_keys_server, node_certificates_server};
use strongroom_auth::{IdentityError, enrolling_server_tls, node_credential, not_after};
use strongroom_core::{Clock, InstanceId, UnixMillis};
use strongroom_runtime::{Handle, tasks::TaskFailure};

use super::{
    KMS_LIMITS, ListenError, Serving,
    observe::Observe,
    sources::{Place, Quota, Refusal, Sources},
    tls::{self, Port},
};
use crate::{
    config::Config,
    grpc::{Door, EtcdKeysServer, NodeCertificatesServer, PluginPeer, Until},
    pki::PkiError,
    service::Service,
};

/// A request for a certificate has at most 16 KiB, and little stands beside it.
const CERTIFICATE_MESSAGE_BYTES: usize = 20 * 1024;

/// One source is one node with one plugin. It connects anew after a loss, at most twice a second with its backoff, and
/// an enrolment beside it is one more; a source that does more than that is no plugin.
const QUOTA: Quota = Quota {
    burst: 20,
    interval: Duration::from_millis(500),
    connections: 4,
    // Far more than there are control-plane nodes; an entry is 50 bytes.
    sources: 4096,
};

/// An enrolment is one call. Who has not made it after this time is sent away.
const STRANGER_LIFETIME: Duration = Duration::from_secs(10);

/// Serves plugins of other nodes, where the configuration says so.
pub(crate) fn spawn_plugins(
    config: &Config,
    handle: &Handle,
    service: Arc<Service>,
    serving: Serving,
) -> Result<(), ListenError> {
    let Some(plugins) = &config.plugins else {
        return Ok(());
    };
    let ready = handle.readiness.condition("plugins");
    let observe = Observe::new(&handle.metrics, "plugins");
    let port = Plugins::new(service.clone(), handle);
    let (address, shutdown) = (plugins.listen, handle.shutdown());
    let accept_until = handle.shutdown();
    let serve = async move {
        let (listener, incoming) = tls::bind(address, port).await?;
        let etcd_keys = EtcdKeysServer {
            service: service.clone(),
            door: Door::Tls,
        };
        let etcd_keys = etcd_keys_server::EtcdKeysServer::new(etcd_keys)
            .max_decoding_message_size(KMS_LIMITS.message_bytes);
        let certificates = NodeCertificatesServer::new(service);
        let certificates = node_certificates_server::NodeCertificatesServer::new(certificates)
            .max_decoding_message_size(CERTIFICATE_MESSAGE_BYTES);
        ready.met();
        let mut server = KMS_LIMITS
            .server()
            .layer(observe)
            .layer(KMS_LIMITS.concurrency());
        let served = server
            .add_service(etcd_keys)
            .add_service(certificates)
            .serve_with_incoming_shutdown(incoming, shutdown);
        let ((), served) = tokio::join!(listener.run(accept_until), served);
        served?;
        drop(serving);
        Ok::<(), TaskFailure>(())
    };
    handle
        .tasks
        .spawn_thread("plugins", serve)
        .map_err(|error| ListenError::Thread("plugins", error))
}

struct Plugins {
    service: Arc<Service>,
    instance: InstanceId,
    clock: Arc<dyn Clock>,
    sources: Sources,
    refused: IntCounterVec,
}

/// Why a connection was refused by what its handshake showed.
const CERTIFICATE: &str = "certificate";

impl Plugins {
    fn new(service: Arc<Service>, handle: &Handle) -> Self {
        let mut reasons = Refusal::ALL.map(Refusal::reason).to_vec();
        reasons.push(CERTIFICATE);
        Self {
            instance: service.registry.instance().id,
            clock: service.clock.clone(),
            service,
            sources: Sources::new(QUOTA),
            refused: handle.metrics.component("plugins").counters(
                "connections_refused_total",
                "Connections that were refused before any call.",
                "reason",
                &reasons,
            ),
        }
    }

    fn read(&self, leaf: &CertificateDer<'_>) -> Result<PluginPeer, IdentityError> {
        Ok(PluginPeer {
            credential: Some(node_credential(leaf, self.instance)?),
            until: Until::not_after(self.clock.clone(), not_after(leaf)?),
        })
    }
}

impl Port for Plugins {
    type Peer = PluginPeer;

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        self.service.issuer.server_leaf_with_root(self.clock.now())
    }

    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError> {
        let anchor = self.service.issuer.client_anchor();
        enrolling_server_tls(leaf, anchor, self.clock.clone())
            .map_err(|error| ListenError::Tls(error.into()))
    }

    fn admit(&self, source: IpAddr) -> Option<Place> {
        let admitted = self.sources.admit(source, self.clock.elapsed());
        if let Err(refusal) = &admitted {
            self.refused.with_label_values(&[refusal.reason()]).inc();
        }
        admitted.ok()
    }

    fn identify(&self, certificate: Option<&CertificateDer<'_>>) -> Option<(PluginPeer, Until)> {
        let Some(leaf) = certificate else {
            let until = Until::elapsed(self.clock.clone(), STRANGER_LIFETIME);
            let peer = PluginPeer {
                credential: None,
                until: until.clone(),
            };
            return Some((peer, until));
        };
        let peer = self
            .read(leaf)
            .inspect_err(|error| {
                self.refused.with_label_values(&[CERTIFICATE]).inc();
                tracing::debug!(%error, "certificate refused");
            })
            .ok()?;
        let until = peer.until.clone();
        Some((peer, until))
    }
}
