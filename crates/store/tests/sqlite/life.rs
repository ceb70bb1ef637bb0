//! From opening to closing: what survives, what is refused afterwards, how the log stays small.

use std::fs;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use strongroom_store::sqlite::Options;
use strongroom_store::{Outcome, SqliteStore, Store, StoreError, WatchEnd};

use super::{create, must_put, open, options, put};

#[tokio::test]
async fn closed_store_is_one_file_and_refuses_all_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let store = open(&path);
    let head = must_put(&store, "a", "1").await;
    let mut watch = store.watch("", head).await.unwrap();
    store.close().await.unwrap();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(put(&store, "a", "2").await, Err(StoreError::Closed));
    assert_eq!(store.snapshot("").await, Err(StoreError::Closed));
    assert_eq!(store.head().await, Err(StoreError::Closed));
    assert_eq!(store.watch("", head).await.err(), Some(StoreError::Closed));
    assert_eq!(store.close().await, Err(StoreError::Closed));
    assert_eq!(watch.next().await, Some(Err(WatchEnd::Lost)));
    assert_eq!(open(&path).head().await, Ok(head));
}

#[tokio::test]
async fn closing_answers_what_was_asked_before() {
    // Few enough for what tokio lets a task do in one turn.
    const ASKED: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let store = open(&path);
    let asked: Vec<_> = (0..ASKED)
        .map(|number| {
            let store = &store;
            let name = format!("key/{number}");
            let mut put = Box::pin(async move { put(store, &name, "1").await });
            // The first look at it puts it into the queue; it may be answered already.
            let first = put.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            async move {
                match first {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => put.await,
                }
            }
        })
        .collect();
    store.close().await.unwrap();
    for answer in asked {
        assert!(matches!(answer.await, Ok(Outcome::Committed(_))));
    }
    assert_eq!(open(&path).snapshot("").await.unwrap().entries.len(), ASKED);
}

#[tokio::test]
async fn revisions_go_on_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let first = must_put(&open(&path), "a", "1").await;
    let store = open(&path);
    assert_eq!(store.head().await, Ok(first));
    assert_eq!(must_put(&store, "a", "2").await, first.next());
}

#[tokio::test]
async fn changes_of_an_earlier_process_are_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let first = must_put(&open(&path), "a", "1").await;
    let store = open(&path);
    let mut watch = store.watch("", Default::default()).await.unwrap();
    assert_eq!(
        watch.next().await,
        Some(Err(WatchEnd::Compacted { through: first }))
    );
    let mut watch = store.watch("", first).await.unwrap();
    let second = must_put(&store, "a", "2").await;
    assert_eq!(watch.next().await.unwrap().unwrap().revision, second);
}

#[tokio::test]
async fn log_stays_near_its_bound_under_steady_writes() {
    const BOUND: u64 = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let options = Options {
        max_log_bytes: BOUND as usize,
        ..options()
    };
    let store = SqliteStore::open(&path, &options).unwrap();
    let mut written = 0;
    while written < 8 * BOUND {
        // Another value each time: SQLite does not write pages that stay the same.
        must_put(&store, "a", vec![(written / 100_000) as u8; 100_000]).await;
        written += 100_000;
    }
    let log = fs::metadata(folder.path().join("store.db-wal"))
        .unwrap()
        .len();
    assert!(log < 2 * BOUND, "the log has {log} bytes");
}

#[tokio::test]
async fn deleted_value_is_not_left_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let store = open(&path);
    let canary = b"canary-of-a-destroyed-version";
    must_put(&store, "ver/1", canary.repeat(200)).await;
    store.close().await.unwrap();
    let holds_canary = || {
        fs::read(&path)
            .unwrap()
            .windows(canary.len())
            .any(|part| part == canary)
    };
    assert!(holds_canary());

    let store = open(&path);
    let delete = strongroom_store::Transaction::builder().delete(super::key("ver/1"));
    let _ = store.commit(delete.build().unwrap()).await.unwrap();
    store.close().await.unwrap();
    assert!(!holds_canary());
}
