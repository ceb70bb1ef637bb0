//! Streams whose events are made within them, so that both end together.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Where what runs in a stream puts its events.
pub(super) type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// The events of one stream, with what makes them.
pub(crate) struct Running<T> {
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waiting: mpsc::Receiver<Result<T, Status>>,
}

impl<T> Running<T> {
    /// A stream in which so many events wait for a slow reader; then nothing more is made until it reads.
    pub(super) fn new<F>(events_waiting: usize, run: impl FnOnce(Sender<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, waiting) = mpsc::channel(events_waiting);
        Self {
            run: Some(Box::pin(run(sender))),
            waiting,
        }
    }
}

impl<T> Stream for Running<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(run) = &mut self.run
            && run.as_mut().poll(cx).is_ready()
        {
            self.run = None;
        }
        self.waiting.poll_recv(cx)
    }
}
