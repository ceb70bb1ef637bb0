//! Files that are refused, each by its name and each left exactly as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use strongroom_store::SqliteStore;
use strongroom_store::sqlite::{FileError, OpenError};

use super::{create, must_put, open, options};

/// Opens the store in a folder, and returns why not after a look that nothing changed.
fn refusal(folder: &Path) -> OpenError {
    let before = contents(folder);
    let refused = SqliteStore::open(folder.join("store.db"), &options()).err();
    assert!(contents(folder) == before, "the refusal changed the folder");
    refused.expect("the store is refused")
}

/// All files of a folder with their bytes, rights and times.
fn contents(folder: &Path) -> BTreeMap<String, (Vec<u8>, u32, i64, i64)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.path().symlink_metadata().unwrap();
            let bytes = if metadata.is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            let facts = (
                bytes,
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            );
            (entry.file_name().into_string().unwrap(), facts)
        })
        .collect()
}

/// A closed store with some entries in it.
fn folder_with_store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(&path);
        for number in 0..50 {
            must_put(&store, &format!("key/{number}"), vec![number; 2000]).await;
        }
        store.close().await.unwrap();
    });
    folder
}

/// Changes bytes of the file in place.
fn overwrite(folder: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.join("store.db"))
        .unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn missing_store_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(folder.path());
    assert!(
        matches!(refused, OpenError::File(FileError::Missing { .. })),
        "{refused:?}"
    );
}

#[test]
fn missing_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = SqliteStore::open(folder.path().join("no/store.db"), &options()).unwrap_err();
    assert!(
        matches!(refused, OpenError::File(FileError::Directory { .. })),
        "{refused:?}"
    );
}

#[test]
fn empty_file_and_random_bytes_are_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let random = (0_u32..20_000)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for bytes in [Vec::new(), b"SQLite format 3\0".to_vec(), random] {
        fs::write(folder.path().join("store.db"), bytes).unwrap();
        let refused = refusal(folder.path());
        assert!(
            matches!(refused, OpenError::File(FileError::NotADatabase { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn database_of_another_program_is_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("store.db")).unwrap();
    other
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a)")
        .unwrap();
    drop(other);
    let refused = refusal(folder.path());
    let foreign = matches!(
        refused,
        OpenError::File(FileError::Foreign {
            application_id: 7,
            ..
        })
    );
    assert!(foreign, "{refused:?}");
}

#[test]
fn store_of_a_later_format_is_refused_by_number() {
    let folder = folder_with_store();
    overwrite(folder.path(), 60, &2_u32.to_be_bytes());
    let refused = refusal(folder.path());
    assert!(
        matches!(refused, OpenError::File(FileError::Format { found: 2, .. })),
        "{refused:?}"
    );
}

#[test]
fn truncated_store_is_refused_with_both_lengths() {
    let folder = folder_with_store();
    let path = folder.path().join("store.db");
    let expected = fs::metadata(&path).unwrap().len();
    for found in [expected - 4096, expected - 1, 4096] {
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(found)
            .unwrap();
        let refused = refusal(folder.path());
        let OpenError::File(FileError::Truncated {
            found: told,
            expected: of,
            ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((told, of), (found, expected));
    }
}

#[test]
fn damaged_page_is_found_at_the_start() {
    let folder = folder_with_store();
    for page in 1..12 {
        overwrite(folder.path(), page * 4096, &[0xA5; 64]);
    }
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
}

#[test]
fn damaged_store_with_a_log_is_refused_without_moving_the_log() {
    let folder = folder_with_store();
    let path = folder.path().join("store.db");
    // A reader that stays keeps the log in place.
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer
        .execute_batch("UPDATE head SET revision = 51")
        .unwrap();
    let log = fs::read(folder.path().join("store.db-wal")).unwrap();
    drop(writer);
    fs::write(folder.path().join("store.db-wal"), log).unwrap();
    for page in 1..12 {
        overwrite(folder.path(), page * 4096, &[0xA5; 64]);
    }
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
}

#[test]
fn added_trigger_is_refused() {
    let folder = folder_with_store();
    let changed = Connection::open(folder.path().join("store.db")).unwrap();
    let trigger = "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM head; END";
    changed.execute_batch(trigger).unwrap();
    changed.close().unwrap();
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Tables { .. }), "{refused:?}");
}

#[test]
fn store_taken_out_of_write_ahead_mode_is_refused() {
    let folder = folder_with_store();
    let changed = Connection::open(folder.path().join("store.db")).unwrap();
    changed
        .pragma_update(None, "journal_mode", "delete")
        .unwrap();
    changed.close().unwrap();
    let refused = refusal(folder.path());
    assert!(
        matches!(refused, OpenError::File(FileError::Header { .. })),
        "{refused:?}"
    );
}

#[test]
fn rollback_journal_beside_the_store_is_refused() {
    let folder = folder_with_store();
    fs::write(folder.path().join("store.db-journal"), "planted").unwrap();
    let refused = refusal(folder.path());
    assert!(
        matches!(refused, OpenError::File(FileError::Stray { .. })),
        "{refused:?}"
    );
}

#[test]
fn link_directory_and_pipe_are_no_files() {
    let real = folder_with_store();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let refused_as_no_file = || {
        let refused = refusal(folder.path());
        assert!(
            matches!(refused, OpenError::File(FileError::NotAFile { .. })),
            "{refused:?}"
        );
    };
    std::os::unix::fs::symlink(real.path().join("store.db"), &path).unwrap();
    refused_as_no_file();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused_as_no_file();
    fs::remove_dir(&path).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    refused_as_no_file();
}

#[test]
fn second_opener_is_refused_until_the_first_is_gone() {
    let folder = folder_with_store();
    let path = folder.path().join("store.db");
    let first = open(&path);
    let refused = SqliteStore::open(&path, &options()).unwrap_err();
    assert!(
        matches!(refused, OpenError::File(FileError::InUse { .. })),
        "{refused:?}"
    );
    drop(first);
    open(&path);
}

#[test]
fn store_held_by_another_program_is_in_use() {
    let folder = folder_with_store();
    let shell = Connection::open(folder.path().join("store.db")).unwrap();
    shell.execute_batch("BEGIN; SELECT * FROM head").unwrap();
    let refused = SqliteStore::open(folder.path().join("store.db"), &options()).unwrap_err();
    assert!(
        matches!(refused, OpenError::File(FileError::InUse { .. })),
        "{refused:?}"
    );
}

#[test]
fn other_program_cannot_write_to_an_open_store() {
    let folder = folder_with_store();
    let path = folder.path().join("store.db");
    let store = open(&path);
    let output = Command::new("sqlite3")
        .arg(&path)
        .arg("DELETE FROM entry")
        .output();
    let output = output.expect("sqlite3 runs: it is in the Debian package of this name");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("locked"),
        "{output:?}"
    );
    drop(store);
}
