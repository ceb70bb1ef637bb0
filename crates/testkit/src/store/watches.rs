//! Cases on watches: order, completeness, and how they end.

use std::sync::Arc;

use strongroom_store::{Batch, Event, Revision, Store, WatchEnd, WatchStream};
use tokio::task::JoinSet;

use super::{Case, WATCH_HISTORY, cases, commit, key, put, transaction};

pub(super) const CASES: &[Case] = cases![
    watch_delivers_what_comes_after_the_revision,
    watch_from_an_earlier_revision_delivers_what_was_missed,
    watch_delivers_only_keys_of_its_prefix,
    watch_delivers_a_transaction_as_one_batch,
    watch_is_silent_about_transactions_that_change_nothing,
    watch_from_a_future_revision_waits_for_it,
    two_watches_are_independent,
    watch_that_waits_is_woken,
    watch_that_fell_behind_ends_as_compacted,
    watch_from_a_forgotten_revision_ends_as_compacted,
    replayed_watch_over_a_snapshot_equals_the_next_snapshot,
];

async fn watch_delivers_what_comes_after_the_revision(store: Arc<dyn Store>) {
    let before = put(&*store, "a", "1").await;
    let mut watch = store.watch("", before).await.unwrap();
    put(&*store, "a", "2").await;
    commit(&*store, transaction().delete(key("a"))).await;
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: a=2", before.next())
    );
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: -a", before.next().next())
    );
}

async fn watch_from_an_earlier_revision_delivers_what_was_missed(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    put(&*store, "a", "1").await;
    put(&*store, "b", "2").await;
    let mut watch = store.watch("", start).await.unwrap();
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: a=1", start.next())
    );
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: b=2", start.next().next())
    );
}

async fn watch_delivers_only_keys_of_its_prefix(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut watch = store.watch("ring/", start).await.unwrap();
    put(&*store, "ring", "1").await;
    let mixed = transaction()
        .put(key("key/a"), "1")
        .put(key("ring/a"), "2")
        .put(key("x"), "3");
    let revision = commit(&*store, mixed).await;
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{revision}: ring/a=2")
    );
}

async fn watch_delivers_a_transaction_as_one_batch(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let mut watch = store.watch("", created).await.unwrap();
    let moved = transaction()
        .put(key("c"), "3")
        .delete(key("a"))
        .put(key("b"), "2");
    let revision = commit(&*store, moved).await;
    let Batch {
        revision: delivered,
        mut events,
    } = batch(&mut watch).await;
    assert_eq!(delivered, revision);
    events.sort_by(|left, right| left.key().cmp(right.key()));
    let sorted = Batch { revision, events };
    assert_eq!(text(&sorted), format!("{revision}: -a b=2 c=3"));
}

async fn watch_is_silent_about_transactions_that_change_nothing(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    commit(&*store, transaction().delete(key("absent"))).await;
    commit(&*store, transaction().require_absent(key("absent"))).await;
    put(&*store, "a", "1").await;
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: a=1", start.next())
    );
}

async fn watch_from_a_future_revision_waits_for_it(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut watch = store.watch("", start.next()).await.unwrap();
    put(&*store, "a", "1").await;
    put(&*store, "a", "2").await;
    assert_eq!(
        text(&batch(&mut watch).await),
        format!("{}: a=2", start.next().next())
    );
}

async fn two_watches_are_independent(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut first = store.watch("", start).await.unwrap();
    let second = store.watch("", start).await.unwrap();
    drop(second);
    let mut third = store.watch("", start).await.unwrap();
    let revision = put(&*store, "a", "1").await;
    for watch in [&mut first, &mut third] {
        assert_eq!(batch(watch).await.revision, revision);
    }
}

async fn watch_that_waits_is_woken(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { batch(&mut watch).await.revision });
    tokio::task::yield_now().await;
    let revision = put(&*store, "a", "1").await;
    assert_eq!(waiting.join_all().await, [revision]);
}

async fn watch_that_fell_behind_ends_as_compacted(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    outrun_the_history(&*store).await;
    // What an engine sent before it forgot is still delivered, in order; then comes the end, not a gap.
    let mut expected = start.next();
    let end = loop {
        match watch.next().await.expect("the end is told") {
            Ok(batch) => assert_eq!(batch.revision, expected),
            Err(end) => break end,
        }
        expected = expected.next();
    };
    assert!(
        matches!(end, WatchEnd::Compacted { through } if through >= expected),
        "{end:?}"
    );
    assert_eq!(watch.next().await, None);
}

async fn watch_from_a_forgotten_revision_ends_as_compacted(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    outrun_the_history(&*store).await;
    let mut watch = store.watch("", start).await.unwrap();
    let end = watch.next().await.expect("the end is told");
    let Err(WatchEnd::Compacted { through }) = end else {
        panic!("not compacted: {end:?}")
    };
    assert_eq!(watch.next().await, None);

    let head = store.head().await.unwrap();
    assert!(through < head);
    let mut watch = store.watch("", through).await.unwrap();
    assert_eq!(batch(&mut watch).await.revision, through.next());
}

async fn replayed_watch_over_a_snapshot_equals_the_next_snapshot(store: Arc<dyn Store>) {
    for name in ["a", "b", "c"] {
        put(&*store, name, "1").await;
    }
    let snapshot = store.snapshot("").await.unwrap();
    let mut watch = store.watch("", snapshot.revision).await.unwrap();
    commit(&*store, transaction().delete(key("a")).put(key("d"), "2")).await;
    commit(&*store, transaction().put(key("b"), "2").put(key("a"), "2")).await;
    let last = commit(&*store, transaction().delete(key("c"))).await;

    let mut replayed: std::collections::BTreeMap<_, _> = snapshot
        .entries
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect();
    let mut seen = snapshot.revision;
    while seen < last {
        let batch = batch(&mut watch).await;
        seen = batch.revision;
        for event in batch.events {
            match event {
                Event::Put(entry) => replayed.insert(entry.key.clone(), entry),
                Event::Deleted(key) => replayed.remove(&key),
            };
        }
    }
    let expected = store.snapshot("").await.unwrap().entries;
    assert_eq!(replayed.into_values().collect::<Vec<_>>(), expected);
}

/// Writes more revisions than any store under test keeps.
async fn outrun_the_history(store: &dyn Store) {
    for round in 0..=WATCH_HISTORY {
        put(store, "a", &round.to_string()).await;
    }
}

async fn batch(watch: &mut WatchStream) -> Batch {
    watch
        .next()
        .await
        .expect("the watch goes on")
        .expect("the watch is whole")
}

/// A batch as readable text: `revision: key=value -deleted`.
fn text(batch: &Batch) -> String {
    let events: Vec<String> = batch
        .events
        .iter()
        .map(|event| match event {
            Event::Put(entry) => {
                assert_eq!(entry.modified, batch.revision);
                format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value))
            }
            Event::Deleted(key) => format!("-{key}"),
        })
        .collect();
    let Revision(revision) = batch.revision;
    format!("{revision}: {}", events.join(" "))
}
