//! What every store must do: one suite of named cases, and a model check on random transactions.
//!
//! A store passes when [`conformance`] returns and [`assert_same_behaviour`] holds for it and the memory model.

mod model;
mod reads;
mod transactions;
mod watches;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use strongroom_store::{Key, Outcome, Revision, Store, Transaction, TransactionBuilder};

pub use model::{Step, assert_same_behaviour, scripts};

/// The most revisions that a store under test may keep for watches, so that a case can write more than that.
pub const WATCH_HISTORY: usize = 32;

type Run = Pin<Box<dyn Future<Output = ()>>>;

struct Case {
    name: &'static str,
    run: fn(Arc<dyn Store>) -> Run,
}

/// Lists async functions as cases under their own names.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$($crate::store::Case { name: stringify!($name), run: |store| Box::pin($name(store)) }),*]
    };
}
use cases;

/// Runs all cases, each on a fresh store from the factory, and prints the name of each before it starts.
///
/// # Panics
///
/// When the store does something else than the port promises.
pub async fn conformance<F, S>(factory: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn Store>>,
{
    for group in [transactions::CASES, reads::CASES, watches::CASES] {
        for case in group {
            println!("case: {}", case.name);
            (case.run)(factory().await).await;
        }
    }
}

/// A key that the test spells correctly.
fn key(text: &str) -> Key {
    Key::new(text).expect("a key of a test is valid")
}

fn transaction() -> TransactionBuilder {
    Transaction::builder()
}

/// Commits what must be committed.
async fn commit(store: &dyn Store, transaction: TransactionBuilder) -> Revision {
    match outcome(store, transaction).await {
        Outcome::Committed(revision) => revision,
        other => panic!("the transaction was not committed: {other:?}"),
    }
}

async fn outcome(store: &dyn Store, transaction: TransactionBuilder) -> Outcome {
    let transaction = transaction
        .build()
        .expect("a transaction of a test is valid");
    store
        .commit(transaction)
        .await
        .expect("the store takes transactions")
}

async fn put(store: &dyn Store, name: &str, value: &str) -> Revision {
    commit(store, transaction().put(key(name), value)).await
}

/// The entries under a prefix as readable text: `key=value@created/modified`.
async fn listing(store: &dyn Store, prefix: &str) -> Vec<String> {
    let snapshot = store.snapshot(prefix).await.expect("the store can be read");
    snapshot
        .entries
        .iter()
        .map(|entry| {
            let value = String::from_utf8_lossy(&entry.value);
            format!("{}={value}@{}/{}", entry.key, entry.created, entry.modified)
        })
        .collect()
}
