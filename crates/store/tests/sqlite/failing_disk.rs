//! A disk whose sync fails: the outcome is unknown, nothing is tried again, and the store is over for this process.

use std::path::Path;

use strongroom_store::{Outcome, Store, StoreError, WatchEnd};

use super::{child, create, key, must_put, open, put};

const NAME: &str = "failing_disk::failed_sync_leaves_the_outcome_unknown_and_ends_the_store";

#[test]
fn failed_sync_leaves_the_outcome_unknown_and_ends_the_store() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = child::folder() {
        return runtime.block_on(write_until_it_fails(&folder.join("store.db")));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let reported = run_with_failing_syncs(folder.path());

    let count = |word: &str| {
        reported
            .iter()
            .filter(|line| line.starts_with(word))
            .count()
    };
    assert!(count("ack ") > 0, "{reported:?}");
    assert_eq!(count("unknown "), 1, "{reported:?}");
    assert_eq!(count("done"), 1, "{reported:?}");
    runtime.block_on(async {
        let store = open(&path);
        for line in &reported {
            let Some(name) = line.strip_prefix("ack ") else {
                continue;
            };
            assert_eq!(
                store.snapshot(name).await.unwrap().entries[0].key,
                key(name)
            );
        }
        // The unknown one may be there or not, but nothing after it.
        let found = store.snapshot("").await.unwrap().entries.len();
        assert!((count("ack ")..=count("ack ") + 1).contains(&found));
    });
}

/// Lets all syncs after the first few fail with EIO.
fn run_with_failing_syncs(folder: &Path) -> Vec<String> {
    let fault = "inject=fsync,fdatasync:error=EIO:when=6+";
    let mut words: Vec<std::ffi::OsString> = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        fault,
    ]
    .map(Into::into)
    .into();
    words.extend(child::test(NAME));
    let output = child::command(&words, folder.as_os_str())
        .output()
        .expect("strace runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

async fn write_until_it_fails(path: &Path) {
    let store = open(path);
    let mut watch = store.watch("", store.head().await.unwrap()).await.unwrap();
    for number in 0.. {
        let name = format!("write/{number:04}");
        match put(&store, &name, "value").await.unwrap() {
            Outcome::Committed(_) => {
                child::report(&format!("ack {name}"));
                assert!(watch.next().await.unwrap().is_ok());
            }
            Outcome::Unknown => {
                child::report(&format!("unknown {name}"));
                break;
            }
            Outcome::CompareFailed => panic!("nothing was compared"),
        }
    }
    let failed = put(&store, "after", "value").await.unwrap_err();
    assert!(matches!(failed, StoreError::Failed { .. }), "{failed:?}");
    assert_eq!(store.snapshot("").await.unwrap_err(), failed);
    assert_eq!(store.head().await.unwrap_err(), failed);
    assert_eq!(
        store.watch("", Default::default()).await.unwrap_err(),
        failed
    );
    assert_eq!(watch.next().await, Some(Err(WatchEnd::Lost)));
    assert_eq!(watch.next().await, None);
    assert_eq!(store.close().await.unwrap_err(), failed);
    child::report("done");
}

#[tokio::test]
async fn damage_found_by_the_thorough_check_ends_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let store = open(&path);
    must_put(&store, "a", vec![1; 20_000]).await;
    store.close().await.unwrap();
    let store = open(&path);
    assert_eq!(store.check_integrity().await, Ok(()));

    // Cuts the pages off under the open store; it has not read them yet.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(3 * 4096)
        .unwrap();
    let failed = store.check_integrity().await.unwrap_err();
    assert!(matches!(failed, StoreError::Failed { .. }), "{failed:?}");
    assert_eq!(put(&store, "b", "1").await, Err(failed));
}
