//! What a peer owes before it counts as a client of gRPC: the preface of HTTP/2, soon. A connection that says nothing
//! would otherwise be kept for ever.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// A peer that has not sent the preface by then is not one of ours.
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES: usize = 24;

/// The preface that is still awaited, if it is.
#[derive(Debug)]
pub struct Greeting(Option<Awaited>);

#[derive(Debug)]
struct Awaited {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Greeting {
    /// Awaits it from now on. Must be called within a runtime.
    #[must_use]
    pub fn awaited() -> Self {
        Self(Some(Awaited {
            missing: BYTES,
            deadline: Box::pin(sleep(TIMEOUT)),
        }))
    }

    /// Counts bytes that were read.
    pub fn read(&mut self, bytes: usize) {
        if let Some(awaited) = &mut self.0 {
            awaited.missing = awaited.missing.saturating_sub(bytes);
            if awaited.missing == 0 {
                self.0 = None;
            }
        }
    }

    /// Ready when it is too late; asked whenever nothing could be read.
    pub fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(awaited) = &mut self.0 else {
            return Poll::Pending;
        };
        ready!(awaited.deadline.as_mut().poll(cx));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_preface_that_does_not_come_whole_is_late() {
        let mut greeting = Greeting::awaited();
        greeting.read(BYTES - 1);
        let start = Instant::now();
        poll_fn(|cx| greeting.poll_late(cx)).await;
        assert_eq!(start.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_late_after_the_preface() {
        let mut greeting = Greeting::awaited();
        greeting.read(BYTES - 1);
        greeting.read(1);
        let late = timeout(TIMEOUT * 10, poll_fn(|cx| greeting.poll_late(cx)));
        assert!(late.await.is_err());
    }
}
