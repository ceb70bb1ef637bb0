//! Accepts connections of allowed peers only. A stream of these fits tonic's `serve_with_incoming`; handlers find the
//! [`Peer`] in the request's extensions.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, net::UnixListener as StdListener},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::Peers;
use crate::Greeting;

/// Connections at a time; more wait in the backlog. An API server keeps one or two.
pub const MAX_CONNECTIONS: usize = 256;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One line for this many refusals after the first: a peer that insists must not fill the disk.
const LOG_EVERY: u64 = 1000;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The uid of the process that connected, as it was at that moment.
    pub uid: u32,
    /// Its process id; a hint for logs, since ids are used again.
    pub pid: Option<i32>,
}

/// Counts the peers that were refused. A clone is another handle to the same count.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// How many were refused since the start.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn refuse(&self, uid: Option<u32>) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(LOG_EVERY) {
            tracing::warn!(uid, refused = before + 1, "socket peer refused");
        }
    }
}

/// The accepted connections of a listener; ends never, and never yields an error. Dropping it removes the socket,
/// unless a successor has replaced it.
#[derive(Debug)]
pub struct Incoming {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    peers: Peers,
    refusals: Refusals,
    slots: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(
        listener: StdListener,
        path: PathBuf,
        inode: u64,
        peers: Peers,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            path,
            inode,
            peers,
            refusals: Refusals::default(),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            pause: None,
        })
    }

    /// Returns the count of refused peers.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    fn admit(&self, stream: UnixStream, slot: OwnedSemaphorePermit) -> Option<PeerStream> {
        let Ok(credentials) = stream.peer_cred() else {
            self.refusals.refuse(None);
            return None;
        };
        let peer = Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        if self.peers.allows(peer.uid) {
            return Some(PeerStream::new(stream, peer, slot));
        }
        self.refusals.refuse(Some(peer.uid));
        None
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl Stream for Incoming {
    type Item = io::Result<PeerStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            ready!(self.poll_pause(cx));
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                continue;
            };
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    if let Some(stream) = self.admit(stream, slot) {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                }
                // Out of descriptors, most likely: those in use come back.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A connection of an allowed peer.
#[derive(Debug)]
pub struct PeerStream {
    stream: UnixStream,
    peer: Peer,
    greeting: Greeting,
    _slot: OwnedSemaphorePermit,
}

impl PeerStream {
    fn new(stream: UnixStream, peer: Peer, slot: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            peer,
            greeting: Greeting::awaited(),
            _slot: slot,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            ready!(self.greeting.poll_late(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.greeting.read(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for PeerStream {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
