//! What a watch delivers: ordered batches, one for each revision, until it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::{Stream, StreamExt};

use crate::{Entry, Key, Revision};

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was set.
    Put(Entry),

    /// The key was removed.
    Deleted(Key),
}

impl Event {
    /// The key changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted(key) => key,
        }
    }
}

/// The changes of one revision that a watch asked for, in the order of the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision of all these events.
    pub revision: Revision,
    /// The events; never empty.
    pub events: Vec<Event>,
}

impl Batch {
    /// Keeps what concerns keys with the prefix; `None` when nothing does.
    pub(crate) fn filtered(&self, prefix: &str) -> Option<Self> {
        let wanted = |event: &&Event| event.key().as_str().starts_with(prefix);
        let events: Vec<Event> = self.events.iter().filter(wanted).cloned().collect();
        (!events.is_empty()).then_some(Self {
            revision: self.revision,
            events,
        })
    }
}

/// Why a watch delivers nothing more. Either way: take a snapshot and watch from its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The connection to the store, or the store itself, is gone.
    #[error("the watch was lost")]
    Lost,

    /// The next revision is no longer kept.
    #[error("the watch fell behind: changes up to revision {through} are no longer kept")]
    Compacted {
        /// The newest revision that is gone.
        through: Revision,
    },
}

/// The stream of a watch. After its first error it is at its end.
pub struct WatchStream(Pin<Box<dyn Stream<Item = Result<Batch, WatchEnd>> + Send>>);

impl WatchStream {
    /// Wraps the stream of an implementation.
    pub fn new(stream: impl Stream<Item = Result<Batch, WatchEnd>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// Waits for the next batch; `None` after the end was told. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Batch, WatchEnd>> {
        self.0.next().await
    }
}

impl Stream for WatchStream {
    type Item = Result<Batch, WatchEnd>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchStream")
    }
}
