//! The log as its users hold it. Blocking work happens in `open` and in the writer's thread only.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    changes::{ChangeError, Changes},
    checkpoint::Checkpoint,
    checkpointer::Begun,
    home::{self, BeginError},
    lock::{self, Lock},
    merkle::Frontier,
    origin::Origin,
    proofs::{self, Appender},
    reader::{ReadError, Records},
    record::Draft,
    recovery::{OpenError, Recovered, recover},
    reserve::Reserve,
    segment::{self, Segment},
    shares::Share,
    writer::{Command, Pending, Writer, create_segment},
};

/// Appends wait here; the writer takes all that is there.
const QUEUE: usize = 1024;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which log this is.
    pub origin: Origin,
    /// A segment of at least this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// Bytes that all records together may take. Of these 70 % are for tenants, 20 % more for the
    /// system, the last 10 % for the reserve.
    pub capacity_bytes: u64,
    /// Size of the file that keeps space on the disk for the reserve; usually a tenth of the
    /// capacity.
    pub reserve_bytes: u64,
}

/// Proof that a record is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "without a receipt the record may be lost"]
pub struct Receipt {
    /// The record's position in the log.
    pub index: u64,
}

/// Why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The share of the log's space, or the disk, is used up. Others may still write.
    #[error("audit log has no space left for {share}")]
    Full {
        /// Whose share.
        share: Share,
    },
    /// The disk failed; the log stays closed until a restart has checked what is on it.
    #[error("audit log cannot be written and stays closed until a restart")]
    Io(#[source] Arc<io::Error>),
    /// The record is longer than a line may be.
    #[error("audit record of {bytes} bytes is too large")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The record's time has no year of four digits.
    #[error("audit record has a time outside the years 0 to 9999")]
    InvalidTime,
    /// The record's change was written before or is out of order.
    #[error("audit record carries a change that does not belong here")]
    Change(#[source] ChangeError),
    /// The log was closed.
    #[error("audit log is closed")]
    Closed,
}

/// How full a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all records.
    pub used_bytes: u64,
    /// Bytes that they may take.
    pub capacity_bytes: u64,
    /// Whether the disk space of the reserve is held. While it is not, only the reserve writes.
    pub reserve_held: bool,
}

/// What is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Synced {
    pub(crate) frontier: Frontier,
    pub(crate) changes: Changes,
    pub(crate) used: u64,
}

/// What the writer, the checkpointer and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    synced: Mutex<Synced>,
    reserve: Mutex<Reserve>,
}

impl Shared {
    fn synced(&self) -> MutexGuard<'_, Synced> {
        // Every update is one assignment, so a panic cannot leave half of one.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, synced: Synced) {
        *self.synced() = synced;
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.synced().frontier.clone()
    }

    pub(crate) fn reserve(&self) -> MutexGuard<'_, Reserve> {
        // The file itself is the state; a panic leaves at worst a reserve that counts as lost.
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files that a checkpointer writes, and how far it got.
#[derive(Debug)]
pub(crate) struct Proofs {
    pub(crate) certificates: Appender,
    pub(crate) checkpoints: Appender,
    pub(crate) last: Option<Checkpoint>,
    /// A start that was recorded and waits for its certificate.
    pub(crate) begun: Option<Begun>,
}

/// An append-only log of one replica. Dropping it waits for the writer.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    options: Options,
    torn_bytes: u64,
    shared: Arc<Shared>,
    proofs: Mutex<Option<Proofs>>,
    queue: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Begins a log in `dir`, which is made if it is not there: from then on `open` takes the folder for its own. Again for
    /// the same log it changes nothing. Blocks.
    ///
    /// # Errors
    ///
    /// Refuses a folder with another log in it.
    pub fn begin(dir: &Path, origin: &Origin) -> Result<(), BeginError> {
        home::begin(dir, origin)
    }

    /// Looks whether the log of `origin` was begun in `dir`; changes nothing. Blocks.
    ///
    /// # Errors
    ///
    /// `NotBegun` as long as nothing of a log is there.
    pub fn find(dir: &Path, origin: &Origin) -> Result<(), OpenError> {
        home::check(dir, origin)
    }

    /// Opens the log in `dir`, reading all of it. Blocks.
    ///
    /// A line that a crash cut short is removed: it was never acknowledged.
    ///
    /// # Errors
    ///
    /// Refuses a folder in which this log was not begun or that is not what a writer of it leaves behind, and one that does
    /// not extend `anchor`, the checkpoint that was last anchored in the store. Then nothing is written.
    pub fn open(
        dir: &Path,
        options: Options,
        anchor: Option<&Checkpoint>,
    ) -> Result<Self, OpenError> {
        check(&options)?;
        home::check(dir, &options.origin)?;
        let lock = Lock::take(dir).map_err(at(&dir.join(lock::NAME)))?;
        let lock = lock.ok_or_else(|| OpenError::InUse(dir.to_owned()))?;
        let recovered = recover(dir, &options.origin, anchor)?;
        let proofs = open_proofs(dir, &recovered)?;
        let (segment, segment_length) = open_tail(dir, recovered.tail)?;
        let reserve_path = dir.join(crate::reserve::NAME);
        let reserve = Reserve::open(dir, options.reserve_bytes).map_err(at(&reserve_path))?;
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(at(dir))?;
        if recovered.torn > 0 {
            tracing::warn!(
                bytes = recovered.torn,
                "removed an audit line that a crash cut short"
            );
        }
        let synced = Synced {
            frontier: recovered.chain.frontier.clone(),
            changes: recovered.changes.clone(),
            used: recovered.used,
        };
        let shared = Arc::new(Shared {
            synced: Mutex::new(synced),
            reserve: Mutex::new(reserve),
        });
        let writer = Writer {
            dir: dir.to_owned(),
            _lock: lock,
            segment_bytes: options.segment_bytes,
            capacity_bytes: options.capacity_bytes,
            segment,
            segment_length,
            used: recovered.used,
            chain: recovered.chain,
            changes: recovered.changes,
            shared: Arc::clone(&shared),
            failure: None,
        };
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(at(dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            torn_bytes: recovered.torn,
            shared,
            proofs: Mutex::new(Some(proofs)),
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Appends a record; resolves after it is on disk.
    ///
    /// A caller that stops waiting does not take the record back.
    pub async fn append(&self, draft: Draft, share: Share) -> Result<Receipt, AppendError> {
        let queue = self.queue.as_ref().ok_or(AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            record: Box::new(draft.into_record()),
            share,
            reply,
        };
        queue
            .send(Command::Append(pending))
            .await
            .map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Writes what was appended before, then refuses everything with `Closed`.
    pub async fn close(&self) {
        let Some(queue) = &self.queue else { return };
        let (reply, closed) = oneshot::channel();
        if queue.send(Command::Close(reply)).await.is_ok() {
            // An error means that another call closed it.
            let _ = closed.await;
        }
    }

    /// Which log this is.
    pub fn origin(&self) -> &Origin {
        &self.options.origin
    }

    /// Number of records on disk.
    pub fn size(&self) -> u64 {
        self.shared.synced().frontier.size()
    }

    /// The control-plane changes on disk, from which a start learns what it has to replay.
    pub fn changes(&self) -> Changes {
        self.shared.synced().changes.clone()
    }

    /// How full the log is.
    pub fn usage(&self) -> Usage {
        Usage {
            used_bytes: self.shared.synced().used,
            capacity_bytes: self.options.capacity_bytes,
            reserve_held: self.shared.reserve().is_held(),
        }
    }

    /// Bytes of a line cut by a crash that `open` removed.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Reads the records on disk from `index` on. The iterator blocks.
    pub fn records_from(&self, index: u64) -> Result<Records, ReadError> {
        Records::open(&self.dir, index, self.size())
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The files of proofs, until the one checkpointer has them.
    pub(crate) fn proofs(&self) -> MutexGuard<'_, Option<Proofs>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has answered nobody: its callers saw `Closed`.
            let _ = writer.join();
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    |source| OpenError::File { path, source }
}

fn check(options: &Options) -> Result<(), OpenError> {
    if options.segment_bytes == 0 {
        return Err(OpenError::Options("a segment of no bytes"));
    }
    if options.reserve_bytes > options.capacity_bytes {
        return Err(OpenError::Options("a reserve larger than the capacity"));
    }
    Ok(())
}

fn open_proofs(dir: &Path, recovered: &Recovered) -> Result<Proofs, OpenError> {
    let open = |name, length| {
        let path = dir.join(name);
        Appender::open(path.clone(), length).map_err(at(&path))
    };
    Ok(Proofs {
        certificates: open(proofs::CERTIFICATES, recovered.certificates_length)?,
        checkpoints: open(proofs::CHECKPOINTS, recovered.checkpoints_length)?,
        last: recovered.last_checkpoint.clone(),
        begun: None,
    })
}

/// Opens the last segment without its torn line, or the first one of a new log.
fn open_tail(dir: &Path, tail: Option<(Segment, u64)>) -> Result<(File, u64), OpenError> {
    let (path, length) = tail.map_or_else(
        || (segment::path(dir, 0), 0),
        |(segment, length)| (segment.path, length),
    );
    let open = || {
        let file = create_segment(&path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
        }
        // Lines of a batch that was written but not synced count from here on.
        file.sync_all()?;
        Ok(file)
    };
    Ok((open().map_err(at(&path))?, length))
}
