//! A connection whose handshake is done: who is at the other end, and an end of its own when that time is over.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use strongroom_runtime::Greeting;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::grpc::Until;

/// How often a connection looks at the clock, which can be turned; each call looks by itself.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection of a peer that was let in.
#[derive(Debug)]
pub(super) struct Connection<P> {
    stream: Box<TlsStream<TcpStream>>,
    peer: P,
    until: Until,
    greeting: Greeting,
    looks: Interval,
    /// Given back when the connection ends.
    _place: super::sources::Place,
}

impl<P> Connection<P> {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        peer: P,
        until: Until,
        place: super::sources::Place,
    ) -> Self {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stream: Box::new(stream),
            peer,
            until,
            greeting: Greeting::awaited(),
            looks,
            _place: place,
        }
    }

    /// Ready with an error once the peer's time is over; wakes the task up to look again.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.looks.poll_tick(cx));
            if self.until.has_passed() {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "the peer's time is over",
                ));
            }
        }
    }
}

impl<P: Clone + Send + Sync + 'static> Connected for Connection<P> {
    type ConnectInfo = P;

    fn connect_info(&self) -> P {
        self.peer.clone()
    }
}

impl<P: Unpin> AsyncRead for Connection<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A server always reads, so that this is looked at whether the peer sends or not.
        if let Poll::Ready(error) = self.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
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

impl<P: Unpin> AsyncWrite for Connection<P> {
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
