//! The one thread that touches the database: it turns waiting commits into one synced commit and tidies up when idle.
//!
//! An answer leaves only after the commit that it tells of is on disk, and after watchers can see it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;

use super::database::{Applied, BatchError, Database};
use crate::feed::Feed;
use crate::{Outcome, Snapshot, StoreError, Transaction};

/// The most transactions in one commit.
const MAX_BATCH: usize = 256;

/// The most bytes of keys and values in one commit, unless one transaction alone has more.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long nobody asks for anything before the log is moved into the database.
const IDLE: Duration = Duration::from_millis(200);

/// How long to wait before a checkpoint is tried again for which there was no space.
const IDLE_FULL: Duration = Duration::from_secs(5);

/// What a change adds to the log beside its value: leaf pages of the table, its index and the head.
const LOG_BYTES_OF_A_CHANGE: usize = 4 * 4096;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers ask of the thread.
#[derive(Debug)]
pub(super) enum Request {
    Commit {
        transaction: Transaction,
        reply: Reply<Outcome>,
    },
    Snapshot {
        prefix: String,
        reply: Reply<Snapshot>,
    },
    CheckIntegrity {
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// The state of the thread.
pub(super) struct Writer {
    database: Database,
    queue: Receiver<Request>,
    /// Taken from the queue, not yet done.
    pending: VecDeque<Request>,
    feed: Arc<Feed>,
    ended: Arc<OnceLock<StoreError>>,
    log_bytes: usize,
    max_log_bytes: usize,
    idle: Duration,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        queue: Receiver<Request>,
        feed: Arc<Feed>,
        ended: Arc<OnceLock<StoreError>>,
        max_log_bytes: usize,
    ) -> Self {
        let pending = VecDeque::new();
        // A log that an earlier process left is moved at the first idle moment.
        Self {
            database,
            queue,
            pending,
            feed,
            ended,
            log_bytes: 1,
            max_log_bytes,
            idle: IDLE,
        }
    }

    /// Works until it is closed or nobody can ask any more.
    pub(super) fn run(mut self) {
        let closing = loop {
            match self.next() {
                Next::Request(Request::Commit { transaction, reply }) => {
                    self.commit(transaction, reply);
                }
                Next::Request(Request::Snapshot { prefix, reply }) => {
                    answer(reply, self.read(|database| database.snapshot(&prefix)));
                }
                Next::Request(Request::CheckIntegrity { reply }) => {
                    answer(reply, self.check_integrity());
                }
                Next::Request(Request::Close { reply }) => break Some(reply),
                Next::Idle => self.checkpoint(),
                Next::Abandoned => break None,
            }
        };
        self.close(closing);
    }

    fn next(&mut self) -> Next {
        if let Some(request) = self.pending.pop_front() {
            return Next::Request(request);
        }
        if self.log_bytes == 0 || self.has_failed() {
            return self.queue.recv().map_or(Next::Abandoned, Next::Request);
        }
        match self.queue.recv_timeout(self.idle) {
            Ok(request) => Next::Request(request),
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::Abandoned,
        }
    }

    /// Commits this transaction together with those that wait behind it.
    fn commit(&mut self, transaction: Transaction, reply: Reply<Outcome>) {
        let (transactions, replies) = self.collect(transaction, reply);
        if let Some(error) = self.ended.get() {
            return refuse(replies, error);
        }
        match self.database.commit(&transactions) {
            Ok(applied) => {
                self.log_bytes += transactions.iter().map(log_bytes).sum::<usize>();
                self.acknowledge(applied, replies);
            }
            Err(BatchError::Full) => {
                tracing::warn!("the disk of the store is full");
                refuse(replies, &StoreError::Full);
            }
            Err(BatchError::Failed(error)) => {
                let error = self.fail(&error.to_string());
                refuse(replies, &error);
            }
            Err(BatchError::Unknown(error)) => {
                self.fail(&error.to_string());
                for reply in replies {
                    answer(reply, Ok(Outcome::Unknown));
                }
            }
        }
        if self.log_bytes > self.max_log_bytes {
            self.checkpoint();
        }
    }

    fn collect(
        &mut self,
        first: Transaction,
        reply: Reply<Outcome>,
    ) -> (Vec<Transaction>, Vec<Reply<Outcome>>) {
        let mut bytes = first.bytes();
        let (mut transactions, mut replies) = (vec![first], vec![reply]);
        while transactions.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.queue.try_recv() {
                Ok(Request::Commit { transaction, reply }) => {
                    bytes += transaction.bytes();
                    transactions.push(transaction);
                    replies.push(reply);
                }
                Ok(other) => {
                    self.pending.push_back(other);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        (transactions, replies)
    }

    fn acknowledge(&self, applied: Vec<Applied>, replies: Vec<Reply<Outcome>>) {
        let mut outcomes = Vec::with_capacity(applied.len());
        for Applied { outcome, batch } in applied {
            outcomes.push(outcome);
            if let Some(batch) = batch {
                self.feed.publish(batch);
            }
        }
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            answer(reply, Ok(outcome));
        }
    }

    fn check_integrity(&mut self) -> Result<(), StoreError> {
        let report = self.read(Database::integrity)?;
        if report == "ok" {
            Ok(())
        } else {
            Err(self.fail(&report))
        }
    }

    fn checkpoint(&mut self) {
        match self.database.checkpoint() {
            Ok(()) => {
                self.log_bytes = 0;
                self.idle = IDLE;
            }
            Err(error) if is_full(&error) => {
                tracing::warn!("no space to move the store's log into its database");
                self.idle = IDLE_FULL;
            }
            Err(error) => {
                self.fail(&error.to_string());
            }
        }
    }

    /// Reads, unless the store has failed. An error of the engine fails it: a disk that cannot be read is no store.
    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        read(&self.database).map_err(|error| self.fail(&error.to_string()))
    }

    fn has_failed(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Ends the store for all callers. After a failed sync nobody knows what the disk holds, so nothing is tried again.
    fn fail(&self, reason: &str) -> StoreError {
        let error = self.ended.get_or_init(|| StoreError::Failed {
            reason: reason.to_owned(),
        });
        tracing::error!(%error, "store failed");
        self.feed.lose();
        error.clone()
    }

    /// Lets the file go and refuses what is still waiting.
    fn close(self, closing: Option<Reply<()>>) {
        let Self {
            database,
            queue,
            pending,
            feed,
            ended,
            ..
        } = self;
        let result = match ended.get() {
            Some(error) => Err(error.clone()),
            None => database.close().map_err(|error| close_error(&error)),
        };
        let error = ended.get_or_init(|| StoreError::Closed);
        feed.lose();
        for request in pending.into_iter().chain(queue.try_iter()) {
            request.refuse(error);
        }
        if let Some(reply) = closing {
            answer(reply, result);
        }
    }
}

enum Next {
    Request(Request),
    Idle,
    Abandoned,
}

impl Request {
    fn refuse(self, error: &StoreError) {
        match self {
            Self::Commit { reply, .. } => answer(reply, Err(error.clone())),
            Self::Snapshot { reply, .. } => answer(reply, Err(error.clone())),
            Self::CheckIntegrity { reply } | Self::Close { reply } => {
                answer(reply, Err(error.clone()));
            }
        }
    }
}

fn refuse(replies: Vec<Reply<Outcome>>, error: &StoreError) {
    for reply in replies {
        answer(reply, Err(error.clone()));
    }
}

/// Answers a caller, who may have gone away.
fn answer<T>(reply: Reply<T>, result: Result<T, StoreError>) {
    let _ = reply.send(result);
}

fn log_bytes(transaction: &Transaction) -> usize {
    transaction.bytes() + transaction.ops().len() * LOG_BYTES_OF_A_CHANGE
}

/// What a failure to move the log at the end means: nothing is lost, the next start reads it.
fn close_error(error: &rusqlite::Error) -> StoreError {
    if is_full(error) {
        StoreError::Full
    } else {
        StoreError::Failed {
            reason: error.to_string(),
        }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
