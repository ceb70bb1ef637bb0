//! A disk that fills up and is freed again: a typed error, nothing lost, no restart.
//!
//! The disk is a small ext4 image in a mount namespace of its own, which goes away with the process whatever happens.

use std::path::Path;

use strongroom_store::sqlite::Options;
use strongroom_store::{Outcome, Revision, SqliteStore, Store, StoreError};

use super::{child, create, must_put, options, put};

const NAME: &str = "disk_full::full_disk_is_a_typed_error_and_loses_nothing";
const IMAGE_BYTES: u64 = 24 * 1024 * 1024;
const BALLAST_BYTES: usize = 8 * 1024 * 1024;
const LOG_BYTES: usize = 2 * 1024 * 1024;

/// Mounts the image given first on the folder given second, then becomes the rest.
const MOUNT: &str = r#"mount -o loop "$1" "$2" && shift 2 && exec "$@""#;

#[test]
fn full_disk_is_a_typed_error_and_loses_nothing() {
    if let Some(folder) = child::folder() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(fill_and_free(&folder));
    }
    let root = rustix::process::geteuid().is_root();
    assert!(root, "this test mounts a small disk: run it as root");
    let folder = tempfile::tempdir().unwrap();
    let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
    std::fs::create_dir(&disk).unwrap();
    std::fs::File::create(&image)
        .unwrap()
        .set_len(IMAGE_BYTES)
        .unwrap();
    let made = std::process::Command::new("mkfs.ext4")
        .arg("-q")
        .arg(&image)
        .status()
        .unwrap();
    assert!(made.success());

    let mut words: Vec<std::ffi::OsString> = ["unshare", "--mount", "sh", "-c", MOUNT, "sh"]
        .map(Into::into)
        .into();
    words.extend([image.into(), disk.clone().into()]);
    words.extend(child::test(NAME));
    let output = child::command(&words, disk.as_os_str()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}{told}",
        String::from_utf8_lossy(&output.stdout)
    );
}

async fn fill_and_free(disk: &Path) {
    let (path, ballast) = (disk.join("store.db"), disk.join("ballast"));
    create(&path);
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let store = open_small(&path);
    let mut acknowledged = fill(&store).await;
    let head = store.head().await.unwrap();
    verify(&store, &acknowledged).await;

    // Full stays full, small or large, and the store still reads; so does one opened on the full disk.
    assert_eq!(
        put(&store, "large", vec![0; 256 * 1024]).await,
        Err(StoreError::Full)
    );
    assert_eq!(store.head().await, Ok(head));
    drop(store);
    let store = open_small(&path);
    verify(&store, &acknowledged).await;
    assert_eq!(
        put(&store, "large", vec![0; 256 * 1024]).await,
        Err(StoreError::Full)
    );

    std::fs::remove_file(&ballast).unwrap();
    let revision = must_put(&store, "after", "space").await;
    assert_eq!(revision, head.next());
    acknowledged.push(("after".to_owned(), revision));
    verify(&store, &acknowledged).await;
    store.close().await.unwrap();
    verify(&open_small(&path), &acknowledged).await;
}

/// Opens with a log that is moved often, as the space for it and the database together is short.
fn open_small(path: &Path) -> SqliteStore {
    let options = Options {
        max_log_bytes: LOG_BYTES,
        ..options()
    };
    SqliteStore::open(path, &options).unwrap()
}

/// Writes until there is no space, and returns what was acknowledged.
async fn fill(store: &SqliteStore) -> Vec<(String, Revision)> {
    let mut acknowledged = Vec::new();
    loop {
        let name = format!("fill/{:04}", acknowledged.len());
        match put(store, &name, vec![7; 64 * 1024]).await {
            Ok(Outcome::Committed(revision)) => acknowledged.push((name, revision)),
            Err(StoreError::Full) => break,
            other => panic!("neither committed nor full: {other:?}"),
        }
    }
    assert!(acknowledged.len() > 20);
    acknowledged
}

async fn verify(store: &SqliteStore, acknowledged: &[(String, Revision)]) {
    let snapshot = store.snapshot("").await.unwrap();
    let mut found: Vec<(String, Revision)> = snapshot
        .entries
        .iter()
        .map(|entry| (entry.key.to_string(), entry.modified))
        .collect();
    found.sort_by_key(|(_, revision)| *revision);
    assert_eq!(found, acknowledged);
}
