//! The embedded engine: SQLite, owned by one process and driven by one thread.
//!
//! One connection does everything, so there is no shared-memory file, no busy database and no second writer. Watches
//! are served from memory (`feed`): nobody but this process can have missed a change, and no old value stays on disk
//! in a log.

mod create;
mod database;
mod file;
mod filesystem;
mod header;
mod open;
mod schema;
mod writer;

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

pub use create::CreateError;
pub use file::FileError;
pub use filesystem::Filesystem;
pub use open::OpenError;

use crate::feed::{DEFAULT_HISTORY, Feed};
use crate::{Outcome, Revision, Snapshot, Store, StoreError, Transaction, WatchStream};
use writer::{Request, Writer};

/// How many commits may wait for the writer; further callers wait before they enter the queue.
const MAX_WAITING_COMMITS: usize = 1024;

/// How to treat the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Accepts a file system that may vanish with the container or the machine's memory: overlay, tmpfs, FUSE.
    pub danger_allow_ephemeral: bool,

    /// How many revisions are kept for watches that are behind.
    pub watch_history: usize,

    /// The size of the write-ahead log, as estimated, at which it is moved into the database without waiting for an idle
    /// moment.
    pub max_log_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            danger_allow_ephemeral: false,
            watch_history: DEFAULT_HISTORY,
            max_log_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A store in one SQLite file.
///
/// Dropping it waits for the writer to finish what it was given; [`close`](Self::close) does the same without blocking
/// the thread and tells whether it went well.
#[derive(Debug)]
pub struct SqliteStore {
    feed: Arc<Feed>,
    ended: Arc<OnceLock<StoreError>>,
    slots: Semaphore,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Makes an empty store, complete and synced before it appears under its name. Never replaces anything.
    pub fn create(path: impl AsRef<Path>, options: &Options) -> Result<(), CreateError> {
        create::create(path.as_ref(), options)
    }

    /// Opens a store that exists and checks it. Nothing is created or changed when it is refused.
    ///
    /// Blocks for the time of a check of the whole file.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let database = open::open(path.as_ref(), options)?;
        let feed = Feed::new(database.head(), options.watch_history);
        let ended = Arc::new(OnceLock::new());
        let (requests, queue) = mpsc::channel();
        let writer = Writer::new(
            database,
            queue,
            Arc::clone(&feed),
            Arc::clone(&ended),
            options.max_log_bytes,
        );
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            feed,
            ended,
            slots: Semaphore::new(MAX_WAITING_COMMITS),
            requests: Some(requests),
            writer: Some(writer),
        })
    }

    /// Finishes what was asked before, moves everything into the one file and lets it go. Later calls are refused.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Close { reply }).await?
    }

    /// Reads the whole file and compares it with its indexes: the slow and thorough check, for once a week.
    ///
    /// Commits wait meanwhile. A store that does not pass has failed.
    pub async fn check_integrity(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::CheckIntegrity { reply }).await?
    }

    /// Refuses when the store has ended.
    fn check_running(&self) -> Result<(), StoreError> {
        self.ended
            .get()
            .map_or(Ok(()), |reason| Err(reason.clone()))
    }

    fn end_reason(&self) -> StoreError {
        self.ended.get().cloned().unwrap_or(StoreError::Closed)
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        let sent = self
            .requests
            .as_ref()
            .map(|requests| requests.send(request));
        if let Some(Ok(())) = sent {
            Ok(())
        } else {
            Err(self.end_reason())
        }
    }

    /// Asks something that changes nothing, so that a lost answer is an error and not an unknown outcome.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StoreError> {
        self.check_running()?;
        let (reply, answer) = oneshot::channel();
        self.send(request(reply))?;
        answer.await.map_err(|_| self.end_reason())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn snapshot(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let prefix = prefix.to_owned();
        self.ask(|reply| Request::Snapshot { prefix, reply })
            .await?
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.check_running()?;
        let _slot = self.slots.acquire().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::Commit { transaction, reply })?;
        answer.await.unwrap_or(Ok(Outcome::Unknown))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let watch = self.feed.watch(prefix, after);
        // Checked after the watch is registered, so that an end in between is not missed.
        self.check_running()?;
        Ok(watch)
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        self.check_running()?;
        Ok(self.feed.head())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.requests.take();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has printed its reason; there is nobody to tell.
            let _ = writer.join();
        }
    }
}
