//! TLS 1.3 with client certificates: bounded handshakes, and the verified identity on each connection.

use std::{
    io,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use strongroom_auth::{identity, server_tls};
use strongroom_core::CertificateIdentity;
use strongroom_runtime::{Chain, Handle};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::ListenError;
use crate::{grpc::TlsIdentity, service::Service};

/// A handshake costs 0.7 ms of a core; so many run at a time.
const HANDSHAKES_MAX: usize = 32;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that wait to be served.
const BACKLOG: usize = 64;
/// The server's certificate counts for a day and is replaced three times in it.
const RENEW_INTERVAL: Duration = Duration::from_secs(8 * 3600);
/// How soon a renewal that failed is tried again.
const RENEW_RETRY: Duration = Duration::from_secs(60);

/// Binds the address and returns the stream of verified connections.
pub(super) async fn listen(
    address: std::net::SocketAddr,
    handle: &Handle,
    service: &Arc<Service>,
) -> Result<ReceiverStream<Result<Connection, io::Error>>, ListenError> {
    let leaf = service
        .issuer
        .server_leaf(service.clock.now())
        .map_err(|error| ListenError::Tls(error.into()))?;
    let resolver = Arc::new(Leaf(RwLock::new(leaf)));
    let config = server_tls(
        resolver.clone(),
        service.issuer.client_anchor(),
        service.clock.clone(),
    )
    .map_err(|error| ListenError::Tls(error.into()))?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| ListenError::Address(address, error))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving TLS");
    }
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    handle.spawn(
        "tls-accept",
        accept(listener, acceptor, sender, handle.shutdown()),
    );
    handle.spawn(
        "tls-renew",
        renew(service.clone(), resolver, handle.shutdown()),
    );
    Ok(ReceiverStream::new(receiver))
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

async fn renew(
    service: Arc<Service>,
    leaf: Arc<Leaf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), std::convert::Infallible> {
    tokio::pin!(shutdown);
    let mut wait = RENEW_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = &mut shutdown => return Ok(()),
        }
        wait = match service.issuer.server_leaf(service.clock.now()) {
            Ok(next) => {
                *leaf.0.write().unwrap_or_else(PoisonError::into_inner) = next;
                RENEW_INTERVAL
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the server's certificate was not renewed");
                RENEW_RETRY
            }
        };
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<Result<Connection, io::Error>>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::pin!(shutdown);
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone at once: neither ends the listener.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut shutdown => return Ok(()),
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        handshakes.spawn(async move {
            let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greet(&acceptor, stream)).await;
            drop(slot);
            if let Ok(Some(connection)) = greeted {
                // An error means that the server has ended.
                let _ = sender.send(Ok(connection)).await;
            }
        });
        while handshakes.try_join_next().is_some() {}
    }
}

async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<Connection> {
    stream.set_nodelay(true).ok()?;
    let stream = acceptor
        .accept(stream)
        .await
        .inspect_err(|error| tracing::debug!(%error, "handshake failed"))
        .ok()?;
    let leaf = stream.get_ref().1.peer_certificates()?.first()?.clone();
    let identity = identity(&leaf)
        .inspect_err(|error| tracing::debug!(%error, "client certificate refused"))
        .ok()?;
    Some(Connection {
        stream: Box::new(stream),
        identity,
    })
}

/// A connection whose client certificate was verified.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Box<TlsStream<TcpStream>>,
    identity: CertificateIdentity,
}

impl Connected for Connection {
    type ConnectInfo = TlsIdentity;

    fn connect_info(&self) -> TlsIdentity {
        TlsIdentity(self.identity.clone())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
