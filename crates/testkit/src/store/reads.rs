//! Cases on snapshots and the head.

use std::sync::Arc;

use strongroom_store::{MAX_KEY_BYTES, Store};
use tokio::task::JoinSet;

use super::{Case, cases, commit, key, listing, put, transaction};

pub(super) const CASES: &[Case] = cases![
    fresh_store_is_empty,
    snapshot_is_ordered_by_the_bytes_of_the_keys,
    prefix_selects_by_bytes_and_not_by_path,
    prefix_longer_than_any_key_selects_nothing,
    snapshot_tells_the_head_even_of_other_prefixes,
    reader_sees_a_transaction_wholly_or_not_at_all,
    acknowledged_change_is_read_by_the_next_call,
];

async fn fresh_store_is_empty(store: Arc<dyn Store>) {
    let snapshot = store.snapshot("").await.unwrap();
    assert!(snapshot.entries.is_empty());
    assert_eq!(snapshot.revision, store.head().await.unwrap());
}

async fn snapshot_is_ordered_by_the_bytes_of_the_keys(store: Arc<dyn Store>) {
    let names = [
        "b",
        "a/",
        "a",
        "A",
        "ä",
        "a0",
        "\u{10ffff}",
        "\u{ffff}",
        "%",
        "_",
        "a%",
    ];
    for name in names {
        put(&*store, name, "").await;
    }
    let mut expected = names;
    expected.sort_unstable_by_key(|name| name.as_bytes());
    let entries = store.snapshot("").await.unwrap().entries;
    let found: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(found, expected);
}

async fn prefix_selects_by_bytes_and_not_by_path(store: Arc<dyn Store>) {
    for name in [
        "ring",
        "ring/",
        "ring/a",
        "ring/b",
        "ring0",
        "rinf",
        "ring/\u{10ffff}",
    ] {
        put(&*store, name, "").await;
    }
    let names = |snapshot: strongroom_store::Snapshot| -> Vec<String> {
        snapshot
            .entries
            .iter()
            .map(|entry| entry.key.to_string())
            .collect()
    };
    let below = names(store.snapshot("ring/").await.unwrap());
    assert_eq!(below, ["ring/", "ring/a", "ring/b", "ring/\u{10ffff}"]);
    assert_eq!(names(store.snapshot("ring").await.unwrap()).len(), 6);
    assert_eq!(names(store.snapshot("ring/b").await.unwrap()), ["ring/b"]);
    assert!(names(store.snapshot("ring/c").await.unwrap()).is_empty());
}

async fn prefix_longer_than_any_key_selects_nothing(store: Arc<dyn Store>) {
    put(&*store, &"k".repeat(MAX_KEY_BYTES), "").await;
    assert_eq!(
        store
            .snapshot(&"k".repeat(MAX_KEY_BYTES))
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    assert!(
        store
            .snapshot(&"k".repeat(MAX_KEY_BYTES + 1))
            .await
            .unwrap()
            .entries
            .is_empty()
    );
}

async fn snapshot_tells_the_head_even_of_other_prefixes(store: Arc<dyn Store>) {
    put(&*store, "a", "1").await;
    let head = put(&*store, "b", "1").await;
    assert_eq!(store.snapshot("a").await.unwrap().revision, head);
}

async fn reader_sees_a_transaction_wholly_or_not_at_all(store: Arc<dyn Store>) {
    const ROUNDS: usize = 50;
    let writing = Arc::clone(&store);
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        for round in 0..ROUNDS {
            let value = round.to_string();
            let pair = transaction()
                .put(key("left"), value.clone())
                .put(key("right"), value);
            commit(&*writing, pair).await;
        }
    });
    loop {
        let snapshot = store.snapshot("").await.unwrap();
        let [left, right] = &snapshot.entries[..] else {
            continue;
        };
        assert_eq!((&left.value, left.modified), (&right.value, right.modified));
        assert_eq!(left.modified, snapshot.revision);
        if left.value == (ROUNDS - 1).to_string().as_bytes() {
            break;
        }
    }
    writer.join_all().await;
}

async fn acknowledged_change_is_read_by_the_next_call(store: Arc<dyn Store>) {
    for round in 0..20 {
        let revision = put(&*store, "a", &round.to_string()).await;
        assert_eq!(store.head().await.unwrap(), revision);
        assert!(listing(&*store, "a").await[0].starts_with(&format!("a={round}@")));
    }
}
