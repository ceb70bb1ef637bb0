//! The connection: batches of transactions in, one synced commit for all of them.
//!
//! Each transaction of a batch sees those before it and has its own revision. No savepoints are needed: compares are
//! evaluated before the first change, and an error of the engine fails the whole batch.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use super::file::Lock;
use crate::{Batch, Entry, Event, Key, Op, Outcome, Revision, Snapshot, Transaction};

/// What became of one transaction of a batch, and what watchers are told.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) outcome: Outcome,
    pub(super) batch: Option<Batch>,
}

/// Why a batch was not committed.
#[derive(Debug)]
pub(super) enum BatchError {
    /// The disk is full and the whole batch was rolled back.
    Full,
    /// The engine failed before it tried to commit: nothing of the batch will ever be there.
    Failed(rusqlite::Error),
    /// The engine failed in the commit: the batch may be there after the next start.
    Unknown(rusqlite::Error),
}

/// The one connection to the file, with the lock that makes this process its owner.
#[derive(Debug)]
pub(super) struct Database {
    // Before the lock, so that it is dropped first.
    connection: Connection,
    _lock: Lock,
    head: Revision,
}

impl Database {
    pub(super) fn new(connection: Connection, lock: Lock) -> rusqlite::Result<Self> {
        let head = read_head(&connection)?;
        Ok(Self {
            connection,
            _lock: lock,
            head,
        })
    }

    /// The revision of the last commit.
    pub(super) fn head(&self) -> Revision {
        self.head
    }

    /// Commits a batch of transactions and syncs it.
    pub(super) fn commit(
        &mut self,
        transactions: &[Transaction],
    ) -> Result<Vec<Applied>, BatchError> {
        let (applied, head) = match self.apply_all(transactions) {
            Ok(result) => result,
            Err(error) => return Err(self.abandon(error, BatchError::Failed)),
        };
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => {
                self.head = head;
                Ok(applied)
            }
            Err(error) => Err(self.abandon(error, BatchError::Unknown)),
        }
    }

    /// Reads all entries under a prefix.
    pub(super) fn snapshot(&self, prefix: &str) -> rusqlite::Result<Snapshot> {
        let mut query = self.connection.prepare_cached(
            "SELECT key, value, created, modified FROM entry WHERE key >= ?1 ORDER BY key",
        )?;
        let mut rows = query.query([prefix])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            if !row.get_ref(0)?.as_str()?.starts_with(prefix) {
                break;
            }
            entries.push(entry(row)?);
        }
        Ok(Snapshot {
            revision: self.head,
            entries,
        })
    }

    /// Moves the log into the database, so that it is written from its start again.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
    }

    /// The first line of the thorough check, "ok" when there is no damage.
    pub(super) fn integrity(&self) -> rusqlite::Result<String> {
        self.connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
    }

    /// Moves the log into the database and lets the file go, alone in its directory.
    ///
    /// The checkpoint comes first, because closing does one too but keeps its errors to itself.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        self.connection.close().map_err(|(_, error)| error)
    }

    fn apply_all(
        &self,
        transactions: &[Transaction],
    ) -> rusqlite::Result<(Vec<Applied>, Revision)> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut head = self.head;
        let mut applied = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            let next = apply(&self.connection, transaction, head)?;
            if let Some(batch) = &next.batch {
                head = batch.revision;
            }
            applied.push(next);
        }
        if head != self.head {
            write_head(&self.connection, head)?;
        }
        Ok((applied, head))
    }

    /// Rolls back, and names the failure by what can be proven afterwards.
    fn abandon(
        &self,
        error: rusqlite::Error,
        otherwise: fn(rusqlite::Error) -> BatchError,
    ) -> BatchError {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        if full && self.roll_back() {
            BatchError::Full
        } else {
            otherwise(error)
        }
    }

    /// Says whether the database is, provably, as it was before the batch.
    ///
    /// A full disk fails a write. The frame that makes a commit valid is the last one written, so a failed write means
    /// that it is not complete in the log, now or after a crash; a sync that fails is another error.
    fn roll_back(&self) -> bool {
        let rolled_back =
            self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        rolled_back && read_head(&self.connection).is_ok_and(|head| head == self.head)
    }
}

fn apply(
    connection: &Connection,
    transaction: &Transaction,
    head: Revision,
) -> rusqlite::Result<Applied> {
    for compare in transaction.compares() {
        let found = revisions(connection, compare.key())?;
        if !compare.holds(found.map(|(_, modified)| modified)) {
            return Ok(Applied {
                outcome: Outcome::CompareFailed,
                batch: None,
            });
        }
    }

    let revision = head.next();
    let mut events = Vec::with_capacity(transaction.ops().len());
    for op in transaction.ops() {
        events.extend(change(connection, op, revision)?);
    }
    if events.is_empty() {
        return Ok(Applied {
            outcome: Outcome::Committed(head),
            batch: None,
        });
    }
    let batch = Batch { revision, events };
    Ok(Applied {
        outcome: Outcome::Committed(revision),
        batch: Some(batch),
    })
}

fn change(connection: &Connection, op: &Op, revision: Revision) -> rusqlite::Result<Option<Event>> {
    match op {
        Op::Put { key, value } => {
            let created = connection
                .prepare_cached(
                    "INSERT INTO entry (key, value, created, modified) VALUES (?1, ?2, ?3, ?3)
                     ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3 RETURNING created",
                )?
                .query_row((key.as_str(), value, integer(revision)?), |row| row.get(0))?;
            let (key, value) = (key.clone(), value.clone());
            let created = revision_of(created)?;
            Ok(Some(Event::Put(Entry {
                key,
                value,
                created,
                modified: revision,
            })))
        }
        Op::Delete { key } => {
            let deleted = connection
                .prepare_cached("DELETE FROM entry WHERE key = ?1")?
                .execute([key.as_str()])?;
            Ok((deleted > 0).then(|| Event::Deleted(key.clone())))
        }
    }
}

/// When the key was created and last set, if it exists.
fn revisions(connection: &Connection, key: &Key) -> rusqlite::Result<Option<(Revision, Revision)>> {
    connection
        .prepare_cached("SELECT created, modified FROM entry WHERE key = ?1")?
        .query_row([key.as_str()], |row| {
            Ok((revision_of(row.get(0)?)?, revision_of(row.get(1)?)?))
        })
        .optional()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let text: String = row.get(0)?;
    let key = Key::new(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Entry {
        key,
        value: row.get(1)?,
        created: revision_of(row.get(2)?)?,
        modified: revision_of(row.get(3)?)?,
    })
}

fn read_head(connection: &Connection) -> rusqlite::Result<Revision> {
    connection
        .query_row("SELECT revision FROM head WHERE id = 1", [], |row| {
            row.get(0)
        })
        .and_then(revision_of)
}

fn write_head(connection: &Connection, head: Revision) -> rusqlite::Result<()> {
    let changed = connection
        .prepare_cached("UPDATE head SET revision = ?1 WHERE id = 1")?
        .execute([integer(head)?])?;
    if changed == 1 {
        Ok(())
    } else {
        Err(rusqlite::Error::StatementChangedRows(changed))
    }
}

fn revision_of(number: i64) -> rusqlite::Result<Revision> {
    u64::try_from(number)
        .map(Revision)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

fn integer(revision: Revision) -> rusqlite::Result<i64> {
    i64::try_from(revision.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
