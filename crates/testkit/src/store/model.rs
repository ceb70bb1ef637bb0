//! Random transactions, run on two stores that must answer alike.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use strongroom_store::{Batch, Key, Revision, Store, Transaction};

const NAMES: [&str; 6] = ["a", "a/", "a/b", "a0", "b", "ä"];

/// A condition, with the revision told as distance from the head, so that some hold.
#[derive(Debug, Clone)]
enum Condition {
    Absent(&'static str),
    Modified(&'static str, u64),
}

#[derive(Debug, Clone)]
enum Change {
    Put(&'static str, Vec<u8>),
    Delete(&'static str),
}

/// One transaction of a script.
#[derive(Debug, Clone)]
pub struct Step {
    conditions: Vec<Condition>,
    changes: Vec<Change>,
}

impl Step {
    fn transaction(&self, head: Revision) -> Transaction {
        let mut built = Transaction::builder();
        for condition in &self.conditions {
            built = match condition {
                Condition::Absent(name) => built.require_absent(key(name)),
                Condition::Modified(name, back) => {
                    let revision = Revision(head.0.saturating_sub(*back).max(1));
                    built.require_modified(key(name), revision)
                }
            };
        }
        for change in &self.changes {
            built = match change {
                Change::Put(name, value) => built.put(key(name), value.clone()),
                Change::Delete(name) => built.delete(key(name)),
            };
        }
        built.build().expect("a step never names a key twice")
    }
}

/// Scripts of transactions on a handful of keys.
pub fn scripts() -> impl Strategy<Value = Vec<Step>> {
    let name = || proptest::sample::select(&NAMES[..]);
    let condition = prop_oneof![
        name().prop_map(Condition::Absent),
        (name(), 0_u64..4).prop_map(|(name, back)| Condition::Modified(name, back)),
    ];
    let changes = subsequence(&NAMES[..], 0..=NAMES.len()).prop_flat_map(|names| {
        names
            .into_iter()
            .map(|name| {
                prop_oneof![
                    3 => vec(any::<u8>(), 0..40).prop_map(move |value| Change::Put(name, value)),
                    1 => Just(Change::Delete(name)),
                ]
            })
            .collect::<Vec<_>>()
    });
    // Without conditions most of the time, or hardly anything would ever be committed.
    let conditions = prop_oneof![3 => Just(Vec::new()), 2 => vec(condition, 1..3)];
    let step = (conditions, changes.prop_shuffle()).prop_map(|(conditions, changes)| Step {
        conditions,
        changes,
    });
    vec(step, 1..20)
}

/// Runs the script on both stores and compares every outcome, the heads, the snapshots and the watches.
///
/// Both stores must be at the same revision with the same entries, and keep as many revisions as the script has steps.
///
/// # Panics
///
/// When they differ.
pub async fn assert_same_behaviour(model: &dyn Store, store: &dyn Store, script: &[Step]) {
    let start = model.head().await.unwrap();
    assert_eq!(store.head().await.unwrap(), start);
    for step in script {
        let transaction = step.transaction(model.head().await.unwrap());
        let expected = model.commit(transaction.clone()).await.unwrap();
        assert_eq!(
            store.commit(transaction).await.unwrap(),
            expected,
            "{step:?}"
        );
    }
    let head = model.head().await.unwrap();
    assert_eq!(store.head().await.unwrap(), head);
    for prefix in ["", "a", "a/", "b", "c"] {
        assert_eq!(
            store.snapshot(prefix).await.unwrap(),
            model.snapshot(prefix).await.unwrap()
        );
    }
    assert_eq!(
        replay(store, start, head).await,
        replay(model, start, head).await
    );
}

async fn replay(store: &dyn Store, after: Revision, until: Revision) -> Vec<Batch> {
    let mut watch = store.watch("", after).await.unwrap();
    let mut batches = Vec::new();
    while batches.last().map_or(after, |batch: &Batch| batch.revision) < until {
        batches.push(watch.next().await.unwrap().unwrap());
    }
    batches
}

fn key(name: &str) -> Key {
    Key::new(name).expect("the names are keys")
}
