//! The system calls of a writing process: each acknowledgement comes after a sync that came after its own pages.
//!
//! The trace is read by a checker that is first shown a trace without the syncs, which it must refuse.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{child, create, must_put, open};

const NAME: &str = "sync::each_acknowledgement_follows_a_sync_of_its_own_pages";
const WRITERS: usize = 4;
const WRITES: usize = 25;

#[test]
fn each_acknowledgement_follows_a_sync_of_its_own_pages() {
    if let Some(folder) = child::folder() {
        return write(&folder.join("store.db"));
    }
    let folder = tempfile::tempdir().unwrap();
    create(&folder.path().join("store.db"));
    let trace = trace(folder.path());
    let mut reader = Reader::default();
    let calls: Vec<Call> = trace.lines().filter_map(|line| reader.read(line)).collect();

    assert_eq!(unsynced(&calls), Ok(WRITERS * WRITES));
    let without_syncs: Vec<Call> = calls
        .into_iter()
        .filter(|call| !matches!(call, Call::Synced))
        .collect();
    assert!(
        unsynced(&without_syncs).is_err(),
        "the checker takes anything"
    );
}

/// Runs the writing child under strace and returns what it did, in order.
fn trace(folder: &Path) -> String {
    let output = folder.join("trace");
    let mut words: Vec<std::ffi::OsString> = [
        "strace",
        "-f",
        "-y",
        "-s",
        "8192",
        "-e",
        "trace=pwrite64,write,fsync,fdatasync",
        "-o",
    ]
    .map(Into::into)
    .into();
    words.push(output.clone().into());
    words.extend(child::test(NAME));
    let status = child::command(&words, folder.as_os_str())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("strace runs: it is in the Debian package of this name");
    assert!(status.success());
    std::fs::read_to_string(output).unwrap()
}

/// What matters of one line of the trace.
#[derive(Debug)]
enum Call {
    /// Pages were written to the log, with these marks in them.
    Logged(Vec<String>),
    /// The log was synced.
    Synced,
    /// A caller was told that this mark is safe.
    Acknowledged(String),
}

/// Reads a trace line by line. A call that another thread interrupts takes two lines.
#[derive(Default)]
struct Reader {
    /// The log's sync has begun. Only the writer's thread syncs, so there is never more than one.
    syncing: bool,
}

impl Reader {
    fn read(&mut self, line: &str) -> Option<Call> {
        let of_log = line.contains("store.db-wal>");
        if of_log && line.contains("sync(") {
            self.syncing = line.ends_with("<unfinished ...>");
            return line.ends_with("= 0").then_some(Call::Synced);
        }
        if self.syncing && line.contains("sync resumed>") {
            self.syncing = false;
            return line.ends_with("= 0").then_some(Call::Synced);
        }
        if of_log && line.contains("pwrite64(") {
            return Some(Call::Logged(marks(line)));
        }
        let told = line.contains(" write(1<") && line.contains("ack <");
        told.then(|| Call::Acknowledged(marks(line).remove(0)))
    }
}

/// The marks in a line: `<number/number>`.
fn marks(line: &str) -> Vec<String> {
    let is_mark =
        |text: &&str| text.contains('/') && text.bytes().all(|b| b"0123456789/".contains(&b));
    line.split(['<', '>'])
        .filter(is_mark)
        .map(str::to_owned)
        .collect()
}

/// Counts the acknowledgements, or names the first that came too early.
fn unsynced(calls: &[Call]) -> Result<usize, String> {
    let mut acknowledged = 0;
    for (at, call) in calls.iter().enumerate() {
        let Call::Acknowledged(mark) = call else {
            continue;
        };
        let is_its_page = |call: &Call| matches!(call, Call::Logged(marks) if marks.contains(mark));
        let written = calls[..at].iter().position(is_its_page);
        let written = written.ok_or_else(|| format!("{mark} was never logged"))?;
        if !calls[written..at]
            .iter()
            .any(|call| matches!(call, Call::Synced))
        {
            return Err(format!("{mark} was acknowledged before a sync"));
        }
        acknowledged += 1;
    }
    Ok(acknowledged)
}

fn write(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(path));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let store = Arc::clone(&store);
            writers.spawn(async move {
                for number in 0..WRITES {
                    let mark = format!("<{writer}/{number}>");
                    must_put(&store, &format!("write/{writer}"), mark.clone()).await;
                    child::report(&format!("ack {mark}"));
                }
            });
        }
        writers.join_all().await;
        store.close().await.unwrap();
    });
}
