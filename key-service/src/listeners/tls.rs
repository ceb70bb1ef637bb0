//! TLS 1.3: bounded handshakes, a certificate of our own that is renewed, and who is at the other end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use strongroom_core::UnixMillis;
use strongroom_runtime::Chain;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{ListenError, connection::Connection, sources::Place};
use crate::{grpc::Until, pki::PkiError};

/// A handshake costs 0.7 ms of a core; so many run at a time.
const HANDSHAKES_MAX: usize = 32;
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

    /// The time.
    fn now(&self) -> UnixMillis;

    /// A certificate for the server.
    fn leaf(&self) -> Result<Arc<CertifiedKey>, PkiError>;

    /// Whom the handshake lets in.
    fn tls(&self, leaf: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, ListenError>;

    /// Lets a source begin a handshake, or not.
    fn admit(&self, source: IpAddr) -> Option<Place>;

    /// Who is at the other end, and for how long; none for somebody who has no business here.
    fn identify(&self, certificate: Option<&CertificateDer<'_>>) -> Option<(Self::Peer, Until)>;
}

/// Connections that were let in.
pub(super) type Incoming<P> = ReceiverStream<Result<Connection<P>, io::Error>>;

/// A bound port, before anybody is accepted.
pub(super) struct Listener<P: Port> {
    port: Arc<P>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    leaf: Arc<Leaf>,
    sender: mpsc::Sender<Result<Connection<P::Peer>, io::Error>>,
}

/// Binds an address.
pub(super) async fn bind<P: Port>(
    address: SocketAddr,
    port: P,
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
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let listener = Listener {
        port: Arc::new(port),
        listener,
        acceptor: TlsAcceptor::from(Arc::new(config)),
        leaf,
        sender,
    };
    Ok((listener, ReceiverStream::new(receiver)))
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
        let mut made = self.port.now();
        loop {
            tokio::time::sleep(RENEW_LOOK).await;
            let now = self.port.now();
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
            let Some(place) = self.port.admit(source.ip()) else {
                continue;
            };
            let (acceptor, port) = (self.acceptor.clone(), self.port.clone());
            let sender = self.sender.clone();
            handshakes.spawn(async move {
                let greeting = greet(&*port, &acceptor, stream, place);
                let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting).await;
                drop(slot);
                if let Ok(Some(connection)) = greeted {
                    // An error means that the server has ended.
                    let _ = sender.send(Ok(connection)).await;
                }
            });
            while handshakes.try_join_next().is_some() {}
        }
    }
}

async fn greet<P: Port>(
    port: &P,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    place: Place,
) -> Option<Connection<P::Peer>> {
    stream.set_nodelay(true).ok()?;
    let stream = acceptor
        .accept(stream)
        .await
        .inspect_err(|error| tracing::debug!(%error, "handshake failed"))
        .ok()?;
    let certificates = stream.get_ref().1.peer_certificates();
    let (peer, until) = port.identify(certificates.and_then(<[_]>::first))?;
    Some(Connection::new(stream, peer, until, place))
}
