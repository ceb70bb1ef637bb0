//! The model: the port in its plainest form, for tests and for comparison with the engines.
//!
//! What an engine may do to its callers, a test can ask of it: late watches, lost watches, compaction, unknown outcomes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::feed::{DEFAULT_HISTORY, Feed};
use crate::{
    Batch, Entry, Event, Key, Op, Outcome, Revision, Snapshot, Store, StoreError, Transaction,
    WatchStream,
};

/// What really happens to a transaction whose outcome a test makes unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCommit {
    /// It is applied as usual.
    Applied,
    /// It is dropped.
    Dropped,
}

/// A store in memory. Nothing in it outlives it.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    feed: Arc<Feed>,
}

#[derive(Debug, Default)]
struct State {
    head: Revision,
    entries: BTreeMap<Key, Entry>,
    unknown: VecDeque<UnknownCommit>,
}

impl MemoryStore {
    /// An empty store at revision zero.
    pub fn new() -> Self {
        Self::with_history(DEFAULT_HISTORY)
    }

    /// An empty store that keeps so many revisions for watchers that are behind.
    pub fn with_history(revisions: usize) -> Self {
        let feed = Feed::new(Revision::default(), revisions);
        Self {
            state: Mutex::default(),
            feed,
        }
    }

    /// Holds back all later revisions from all watches, as etcd may for any time.
    pub fn hold_watches(&self) {
        let _state = self.lock();
        self.feed.hold();
    }

    /// Delivers what was held back.
    pub fn release_watches(&self) {
        self.feed.release();
    }

    /// Ends all watches as lost; new ones can be opened.
    pub fn lose_watches(&self) {
        self.feed.lose();
    }

    /// Forgets the changes up to the head: watches that have not seen them end as compacted.
    pub fn compact(&self) {
        let state = self.lock();
        self.feed.compact(state.head);
    }

    /// Answers [`Outcome::Unknown`] to one more of the next commits; calls add up.
    pub fn make_next_commit_unknown(&self, what: UnknownCommit) {
        self.lock().unknown.push_back(what);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn snapshot(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let state = self.lock();
        let wanted = state
            .entries
            .values()
            .filter(|it| it.key.as_str().starts_with(prefix));
        Ok(Snapshot {
            revision: state.head,
            entries: wanted.cloned().collect(),
        })
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let mut state = self.lock();
        let unknown = state.unknown.pop_front();
        if unknown == Some(UnknownCommit::Dropped) {
            return Ok(Outcome::Unknown);
        }
        let (outcome, batch) = state.apply(&transaction);
        if let Some(batch) = batch {
            self.feed.publish(batch);
        }
        Ok(if unknown.is_some() {
            Outcome::Unknown
        } else {
            outcome
        })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        Ok(self.feed.watch(prefix, after))
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        Ok(self.lock().head)
    }
}

impl State {
    fn apply(&mut self, transaction: &Transaction) -> (Outcome, Option<Batch>) {
        let modified = |key: &Key| self.entries.get(key).map(|entry| entry.modified);
        if !transaction
            .compares()
            .iter()
            .all(|it| it.holds(modified(it.key())))
        {
            return (Outcome::CompareFailed, None);
        }

        let revision = self.head.next();
        let events: Vec<Event> = transaction
            .ops()
            .iter()
            .filter_map(|op| self.change(op, revision))
            .collect();
        if events.is_empty() {
            return (Outcome::Committed(self.head), None);
        }
        self.head = revision;
        (
            Outcome::Committed(revision),
            Some(Batch { revision, events }),
        )
    }

    fn change(&mut self, op: &Op, revision: Revision) -> Option<Event> {
        match op {
            Op::Put { key, value } => {
                let created = self
                    .entries
                    .get(key)
                    .map_or(revision, |entry| entry.created);
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    created,
                    modified: revision,
                };
                self.entries.insert(key.clone(), entry.clone());
                Some(Event::Put(entry))
            }
            Op::Delete { key } => self
                .entries
                .remove(key)
                .map(|entry| Event::Deleted(entry.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::WatchEnd;

    async fn put(store: &MemoryStore, value: &str) -> Outcome {
        let key = Key::new("a").unwrap();
        let transaction = Transaction::builder().put(key, value).build().unwrap();
        store.commit(transaction).await.unwrap()
    }

    fn is_silent(watch: &mut WatchStream) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(watch.next()).poll(&mut context).is_pending()
    }

    #[tokio::test]
    async fn held_watches_are_late_while_reads_are_not() {
        let store = MemoryStore::new();
        let mut watch = store.watch("", Revision(0)).await.unwrap();
        let _ = put(&store, "1").await;
        store.hold_watches();
        let _ = put(&store, "2").await;
        assert_eq!(store.head().await, Ok(Revision(2)));
        assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(1));
        assert!(is_silent(&mut watch));

        store.release_watches();
        assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(2));
        assert!(is_silent(&mut watch));
    }

    #[tokio::test]
    async fn lost_watches_end_and_new_ones_do_not() {
        let store = MemoryStore::new();
        let mut lost = store.watch("", Revision(0)).await.unwrap();
        store.lose_watches();
        let _ = put(&store, "1").await;
        assert_eq!(lost.next().await, Some(Err(WatchEnd::Lost)));
        assert_eq!(lost.next().await, None);
        let mut watch = store.watch("", Revision(0)).await.unwrap();
        assert!(watch.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn compaction_ends_watches_that_are_behind() {
        let store = MemoryStore::new();
        let mut behind = store.watch("", Revision(0)).await.unwrap();
        let _ = put(&store, "1").await;
        store.compact();
        let through = Revision(1);
        assert_eq!(
            behind.next().await,
            Some(Err(WatchEnd::Compacted { through }))
        );
        let mut watch = store.watch("", through).await.unwrap();
        assert!(is_silent(&mut watch));
    }

    #[tokio::test]
    async fn unknown_outcome_is_applied_or_dropped_as_asked() {
        let store = MemoryStore::new();
        store.make_next_commit_unknown(UnknownCommit::Dropped);
        store.make_next_commit_unknown(UnknownCommit::Applied);
        assert_eq!(put(&store, "1").await, Outcome::Unknown);
        assert_eq!(store.head().await, Ok(Revision(0)));
        assert_eq!(put(&store, "2").await, Outcome::Unknown);
        assert_eq!(store.head().await, Ok(Revision(1)));
        assert_eq!(put(&store, "3").await, Outcome::Committed(Revision(2)));
    }
}
