//! The writer's thread: drains the queue, writes a batch, syncs once, then answers. It alone
//! touches the segments, so nothing is locked around a write.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    chain::Chain,
    changes::Changes,
    lock::Lock,
    log::{AppendError, Receipt, Shared, Synced},
    record::{Kind, MAX_RECORD_BYTES, Record},
    reserve::is_full,
    segment,
    shares::Share,
};

/// A batch ends when the queue is empty or with the record that reaches this size.
const BATCH_BYTES: usize = 1 << 20;

/// So many records are taken off the queue before they are served.
const TAKEN_MAX: usize = 1024;

/// What the queue carries.
pub(crate) enum Command {
    /// Append a record.
    Append(Pending),
    /// Write what came before, end, and answer.
    Close(oneshot::Sender<()>),
}

/// A record that waits for its place.
pub(crate) struct Pending {
    pub(crate) record: Box<Record>,
    pub(crate) share: Share,
    pub(crate) reply: oneshot::Sender<Result<Receipt, AppendError>>,
}

impl Pending {
    fn answer(self, result: Result<Receipt, AppendError>) {
        // The caller may have gone away; the record is there all the same.
        let _ = self.reply.send(result);
    }
}

/// Everything that the writer's thread owns.
pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    /// Held, not used.
    pub(crate) _lock: Lock,
    pub(crate) segment_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) segment: File,
    pub(crate) segment_length: u64,
    pub(crate) used: u64,
    pub(crate) chain: Chain,
    pub(crate) changes: Changes,
    pub(crate) shared: Arc<Shared>,
    pub(crate) failure: Option<AppendError>,
}

/// Records that share one write and one sync.
struct Batch {
    bytes: Vec<u8>,
    chain: Chain,
    changes: Changes,
    records: Vec<Pending>,
}

impl Writer {
    /// Serves the queue until it is closed.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut closing = Vec::new();
        while closing.is_empty()
            && let Some(command) = queue.blocking_recv()
        {
            let mut waiting = VecDeque::new();
            let mut next = Some(command);
            while let Some(command) = next {
                match command {
                    Command::Append(pending) => waiting.push_back(pending),
                    Command::Close(closed) => {
                        queue.close();
                        closing.push(closed);
                    }
                }
                let room = waiting.len() < TAKEN_MAX;
                next = room.then(|| queue.try_recv().ok()).flatten();
            }
            self.serve(waiting);
        }
        // The lock goes first: who is told that the log is closed may open it.
        drop(self);
        for closed in closing {
            // Who asked may have gone away.
            let _ = closed.send(());
        }
    }

    fn serve(&mut self, mut waiting: VecDeque<Pending>) {
        while !waiting.is_empty() {
            if let Some(failure) = &self.failure {
                waiting
                    .drain(..)
                    .for_each(|p| p.answer(Err(failure.clone())));
                return;
            }
            let batch = self.stage(&mut waiting);
            if batch.records.is_empty() {
                continue;
            }
            let Some(unwritten) = self.commit(batch) else {
                continue;
            };
            self.retry_from_reserve(unwritten);
        }
    }

    /// Takes records off `waiting` and gives them their places; answers those that get none.
    fn stage(&mut self, waiting: &mut VecDeque<Pending>) -> Batch {
        let mut batch = Batch {
            bytes: Vec::new(),
            chain: self.chain.clone(),
            changes: self.changes.clone(),
            records: Vec::new(),
        };
        while batch.bytes.len() < BATCH_BYTES
            && let Some(mut pending) = waiting.pop_front()
        {
            match self.place(&mut batch, &mut pending) {
                Ok(()) => batch.records.push(pending),
                Err(error) => pending.answer(Err(error)),
            }
        }
        batch
    }

    /// Writes the record's line into the batch. After an error the batch is as before.
    fn place(&mut self, batch: &mut Batch, pending: &mut Pending) -> Result<(), AppendError> {
        let share = pending.share;
        let reserve_lost = share != Share::Reserve && !self.shared.reserve().is_whole();
        let record = &mut pending.record;
        record.index = batch.chain.next_index();
        record.prev = batch.chain.last;
        let begin = batch.bytes.len();
        let placed = record
            .write_line(&mut batch.bytes)
            .map_err(|_| AppendError::InvalidTime);
        let line = batch.bytes.len() - begin;
        let fits = self.used + batch.bytes.len() as u64 <= share.level(self.capacity_bytes);
        let placed = placed.and_then(|()| {
            if line > MAX_RECORD_BYTES {
                Err(AppendError::TooLarge { bytes: line })
            } else if reserve_lost || !fits {
                Err(AppendError::Full { share })
            } else {
                admit_change(&mut batch.changes, record)
            }
        });
        match placed {
            Ok(()) => batch.chain.push(&batch.bytes[begin..]),
            Err(_) => batch.bytes.truncate(begin),
        }
        placed
    }

    /// Writes, syncs and answers. Returns the records when the disk is full.
    fn commit(&mut self, batch: Batch) -> Option<Vec<Pending>> {
        match self.write(&batch.bytes) {
            Ok(()) => {
                self.acknowledge(batch);
                None
            }
            Err(Written::Full) => Some(batch.records),
            Err(Written::Failed(error)) => {
                let failure = self.fail(error);
                batch
                    .records
                    .into_iter()
                    .for_each(|p| p.answer(Err(failure.clone())));
                None
            }
        }
    }

    fn acknowledge(&mut self, batch: Batch) {
        let length = batch.bytes.len() as u64;
        self.segment_length += length;
        self.used += length;
        self.chain = batch.chain;
        self.changes = batch.changes;
        self.shared.publish(Synced {
            frontier: self.chain.frontier.clone(),
            changes: self.changes.clone(),
            used: self.used,
        });
        for pending in batch.records {
            let index = pending.record.index;
            pending.answer(Ok(Receipt { index }));
        }
    }

    /// The disk is full: only records of the reserve are tried again, in the space it gives up.
    fn retry_from_reserve(&mut self, unwritten: Vec<Pending>) {
        let (mut privileged, others) = unwritten
            .into_iter()
            .partition::<VecDeque<_>, _>(|p| p.share == Share::Reserve);
        others.into_iter().for_each(refuse_full);
        if privileged.is_empty() {
            return;
        }
        self.shared.reserve().give_up();
        let batch = self.stage(&mut privileged);
        // A batch that fitted once fits again: nothing stays in `privileged`.
        privileged.into_iter().for_each(refuse_full);
        if let Some(unwritten) = self.commit(batch) {
            unwritten.into_iter().for_each(refuse_full);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Written> {
        if self.segment_length >= self.segment_bytes {
            self.next_segment()?;
        }
        if let Err(error) = self.segment.write_all(bytes) {
            self.segment.set_len(self.segment_length)?;
            return Err(if is_full(&error) {
                Written::Full
            } else {
                Written::Failed(error)
            });
        }
        // Full or not: after a failed sync nobody knows which pages are on the disk.
        self.segment.sync_data().map_err(Written::Failed)
    }

    fn next_segment(&mut self) -> Result<(), Written> {
        let path = segment::path(&self.dir, self.chain.next_index());
        let created = create_segment(&path).map_err(|error| {
            if is_full(&error) {
                Written::Full
            } else {
                Written::Failed(error)
            }
        });
        self.segment = created?;
        self.segment_length = 0;
        File::open(&self.dir)?.sync_all()?;
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> AppendError {
        tracing::error!(%error, dir = ?self.dir, "audit log failed and stays closed");
        let failure = AppendError::Io(Arc::new(error));
        self.failure = Some(failure.clone());
        failure
    }
}

/// Why bytes did not get to the disk.
enum Written {
    /// No space; the segment is as before.
    Full,
    /// Anything else; the segment's end is unknown.
    Failed(io::Error),
}

impl From<io::Error> for Written {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Opens a segment for appending; one left empty by a crash or a full disk is used again.
pub(crate) fn create_segment(path: &std::path::Path) -> io::Result<File> {
    fs::OpenOptions::new().create(true).append(true).open(path)
}

fn refuse_full(pending: Pending) {
    let share = pending.share;
    pending.answer(Err(AppendError::Full { share }));
}

fn admit_change(changes: &mut Changes, record: &Record) -> Result<(), AppendError> {
    if record.kind == Kind::Gap {
        changes.begin_anew();
    }
    match record.change {
        Some(change) => changes.admit(change).map_err(AppendError::Change),
        None => Ok(()),
    }
}
