//! The recent changes of a store that lives in this process, and those who watch them.
//!
//! Watchers pull from one bounded history instead of having queues of their own, so a slow one costs nothing: when the
//! history has moved past it, its watch ends as compacted.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio_stream::Stream;

use crate::{Batch, Event, Revision, WatchEnd, WatchStream};

/// The most bytes of keys and values that the history keeps, however few revisions they are.
const MAX_HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// How many revisions an engine keeps for watchers that are behind, unless told otherwise.
pub(crate) const DEFAULT_HISTORY: usize = 4096;

/// History and watchers.
#[derive(Debug)]
pub(crate) struct Feed {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: Revision,
    history: VecDeque<Batch>,
    max_revisions: usize,
    bytes: usize,
    compacted: Revision,
    /// Nothing above it is delivered while it is set.
    horizon: Option<Revision>,
    /// Watchers of an earlier generation are lost.
    generation: u64,
    next_watcher: u64,
    wakers: HashMap<u64, Waker>,
}

impl Feed {
    /// Starts at `head`; what came before it counts as compacted.
    pub(crate) fn new(head: Revision, max_revisions: usize) -> Arc<Self> {
        let state = State {
            head,
            history: VecDeque::new(),
            max_revisions,
            bytes: 0,
            compacted: head,
            horizon: None,
            generation: 0,
            next_watcher: 0,
            wakers: HashMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// The revision of the newest batch.
    pub(crate) fn head(&self) -> Revision {
        self.lock().head
    }

    /// Appends the batch of the next revision.
    pub(crate) fn publish(&self, batch: Batch) {
        let mut state = self.lock();
        state.head = batch.revision;
        state.bytes += bytes(&batch);
        state.history.push_back(batch);
        state.trim();
        state.wake();
    }

    /// Forgets all revisions up to this one.
    pub(crate) fn compact(&self, through: Revision) {
        let mut state = self.lock();
        while state
            .history
            .front()
            .is_some_and(|batch| batch.revision <= through)
        {
            state.drop_oldest();
        }
        state.compacted = state.compacted.max(through);
        state.wake();
    }

    /// Delivers nothing newer than the present head until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        let mut state = self.lock();
        state.horizon = Some(state.head);
    }

    /// Delivers what was held back.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.horizon = None;
        state.wake();
    }

    /// Ends all watches with [`WatchEnd::Lost`].
    pub(crate) fn lose(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.wake();
    }

    /// Starts a watch.
    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> WatchStream {
        let mut state = self.lock();
        let id = state.next_watcher;
        state.next_watcher += 1;
        let watcher = Watcher {
            feed: Arc::clone(self),
            id,
            generation: state.generation,
            prefix: prefix.to_owned(),
            seen: after,
            ended: false,
        };
        WatchStream::new(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn trim(&mut self) {
        while self.history.len() > self.max_revisions || self.bytes > MAX_HISTORY_BYTES {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(batch) = self.history.pop_front() {
            self.bytes -= bytes(&batch);
            self.compacted = batch.revision;
        }
    }

    fn wake(&mut self) {
        for (_, waker) in self.wakers.drain() {
            waker.wake();
        }
    }

    /// Finds the next batch for a watcher and how far it has seen after it.
    fn next(&self, prefix: &str, seen: Revision) -> (Revision, Option<Batch>) {
        let start = self.history.partition_point(|batch| batch.revision <= seen);
        let mut seen = seen;
        for batch in self.history.range(start..) {
            if self.horizon.is_some_and(|horizon| batch.revision > horizon) {
                break;
            }
            seen = batch.revision;
            if let Some(batch) = batch.filtered(prefix) {
                return (seen, Some(batch));
            }
        }
        (seen, None)
    }
}

fn bytes(batch: &Batch) -> usize {
    let event_bytes = |event: &Event| match event {
        Event::Put(entry) => entry.key.as_str().len() + entry.value.len(),
        Event::Deleted(key) => key.as_str().len(),
    };
    batch.events.iter().map(event_bytes).sum()
}

struct Watcher {
    feed: Arc<Feed>,
    id: u64,
    generation: u64,
    prefix: String,
    seen: Revision,
    ended: bool,
}

impl Stream for Watcher {
    type Item = Result<Batch, WatchEnd>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watcher = self.get_mut();
        if watcher.ended {
            return Poll::Ready(None);
        }
        let mut state = watcher.feed.lock();
        if state.generation != watcher.generation {
            watcher.ended = true;
            return Poll::Ready(Some(Err(WatchEnd::Lost)));
        }
        if watcher.seen < state.compacted {
            watcher.ended = true;
            return Poll::Ready(Some(Err(WatchEnd::Compacted {
                through: state.compacted,
            })));
        }
        let (seen, batch) = state.next(&watcher.prefix, watcher.seen);
        watcher.seen = seen;
        if let Some(batch) = batch {
            return Poll::Ready(Some(Ok(batch)));
        }
        state.wakers.insert(watcher.id, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.feed.lock().wakers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Key};

    fn batch(revision: u64, bytes: usize) -> Batch {
        let revision = Revision(revision);
        let key = Key::new("a").unwrap();
        let value = vec![0; bytes];
        let entry = Entry {
            key,
            value,
            created: revision,
            modified: revision,
        };
        Batch {
            revision,
            events: vec![Event::Put(entry)],
        }
    }

    #[tokio::test]
    async fn history_is_bounded_by_bytes_as_well_as_by_revisions() {
        let feed = Feed::new(Revision(0), usize::MAX);
        for revision in 1..=3 {
            feed.publish(batch(revision, MAX_HISTORY_BYTES / 2));
        }
        let end = feed.watch("", Revision(0)).next().await;
        assert_eq!(
            end,
            Some(Err(WatchEnd::Compacted {
                through: Revision(2)
            }))
        );
        let next = feed.watch("", Revision(2)).next().await;
        assert_eq!(next.unwrap().unwrap().revision, Revision(3));
    }

    #[tokio::test]
    async fn watcher_of_a_quiet_prefix_is_not_left_behind() {
        let feed = Feed::new(Revision(0), 2);
        let mut quiet = feed.watch("b", Revision(0));
        for revision in 1..=5 {
            feed.publish(batch(revision, 1));
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut quiet).poll_next(&mut context).is_pending());
        }
    }
}
