//! Opening a store: every check that can refuse it, before the first change.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::database::Database;
use super::file::{self, FileError, Place};
use super::{Options, header, schema};

/// Why a store was not opened. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be a store of ours, or not now.
    #[error(transparent)]
    File(#[from] FileError),

    /// The tables are not ours.
    #[error("the tables of the store {path:?} were changed")]
    Tables {
        /// The path of the store.
        path: PathBuf,
    },

    /// SQLite's check of the file found damage.
    #[error("the store {path:?} is damaged: {report}")]
    Damaged {
        /// The path of the store.
        path: PathBuf,
        /// The first line of SQLite's report.
        report: String,
    },

    /// SQLite took a setting without following it.
    #[error("the engine does not run with {setting} = {expected}, but with {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What was asked for.
        expected: &'static str,
        /// What is in force.
        found: String,
    },

    /// SQLite failed.
    #[error("the engine cannot open the store {path:?}")]
    Engine {
        /// The path of the store.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },

    /// The writer's thread did not start.
    #[error("the thread of the store cannot be started")]
    Thread {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What must be in force, as SQLite reads it back. The first must stay first: it keeps the index of the log out of a
/// shared-memory file.
const SETTINGS: [(&str, &str); 10] = [
    ("locking_mode", "exclusive"),
    ("journal_mode", "wal"),
    // Full, and nothing less, syncs the log at every commit.
    ("synchronous", "2"),
    ("mmap_size", "0"),
    // Checkpoints run when the writer is idle, not in a commit.
    ("wal_autocheckpoint", "0"),
    // What is deleted is overwritten.
    ("secure_delete", "1"),
    // Nothing is written to the log before the commit, and nothing outside of the store's files.
    ("cache_spill", "0"),
    ("temp_store", "2"),
    ("cell_size_check", "1"),
    ("trusted_schema", "0"),
];

pub(super) fn open(path: &Path, options: &Options) -> Result<Database, OpenError> {
    let place = Place::find(path, options)?;
    let lock = file::lock(&place, options)?;
    header::check(lock.file(), &place)?;
    file::check_neighbours(&place)?;

    let engine = |source| engine_error(&place, source);
    let connection = connect(&place).map_err(engine)?;
    configure(&connection, &place)?;
    check_contents(&connection, &place)?;
    for path in [place.path.clone(), place.beside("-wal")] {
        file::restrict(&path).map_err(|error| place.fail(error))?;
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(engine)?;
    Database::new(connection, lock).map_err(engine)
}

/// Opens the file so that closing it again changes nothing: with a log it stays as it is, without one the empty log
/// that SQLite makes is removed.
fn connect(place: &Place) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let had_wal = place.beside("-wal").exists();
    let connection = Connection::open_with_flags(&place.path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, had_wal)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(connection)
}

fn configure(connection: &Connection, place: &Place) -> Result<(), OpenError> {
    let engine = |source| engine_error(place, source);
    for (setting, expected) in SETTINGS {
        connection
            .execute_batch(&format!("PRAGMA {setting} = {expected}"))
            .map_err(engine)?;
        let found = read_setting(connection, setting).map_err(engine)?;
        if found != expected {
            return Err(OpenError::Setting {
                setting,
                expected,
                found,
            });
        }
    }
    Ok(())
}

fn read_setting(connection: &Connection, setting: &str) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, setting, |row| {
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    })
}

fn check_contents(connection: &Connection, place: &Place) -> Result<(), OpenError> {
    let path = || place.path.clone();
    let engine = |source| engine_error(place, source);
    let report: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(engine)?;
    if report != "ok" {
        return Err(OpenError::Damaged {
            path: path(),
            report,
        });
    }
    if !schema::is_ours(connection).map_err(engine)? {
        return Err(OpenError::Tables { path: path() });
    }
    Ok(())
}

/// Names what SQLite said by what it means for a store.
fn engine_error(place: &Place, source: rusqlite::Error) -> OpenError {
    let path = place.path.clone();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged {
            path,
            report: source.to_string(),
        },
        // Another program, such as the `sqlite3` shell, holds it without our lock.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            FileError::InUse { path }.into()
        }
        _ => OpenError::Engine { path, source },
    }
}
