//! Tests that need a process of their own: to be killed, to have a small disk or a file limit, to
//! be traced. Each runs itself again as that process; a variable says which side it is on.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom_audit::{AppendError, Checkpoint, Draft, Kind, Log, Options, Share, Status, verify};

use crate::common::*;

const DIR: &str = "STRONGROOM_AUDIT_TEST_DIR";

/// The folder that this process works in, if it is a test's second process.
fn second_process() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// A command that runs one test of this binary as the second process, by way of `wrapper`.
fn rerun(test: &str, dir: &Path, wrapper: &[&OsStr]) -> Command {
    let exe = env::current_exe().unwrap();
    let mut words: Vec<&OsStr> = wrapper.to_vec();
    words.extend([
        exe.as_os_str(),
        test.as_ref(),
        "--exact".as_ref(),
        "--nocapture".as_ref(),
    ]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(DIR, dir);
    command
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    assert!(stdout.contains("test result: ok. 1 passed"), "{stdout}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Appends without end from several tasks and prints each receipt and each checkpoint.
async fn write_until_killed(dir: PathBuf) {
    let certifier = Certifier::load(&dir.join("../certifier"));
    let anchor = fs::read_to_string(dir.join("../anchor")).ok();
    let anchor = anchor.map(|note| Checkpoint::parse(&note).unwrap());
    let log = Arc::new(open(&dir, anchor.as_ref()));
    let checkpointer = start(&log, &certifier).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for n in 0.. {
                let mut draft = call(n);
                draft.request_id = format!("{}-{task}-{n}", std::process::id());
                let id = draft.request_id.clone();
                let receipt = log.append(draft, Share::System).await.unwrap();
                println!("receipt {} {id}", receipt.index);
            }
        });
    }
    tasks.spawn(async move {
        loop {
            let checkpoint = checkpointer.checkpoint(1, 1, [0; 32]).await.unwrap();
            println!("checkpoint {}", hex::encode(checkpoint.as_note()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    tasks.join_all().await;
}

/// Runs the writer until it printed `receipts` receipts, kills it, and returns what it printed.
fn killed_after(receipts: usize, dir: &Path) -> Vec<String> {
    let mut command = rerun("processes::every_receipt_survives_sigkill", dir, &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut left = receipts;
    while output.read_line(&mut line).unwrap() > 0 {
        if left == 0 {
            child.kill().unwrap();
        }
        left = left.saturating_sub(usize::from(line.starts_with("receipt")));
        // The kill may cut the last line.
        lines.extend(line.strip_suffix('\n').map(str::to_owned));
        line.clear();
    }
    assert!(!child.wait().unwrap().success());
    lines
}

#[test]
fn every_receipt_survives_sigkill() {
    if let Some(dir) = second_process() {
        return block_on(write_until_killed(dir));
    }
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let certifier = Certifier::new();
    certifier.save(&base.path().join("certifier"));
    let mut receipts = BTreeMap::new();
    let mut anchor = None;
    for round in 0..20 {
        for line in killed_after(round * round, &dir) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["receipt", index, id] => {
                    let before = receipts.insert(index.parse::<u64>().unwrap(), id.to_owned());
                    assert_eq!(before, None, "two receipts for record {index}");
                }
                ["checkpoint", note] => {
                    let note = String::from_utf8(hex::decode(note).unwrap()).unwrap();
                    fs::write(base.path().join("anchor"), &note).unwrap();
                    anchor = Some(Checkpoint::parse(&note).unwrap());
                }
                _ => {}
            }
        }
        let log = open(&dir, anchor.as_ref());
        let records = log.records_from(0).unwrap().map(Result::unwrap);
        let found: BTreeMap<u64, String> = records.map(|r| (r.index, r.request_id)).collect();
        for (index, id) in &receipts {
            assert_eq!(found.get(index), Some(id), "round {round}");
        }
        drop(log);
        let report = verify(&dir, &certifier.trust(anchor.clone())).unwrap();
        assert_ne!(report.status, Status::Tampered, "round {round}: {report:?}");
    }
    assert!(receipts.len() > 2000, "{}", receipts.len());
    assert!(anchor.is_some());
}

/// Appends until an error; returns how many were written, and the error.
async fn append_all(log: &Log, share: Share) -> (usize, AppendError) {
    for written in 0.. {
        if let Err(error) = log.append(call(0), share).await {
            return (written, error);
        }
    }
    unreachable!("the disk is finite")
}

async fn fill_the_disk(dir: &Path) {
    let certifier = Certifier::new();
    let filler = dir.join("filler");
    fs::write(&filler, vec![0; 320 * 1024]).unwrap();
    let small = || Options {
        reserve_bytes: 256 * 1024,
        segment_bytes: 64 * 1024,
        ..options()
    };
    let log = open_with(&dir.join("log"), small(), None);
    let full = |(written, error): (usize, AppendError), expected: Share| {
        assert!(
            matches!(error, AppendError::Full { share } if share == expected),
            "{error:?}"
        );
        written
    };

    let checkpointer = start(&log, &certifier).await;
    assert!(full(append_all(&log, Share::Tenant).await, Share::Tenant) > 500);
    assert_eq!(
        full(append_all(&log, Share::System).await, Share::System),
        0
    );
    assert!(log.usage().reserve_held);
    checkpointer.checkpoint(1, 1, [0; 32]).await.unwrap();
    assert!(!log.usage().reserve_held);
    assert!(full(append_all(&log, Share::Reserve).await, Share::Reserve) > 500);
    assert_eq!(
        full(append_all(&log, Share::Tenant).await, Share::Tenant),
        0
    );
    let size = log.size();
    drop((log, checkpointer));

    let log = open_with(&dir.join("log"), small(), None);
    assert_eq!(log.size(), size);
    assert!(!log.usage().reserve_held);
    assert_eq!(
        full(append_all(&log, Share::Tenant).await, Share::Tenant),
        0
    );
    fs::remove_file(&filler).unwrap();
    assert_eq!(
        log.append(call(0), Share::Tenant).await.unwrap().index,
        size
    );
    assert!(log.usage().reserve_held);
    let report = verify(&dir.join("log"), &certifier.trust(None)).unwrap();
    assert_eq!(report.status, Status::TailUnproven, "{report:?}");
    assert_eq!(report.records, size + 1);
}

#[test]
fn on_a_full_disk_the_reserve_writes_and_others_are_told_so() {
    if let Some(dir) = second_process() {
        return block_on(fill_the_disk(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=1m none \"$STRONGROOM_AUDIT_TEST_DIR\" && exec \"$@\"";
    let wrapper = ["unshare", "-rm", "sh", "-c", mount, "sh"].map(OsStr::new);
    let test = "processes::on_a_full_disk_the_reserve_writes_and_others_are_told_so";
    succeed(rerun(test, dir.path(), &wrapper));
}

async fn break_the_disk(dir: &Path) {
    let roomy = || Options {
        segment_bytes: 1 << 20,
        reserve_bytes: 4096,
        ..options()
    };
    let log = open_with(dir, roomy(), None);
    let (written, error) = append_all(&log, Share::Tenant).await;
    assert!(matches!(error, AppendError::Io(_)), "{error:?}");
    // The disk works again; what it did to the log nobody knows.
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = maximum;
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
    for share in [Share::Tenant, Share::Reserve] {
        let error = log.append(call(0), share).await.unwrap_err();
        assert!(matches!(error, AppendError::Io(_)), "{error:?}");
    }
    assert_eq!(log.size(), written as u64);
    drop(log);
    assert_eq!(
        Log::open(dir, roomy(), None).unwrap().size(),
        written as u64
    );
}

#[test]
fn after_an_error_of_the_disk_nothing_is_written_until_a_restart() {
    if let Some(dir) = second_process() {
        return block_on(break_the_disk(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // The kernel answers EFBIG beyond the limit when the signal is ignored.
    let limit = "trap '' XFSZ; exec prlimit --fsize=65536: \"$@\"";
    let wrapper = ["sh", "-c", limit, "sh"].map(OsStr::new);
    let test = "processes::after_an_error_of_the_disk_nothing_is_written_until_a_restart";
    succeed(rerun(test, dir.path(), &wrapper));
}

async fn write_and_tell(dir: &Path) {
    let log = open(dir, None);
    for n in 0..30 {
        let receipt = log.append(call(n), Share::System).await.unwrap();
        println!("receipt {}", receipt.index);
    }
    let _ = log
        .append(Draft::new(Kind::Stop, NOW, "End"), Share::Reserve)
        .await
        .unwrap();
}

#[test]
fn a_receipt_comes_after_the_sync_of_its_record() {
    if let Some(dir) = second_process() {
        return block_on(write_and_tell(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let options = [
        "strace",
        "-f",
        "-s",
        "24",
        "-e",
        "trace=write,fdatasync",
        "-o",
    ];
    let mut wrapper = options.map(OsStr::new).to_vec();
    wrapper.push(trace.as_os_str());
    let log = dir.path().join("log");
    succeed(rerun(
        "processes::a_receipt_comes_after_the_sync_of_its_record",
        &log,
        &wrapper,
    ));

    let trace = fs::read_to_string(trace).unwrap();
    let (mut written, mut synced, mut told) = (None, None, 0);
    for call in trace.lines() {
        if let Some((_, index)) = call.split_once(r#""{\"index\":"#) {
            written = index.split(',').next().unwrap().parse::<u64>().ok();
        } else if call.contains("fdatasync") && call.ends_with("= 0") {
            synced = written;
        } else if let Some((_, index)) = call.split_once("\"receipt ") {
            let index: u64 = index.split('\\').next().unwrap().parse().unwrap();
            assert!(
                synced >= Some(index),
                "receipt {index} before its sync: {call}"
            );
            told += 1;
        }
    }
    assert_eq!(told, 30);
}
