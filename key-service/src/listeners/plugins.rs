//! The TLS port for plugins of other control-plane nodes, on a thread of its own like the plugin's socket: certificates
//! of nodes, and for a short while strangers who are about to enrol.

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use strongroom_api::strongroom::kms::v1::{etcd_keys_server, node_certificates_server};
use strongroom_auth::{IdentityError, enrolling_server_tls, node_credential, not_after};
use strongroom_core::{Clock, InstanceId, NodeCredential};
use strongroom_runtime::{Handle, limits::Limits, tasks::TaskFailure};

use super::{
    KMS_LIMITS, ListenError, Serving,
    guard::Guard,
    methods,
    observe::Observe,
    shares::{Bounds, ByCaller, Calls, Share, Shares, Sharing},
    sources::{Quota, Refusal},
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
    handshakes: 4,
    connections: 4,
    total: 1024,
    // Far more than there are control-plane nodes; an entry is 50 bytes.
    sources: 4096,
};

/// As on the socket, for each of several nodes.
const LIMITS: Limits = Limits {
    concurrent_requests: 512,
    ..KMS_LIMITS
};

/// One plugin, which may have been restarted a moment ago.
const NODE: Bounds = Bounds {
    connections: 8,
    calls: Calls::Together(KMS_LIMITS.concurrent_requests),
};

/// All who have no certificate yet. One of them asks once.
const STRANGERS: Bounds = Bounds {
    connections: 64,
    calls: Calls::Each(2),
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
    let observe = Observe::new(&handle.metrics, "plugins", methods::PLUGINS);
    let guard = Guard(service.fence.clone());
    let port = Plugins::new(service.clone());
    let metrics = handle.metrics.component("plugins");
    let (address, shutdown) = (plugins.listen, handle.shutdown());
    let accept_until = handle.shutdown();
    let serve = async move {
        let (listener, incoming) = tls::bind(address, port, &metrics).await?;
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
        let mut server = LIMITS
            .server()
            .layer(observe)
            .layer(guard)
            .layer(ByCaller::<PluginPeer>::new())
            .layer(LIMITS.concurrency());
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
    shares: Shares,
}

impl Sharing for PluginPeer {
    fn share(&self) -> &Share {
        &self.share
    }
}

impl Plugins {
    fn new(service: Arc<Service>) -> Self {
        Self {
            instance: service.registry.instance().id,
            clock: service.clock.clone(),
            service,
            shares: Shares::default(),
        }
    }

    /// The node and the end of a certificate; none for a stranger.
    fn read(
        &self,
        leaf: Option<&CertificateDer<'_>>,
    ) -> Result<(Option<NodeCredential>, Until), IdentityError> {
        let Some(leaf) = leaf else {
            return Ok((None, Until::elapsed(self.clock.clone(), STRANGER_LIFETIME)));
        };
        let credential = node_credential(leaf, self.instance)?;
        let until = Until::not_after(self.clock.clone(), not_after(leaf)?);
        Ok((Some(credential), until))
    }

    fn share(&self, credential: Option<&NodeCredential>) -> Option<Share> {
        match credential {
            // A node has a name.
            None => self.shares.admit("", STRANGERS),
            Some(credential) => self
                .shares
                .admit(&credential.identity.node.to_string(), NODE),
        }
    }
}

impl Port for Plugins {
    type Peer = PluginPeer;

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn quota(&self) -> Quota {
        QUOTA
    }

    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        self.service.issuer.server_leaf_with_root(self.clock.now())
    }

    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError> {
        let anchor = self.service.issuer.client_anchor();
        enrolling_server_tls(leaf, anchor, self.clock.clone())
            .map_err(|error| ListenError::Tls(error.into()))
    }

    fn identify(
        &self,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<(PluginPeer, Until), Refusal> {
        let (credential, until) = self.read(certificate).map_err(|error| {
            tracing::debug!(%error, "certificate refused");
            Refusal::Certificate
        })?;
        let share = self.share(credential.as_ref());
        let peer = PluginPeer {
            credential,
            until: until.clone(),
            share: share.ok_or(Refusal::Caller)?,
        };
        Ok((peer, until))
    }
}
