//! SIGKILL in the middle of writing, twenty times on one store: all that was acknowledged is there, nothing is half there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use strongroom_store::{Compare, Entry, Op, Outcome, Revision, SqliteStore, Store, Transaction};
use tokio::task::JoinSet;

use super::{child, create, key, open, options};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
const NAME: &str = "crash::acknowledged_writes_survive_twenty_kills";

#[test]
fn acknowledged_writes_survive_twenty_kills() {
    if let Some(folder) = child::folder() {
        write_for_ever(&folder.join("store.db"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    create(&path);
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        // Numbers without a common measure hit other moments of commits and checkpoints each time.
        let before = acknowledged.len();
        write_and_kill(folder.path(), 40 + round * 37, &mut acknowledged);
        assert!(acknowledged.len() > before);
        verify(&path, &acknowledged);
    }
}

/// Lets a child write until it has reported so many commits, kills it and keeps what it reported.
fn write_and_kill(folder: &Path, acks: usize, acknowledged: &mut BTreeMap<String, Revision>) {
    let mut child = child::command(&child::test(NAME), folder.as_os_str())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reported = 0;
    while reported < acks {
        let line = lines
            .next()
            .expect("the child writes until it is killed")
            .unwrap();
        reported += usize::from(keep(&line, acknowledged));
    }
    child.kill().unwrap();
    for line in lines {
        keep(&line.unwrap(), acknowledged);
    }
    child.wait().unwrap();
}

fn keep(line: &str, acknowledged: &mut BTreeMap<String, Revision>) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let ["ack", name, revision] = words[..] else {
        return false;
    };
    acknowledged.insert(name.to_owned(), Revision(revision.parse().unwrap()));
    true
}

/// Compares the store with what was acknowledged, and each writer's keys with its own count.
fn verify(path: &Path, acknowledged: &BTreeMap<String, Revision>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(path);
        let snapshot = store.snapshot("").await.unwrap();
        let found: BTreeMap<&str, &Entry> = snapshot
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry))
            .collect();
        for (name, revision) in acknowledged {
            let entry = found
                .get(name.as_str())
                .unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(entry.modified, *revision, "{name}");
            assert_eq!(entry.value, value(name), "{name}");
        }
        for writer in 0..WRITERS {
            let count = found
                .get(count_name(writer).as_str())
                .map_or(0, |entry| number(entry));
            let below = store
                .snapshot(&format!("write/{writer}/"))
                .await
                .unwrap()
                .entries;
            assert_eq!(below.len(), count, "writer {writer} was torn");
        }
        store.close().await.unwrap();
    });
}

fn number(entry: &Entry) -> usize {
    String::from_utf8(entry.value.clone())
        .unwrap()
        .parse()
        .unwrap()
}

fn count_name(writer: usize) -> String {
    format!("count/{writer}")
}

fn value(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(500).collect()
}

fn write_for_ever(path: &Path) -> ! {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A short log puts checkpoints between the commits.
    let options = strongroom_store::sqlite::Options {
        max_log_bytes: 256 * 1024,
        ..options()
    };
    let store = Arc::new(SqliteStore::open(path, &options).unwrap());
    let writers: JoinSet<()> = (0..WRITERS)
        .map(|writer| write(Arc::clone(&store), writer))
        .fold(JoinSet::new(), |mut set, task| {
            set.spawn_on(task, runtime.handle());
            set
        });
    runtime.block_on(writers.join_all());
    unreachable!("writers never end");
}

/// Adds one key after the other, each together with the count of them.
async fn write(store: Arc<SqliteStore>, writer: usize) {
    let counted = store
        .snapshot(&count_name(writer))
        .await
        .unwrap()
        .entries
        .pop();
    let mut last = counted.as_ref().map(|entry| entry.modified);
    for next in counted.as_ref().map_or(0, number).. {
        let name = format!("write/{writer}/{next}");
        let key_of_count = key(&count_name(writer));
        let compare = match last {
            Some(revision) => Compare::Modified {
                key: key_of_count.clone(),
                revision,
            },
            None => Compare::Absent {
                key: key_of_count.clone(),
            },
        };
        let transaction = Transaction::builder()
            .compare(compare)
            .op(Op::Put {
                key: key(&name),
                value: value(&name),
            })
            .put(key_of_count, (next + 1).to_string())
            .build()
            .unwrap();
        let Outcome::Committed(revision) = store.commit(transaction).await.unwrap() else {
            panic!("{name} was not committed");
        };
        child::report(&format!("ack {name} {revision}"));
        last = Some(revision);
    }
}
