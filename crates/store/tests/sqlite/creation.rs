//! Making a store: whole or not at all, never over anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use strongroom_store::sqlite::{CreateError, FileError};
use strongroom_store::{SqliteStore, Store};

use super::{create, must_put, open, options};

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn created_store_is_one_file_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    assert_eq!(names(folder.path()), ["store.db"]);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn existing_file_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(&path, "precious").unwrap();
    let refused = SqliteStore::create(&path, &options()).unwrap_err();
    assert!(matches!(refused, CreateError::Exists { .. }), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(folder.path()), ["store.db"]);
}

#[test]
fn log_without_its_store_is_not_replayed_into_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("store.db-wal");
    fs::write(&log, "what remains of a lost store").unwrap();
    let refused = SqliteStore::create(folder.path().join("store.db"), &options()).unwrap_err();
    assert!(
        matches!(&refused, CreateError::Exists { path } if *path == log),
        "{refused:?}"
    );
}

#[tokio::test]
async fn remains_of_an_interrupted_creation_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store.db.new"), "half a store").unwrap();
    fs::write(folder.path().join("store.db.new-wal"), "and its log").unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    assert_eq!(names(folder.path()), ["store.db"]);
    assert!(open(&path).snapshot("").await.unwrap().entries.is_empty());
}

#[test]
fn one_of_many_creators_wins() {
    const CREATORS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let start = Barrier::new(CREATORS);
    let attempt = || {
        start.wait();
        SqliteStore::create(&path, &options())
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS).map(|_| scope.spawn(attempt)).collect();
        creators
            .into_iter()
            .map(|creator| creator.join().unwrap())
            .collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        let lost = matches!(
            refused,
            CreateError::Exists { .. } | CreateError::File(FileError::InUse { .. })
        );
        assert!(lost, "{refused:?}");
    }
    open(&path);
}

#[tokio::test]
async fn rights_added_by_a_volume_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let store = open(&path);
    must_put(&store, "a", "1").await;
    for name in names(folder.path()) {
        let mode = fs::metadata(folder.path().join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}
