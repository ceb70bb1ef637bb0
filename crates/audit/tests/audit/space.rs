//! Who still writes when space is short.

use std::path::Path;

use strongroom_audit::{AppendError, Log, Options, Share};

use crate::common::*;

const CAPACITY: u64 = 40_000;

fn small(dir: &Path) -> Log {
    let options = Options {
        capacity_bytes: CAPACITY,
        reserve_bytes: 4096,
        ..options()
    };
    open_with(dir, options, None)
}

/// Appends until the share is used up; returns the percentage used then.
async fn fill(log: &Log, share: Share) -> u64 {
    loop {
        match log.append(call(0), share).await {
            Ok(_) => {}
            Err(AppendError::Full { share: full }) => {
                assert_eq!(full, share);
                return log.usage().used_bytes * 100 / CAPACITY;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn tenants_end_at_70_the_system_at_90_the_reserve_at_100_percent() {
    let dir = tempfile::tempdir().unwrap();
    let log = small(dir.path());
    assert_eq!(fill(&log, Share::Tenant).await, 69);
    assert_eq!(fill(&log, Share::System).await, 89);
    assert_eq!(fill(&log, Share::Tenant).await, 89);
    assert_eq!(fill(&log, Share::Reserve).await, 99);
    assert!(log.usage().used_bytes <= CAPACITY);
}

#[tokio::test]
async fn a_restart_frees_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = small(dir.path());
    fill(&log, Share::Tenant).await;
    let used = log.usage().used_bytes;
    drop(log);
    let log = small(dir.path());
    assert_eq!(log.usage().used_bytes, used);
    fill(&log, Share::Tenant).await;
    assert_eq!(log.usage().used_bytes, used);
    let _ = log.append(call(0), Share::System).await.unwrap();
}
