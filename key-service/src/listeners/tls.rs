//! TLS 1.3: bounded handshakes, a certificate of our own that is renewed, and who is at the other end.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use prometheus::IntCounterVec;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use strongroom_core::Clock;
use strongroom_runtime::{Chain, metrics::Metrics};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    ListenError,
    connection::Connection,
    sources::{Place, Quota, Refusal, Sources},
};
use crate::{grpc::Until, pki::PkiError};

/// Handshakes that are not finished, at some 40 KiB each. One that waits for its peer costs nothing else; what it costs
/// when the peer answers, 0.7 ms of a core, is bounded by the rate of its source.
const HANDSHAKES_MAX: usize = 256;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that wait to be served.
const BACKLOG: usize = 64;
/// The server's certificate counts for a day and is replaced three times in it.
const RENEW_INTERVAL: Duration = Duration::from_secs(8 * 3600);
/// How often the clock is looked at: a machine may have slept, and its clock been set.
const RENEW_LOOK: Duration = Duration::from_secs(2);
/// How soon a renewal that failed is tried again.
const RENEW_RETRY: Duration = Duration::from_secs(60);

/// What differs between the TLS ports.
pub(super) trait Port: Send + Sync + 'static {
    /// What calls learn about their connection.
    type Peer: Clone + Send + Sync + Unpin + 'static;

    /// Time.
    fn clock(&self) -> &dyn Clock;

    /// What a source may have.
    fn quota(&self) -> Quota;

    /// A certificate for the server.
    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError>;

    /// Whom the handshake lets in.
    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError>;

    /// Who is at the other end, and for how long; or that he has no business here.
    fn identify(
        &self,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<(Self::Peer, Until), Refusal>;
}

/// Connections that were let in.
pub(super) type Incoming<P> = ReceiverStream<Result<Connection<P>, io::Error>>;

/// A bound port, before anybody is accepted.
pub(super) struct Listener<P: Port> {
    port: Arc<P>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    leaf: Arc<Leaf>,
    sources: Sources,
    refused: Refused,
    sender: mpsc::Sender<Result<Connection<P::Peer>, io::Error>>,
}

/// Binds an address.
pub(super) async fn bind<P: Port>(
    address: SocketAddr,
    port: P,
    metrics: &Metrics,
) -> Result<(Listener<P>, Incoming<P::Peer>), ListenError> {
    let leaf = port
        .leaf()
        .map_err(|error| ListenError::Tls(error.into()))?;
    let leaf = Arc::new(Leaf(RwLock::new(leaf)));
    let config = port.tls(leaf.clone())?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| ListenError::Address(address, error))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving TLS");
    }
    let quota = port.quota();
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let listener = Listener {
        port: Arc::new(port),
        listener,
        sources: Sources::new(quota),
        refused: Refused::new(metrics),
        acceptor: TlsAcceptor::from(Arc::new(config)),
        leaf,
        sender,
    };
    Ok((listener, ReceiverStream::new(receiver)))
}

/// Counts connections that were refused before any call. Nobody is known yet, so that they are in no audit log.
#[derive(Clone, Debug)]
struct Refused(IntCounterVec);

impl Refused {
    /// Registers the counter of a port: `strongroom_<port>_connections_refused_total`.
    fn new(metrics: &Metrics) -> Self {
        Self(metrics.counters(
            "connections_refused_total",
            "Connections that were refused before any call.",
            "reason",
            &Refusal::ALL.map(Refusal::reason),
        ))
    }

    fn count(&self, refusal: Refusal) {
        self.0.with_label_values(&[refusal.reason()]).inc();
    }
}

/// The leaf in force; connections that are open keep theirs.
#[derive(Debug)]
struct Leaf(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

impl<P: Port> Listener<P> {
    /// Accepts connections and renews the server's certificate until the shutdown resolves.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = self.accept() => {}
            () = self.renew() => {}
            () = shutdown => {}
        }
    }

    async fn renew(&self) {
        let mut made = self.port.clock().now();
        loop {
            tokio::time::sleep(RENEW_LOOK).await;
            let now = self.port.clock().now();
            // A clock that was set back may be before the certificate's first moment.
            if now >= made && now.since(made) < RENEW_INTERVAL {
                continue;
            }
            match self.port.leaf() {
                Ok(next) => {
                    *self.leaf.0.write().unwrap_or_else(PoisonError::into_inner) = next;
                    made = now;
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "the server's certificate was not renewed");
                    tokio::time::sleep(RENEW_RETRY).await;
                }
            }
        }
    }

    async fn accept(&self) {
        let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut handshakes = JoinSet::new();
        loop {
            let slot = slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let (stream, source) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone at once: neither ends the listener.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            while handshakes.try_join_next().is_some() {}
            let now = self.port.clock().elapsed();
            let place = match self.sources.admit(source.ip(), now) {
                Ok(place) => place,
                Err(refusal) => {
                    self.refused.count(refusal);
                    continue;
                }
            };
            let (acceptor, port) = (self.acceptor.clone(), self.port.clone());
            let (sender, refused) = (self.sender.clone(), self.refused.clone());
            handshakes.spawn(async move {
                let greeting = greet(&*port, &acceptor, stream, place);
                let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting).await;
                drop(slot);
                match greeted.unwrap_or(Err(Refusal::Handshake)) {
                    // An error means that the server has ended.
                    Ok(connection) => drop(sender.send(Ok(connection)).await),
                    Err(refusal) => refused.count(refusal),
                }
            });
        }
    }
}

async fn greet<P: Port>(
    port: &P,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    mut place: Place,
) -> Result<Connection<P::Peer>, Refusal> {
    let failed = |error: io::Error| {
        tracing::debug!(%error, "handshake failed");
        Refusal::Handshake
    };
    stream.set_nodelay(true).map_err(failed)?;
    let stream = acceptor.accept(stream).await.map_err(failed)?;
    place.greet();
    let certificates = stream.get_ref().1.peer_certificates();
    let (peer, until) = port.identify(certificates.and_then(<[_]>::first))?;
    Ok(Connection::new(stream, peer, until, place))
}
