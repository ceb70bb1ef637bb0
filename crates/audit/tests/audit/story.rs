//! A log from its first record to its verification.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use strongroom_audit::{Change, Share, Status, verify};

use crate::common::*;

#[tokio::test]
async fn a_log_of_two_runs_verifies_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let last = write_log(dir.path(), &certifier, 20).await;

    let report = verify(dir.path(), &certifier.trust(Some(last.clone()))).unwrap();
    assert_eq!(report.status, Status::Complete, "{report:?}");
    assert_eq!((report.records, report.covered_records), (42, 42));
    assert_eq!(
        (report.certificates, report.changes, report.gaps),
        (2, 12, 0)
    );
    assert!(report.segments > 2, "{report:?}");

    let report = verify(dir.path(), &certifier.trust(None)).unwrap();
    assert_eq!(report.status, Status::TailUnproven, "{report:?}");

    let log = open(dir.path(), Some(&last));
    assert_eq!(log.size(), 42);
    assert_eq!(log.changes().complete(), Some(Change { epoch: 1, seq: 12 }));
    let records: Vec<_> = log.records_from(17).unwrap().map(Result::unwrap).collect();
    let indexes: Vec<u64> = records.iter().map(|r| r.index).collect();
    assert_eq!(indexes, (17..42).collect::<Vec<_>>());
    assert_eq!(log.append(call(1), Share::Tenant).await.unwrap().index, 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_verifies_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let log = Arc::new(open(dir.path(), None));
    let checkpointer = start(&log, &certifier).await;
    let first = checkpointer.checkpoint(1, 0, [0; 32]).await.unwrap();
    let writer = Arc::clone(&log);
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move {
        for n in 0.. {
            let _ = writer.append(call(n), Share::System).await.unwrap();
            checkpointer.checkpoint(1, n, [0; 32]).await.unwrap();
            // Where a sync takes no time, the log would grow faster than it is verified.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let trust = certifier.trust(Some(first));
    let mut sizes = BTreeSet::new();
    while sizes.len() < 50 {
        let report = verify(dir.path(), &trust).unwrap();
        assert_eq!(report.status, Status::Complete, "{report:?}");
        sizes.insert(report.records);
    }
}
