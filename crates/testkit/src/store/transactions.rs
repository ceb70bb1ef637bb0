//! Cases on what a transaction does, and does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_store::{MAX_OPS, MAX_VALUE_BYTES, Outcome, Revision, Store};
use tokio::task::JoinSet;

use super::{Case, cases, commit, key, listing, outcome, put, transaction};

pub(super) const CASES: &[Case] = cases![
    each_change_raises_the_revision_by_one,
    all_changes_of_a_transaction_carry_its_revision,
    setting_the_same_value_is_a_change,
    creation_survives_changes_and_not_a_deletion,
    deleting_an_absent_key_changes_nothing,
    compares_alone_commit_at_the_head,
    compare_with_the_last_change_holds,
    compare_with_an_older_change_fails,
    compare_with_an_absent_key_fails,
    compare_for_absence_fails_on_an_existing_key,
    one_failing_compare_stops_all_changes,
    compare_sees_the_state_before_the_transaction,
    as_many_changes_as_allowed_are_one_transaction,
    largest_value_and_the_empty_value_come_back,
    one_of_many_racing_writers_wins_each_revision,
];

async fn each_change_raises_the_revision_by_one(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "b", "1").await;
    assert_eq!((first, second), (start.next(), start.next().next()));
    assert_eq!(store.head().await.unwrap(), second);
}

async fn all_changes_of_a_transaction_carry_its_revision(store: Arc<dyn Store>) {
    let revision = commit(&*store, transaction().put(key("b"), "2").put(key("a"), "1")).await;
    let expected = [
        format!("a=1@{revision}/{revision}"),
        format!("b=2@{revision}/{revision}"),
    ];
    assert_eq!(listing(&*store, "").await, expected);
}

async fn setting_the_same_value_is_a_change(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let modified = put(&*store, "a", "1").await;
    assert_eq!(modified, created.next());
    assert_eq!(
        listing(&*store, "").await,
        [format!("a=1@{created}/{modified}")]
    );
}

async fn creation_survives_changes_and_not_a_deletion(store: Arc<dyn Store>) {
    put(&*store, "a", "1").await;
    commit(&*store, transaction().delete(key("a"))).await;
    assert!(listing(&*store, "").await.is_empty());
    let created = put(&*store, "a", "2").await;
    assert_eq!(
        listing(&*store, "").await,
        [format!("a=2@{created}/{created}")]
    );
}

async fn deleting_an_absent_key_changes_nothing(store: Arc<dyn Store>) {
    let head = put(&*store, "a", "1").await;
    assert_eq!(commit(&*store, transaction().delete(key("b"))).await, head);
    assert_eq!(store.head().await.unwrap(), head);
}

async fn compares_alone_commit_at_the_head(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let head = put(&*store, "b", "1").await;
    let compared = transaction()
        .require_modified(key("a"), created)
        .require_absent(key("c"));
    assert_eq!(commit(&*store, compared).await, head);
    assert_eq!(store.head().await.unwrap(), head);
}

async fn compare_with_the_last_change_holds(store: Arc<dyn Store>) {
    let first = put(&*store, "a", "1").await;
    let changed = transaction()
        .require_modified(key("a"), first)
        .put(key("a"), "2");
    assert_eq!(commit(&*store, changed).await, first.next());
}

async fn compare_with_an_older_change_fails(store: Arc<dyn Store>) {
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "a", "2").await;
    let late = transaction()
        .require_modified(key("a"), first)
        .put(key("a"), "3");
    assert_eq!(outcome(&*store, late).await, Outcome::CompareFailed);
    assert_eq!(
        listing(&*store, "").await,
        [format!("a=2@{first}/{second}")]
    );
    assert_eq!(store.head().await.unwrap(), second);
}

async fn compare_with_an_absent_key_fails(store: Arc<dyn Store>) {
    let head = put(&*store, "b", "1").await;
    let compared = transaction()
        .require_modified(key("a"), head)
        .put(key("a"), "1");
    assert_eq!(outcome(&*store, compared).await, Outcome::CompareFailed);
}

async fn compare_for_absence_fails_on_an_existing_key(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let again = transaction().require_absent(key("a")).put(key("a"), "2");
    assert_eq!(outcome(&*store, again).await, Outcome::CompareFailed);
    assert_eq!(
        listing(&*store, "").await,
        [format!("a=1@{created}/{created}")]
    );
}

async fn one_failing_compare_stops_all_changes(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let mixed = transaction()
        .require_modified(key("a"), created)
        .require_modified(key("a"), created.next())
        .put(key("b"), "1")
        .delete(key("a"));
    assert_eq!(outcome(&*store, mixed).await, Outcome::CompareFailed);
    assert_eq!(
        listing(&*store, "").await,
        [format!("a=1@{created}/{created}")]
    );
}

async fn compare_sees_the_state_before_the_transaction(store: Arc<dyn Store>) {
    let created = put(&*store, "a", "1").await;
    let moved = transaction()
        .require_absent(key("b"))
        .require_modified(key("a"), created)
        .delete(key("a"))
        .put(key("b"), "1");
    let revision = commit(&*store, moved).await;
    assert_eq!(
        listing(&*store, "").await,
        [format!("b=1@{revision}/{revision}")]
    );
}

async fn as_many_changes_as_allowed_are_one_transaction(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let many = (0..MAX_OPS).fold(transaction(), |built, n| {
        built.put(key(&format!("{n:03}")), "v")
    });
    assert_eq!(commit(&*store, many).await, start.next());
    assert_eq!(store.snapshot("").await.unwrap().entries.len(), MAX_OPS);
}

async fn largest_value_and_the_empty_value_come_back(store: Arc<dyn Store>) {
    let large: Vec<u8> = (0..MAX_VALUE_BYTES).map(|n| n as u8).collect();
    commit(
        &*store,
        transaction()
            .put(key("large"), large.clone())
            .put(key("none"), ""),
    )
    .await;
    let entries = store.snapshot("").await.unwrap().entries;
    assert_eq!(entries.len(), 2);
    assert!(
        entries[0].value == large,
        "the large value came back changed"
    );
    assert_eq!(entries[1].value, b"");
}

/// Each writer reads and replaces one counter until it has won; every win must be on top of another.
async fn one_of_many_racing_writers_wins_each_revision(store: Arc<dyn Store>) {
    const WRITERS: usize = 16;
    const WINS: usize = 4;
    let start = put(&*store, "counter", "0").await;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut won = Vec::new();
            while won.len() < WINS {
                won.extend(increment(&*store).await);
            }
            won
        });
    }
    let won: Vec<Revision> = writers.join_all().await.into_iter().flatten().collect();

    let total = WRITERS * WINS;
    let end = Revision(start.0 + total as u64);
    assert_eq!(won.iter().collect::<BTreeSet<_>>().len(), total);
    assert_eq!(
        listing(&*store, "").await,
        [format!("counter={total}@{start}/{end}")]
    );
}

async fn increment(store: &dyn Store) -> Option<Revision> {
    let entry = store.snapshot("counter").await.unwrap().entries.remove(0);
    let count: usize = String::from_utf8(entry.value).unwrap().parse().unwrap();
    let next = transaction()
        .require_modified(key("counter"), entry.modified)
        .put(key("counter"), (count + 1).to_string());
    match outcome(store, next).await {
        Outcome::Committed(revision) => Some(revision),
        Outcome::CompareFailed => None,
        Outcome::Unknown => panic!("a healthy store knows the outcome"),
    }
}
