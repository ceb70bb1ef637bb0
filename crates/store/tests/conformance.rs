//! Both implementations against the suite, and SQLite against the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use strongroom_store::sqlite::Options;
use strongroom_store::{MemoryStore, SqliteStore, Store};
use strongroom_testkit::store::{WATCH_HISTORY, assert_same_behaviour, conformance, scripts};

fn options() -> Options {
    Options {
        danger_allow_ephemeral: true,
        watch_history: WATCH_HISTORY,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_store_conforms() {
    conformance(|| async { Arc::new(MemoryStore::with_history(WATCH_HISTORY)) as Arc<dyn Store> })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_store_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    conformance(|| async {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let path = directory.path().join(format!("{number}.db"));
        SqliteStore::create(&path, &options()).unwrap();
        Arc::new(SqliteStore::open(&path, &options()).unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[test]
fn sqlite_store_behaves_as_the_model_on_random_transactions() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&scripts(), |script| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store.db");
            SqliteStore::create(&path, &options()).unwrap();
            runtime.block_on(async {
                let model = MemoryStore::with_history(WATCH_HISTORY);
                let store = SqliteStore::open(&path, &options()).unwrap();
                assert_same_behaviour(&model, &store, &script).await;
                store.close().await.unwrap();
                let store = SqliteStore::open(&path, &options()).unwrap();
                assert_eq!(store.snapshot("").await, model.snapshot("").await);
            });
            Ok(())
        })
        .unwrap();
}
