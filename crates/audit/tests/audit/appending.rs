//! What `append` promises to many callers at once, and what it refuses.

use std::sync::Arc;

use strongroom_audit::{
    AppendError, Change, ChangeError, Draft, Kind, Log, MAX_RECORD_BYTES, Share, Status, verify,
};

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_get_the_places_of_their_own_records() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path(), None));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64u64 {
        let log = Arc::clone(&log);
        callers.spawn(async move {
            let mut places = Vec::new();
            for n in 0..20 {
                let draft = call(caller * 1000 + n);
                let id = draft.request_id.clone();
                places.push((log.append(draft, Share::System).await.unwrap().index, id));
            }
            places
        });
    }
    let mut places = callers.join_all().await.concat();
    places.sort();
    let records = log.records_from(0).unwrap().map(Result::unwrap);
    let found: Vec<_> = records.map(|r| (r.index, r.request_id)).collect();
    assert_eq!(found, places);
    assert_eq!(found.len(), 64 * 20);
}

#[tokio::test]
async fn a_record_may_fill_its_line_and_not_one_byte_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let empty = {
        let _ = log.append(call(0), Share::System).await.unwrap();
        log.usage().used_bytes as usize
    };
    let sized = |bytes: usize| {
        let mut draft = call(0);
        draft.caller.push_str(&"x".repeat(bytes - empty));
        draft
    };
    let refused = log
        .append(sized(MAX_RECORD_BYTES + 1), Share::Reserve)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AppendError::TooLarge { bytes } if bytes == MAX_RECORD_BYTES + 1),
        "{refused:?}"
    );
    assert_eq!(
        log.append(sized(MAX_RECORD_BYTES), Share::Tenant)
            .await
            .unwrap()
            .index,
        1
    );
    drop(log);
    assert_eq!(open(dir.path(), None).size(), 2);
    let report = verify(dir.path(), &Certifier::new().trust(None)).unwrap();
    assert_eq!(report.status, Status::TailUnproven, "{report:?}");
}

#[tokio::test]
async fn a_time_that_cannot_be_written_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let draft = Draft::new(Kind::Call, i64::MAX, "Encrypt");
    let refused = log.append(draft, Share::System).await.unwrap_err();
    assert!(matches!(refused, AppendError::InvalidTime), "{refused:?}");
    assert_eq!(log.append(call(0), Share::System).await.unwrap().index, 0);
}

async fn append_change(log: &Log, seq: u64) -> Result<u64, ChangeError> {
    match log.append(change(1, seq), Share::System).await {
        Ok(receipt) => Ok(receipt.index),
        Err(AppendError::Change(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_replay_may_offer_what_is_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    for seq in [1, 2, 4] {
        append_change(&log, seq).await.unwrap();
    }
    drop(log);

    let log = open(dir.path(), None);
    assert_eq!(log.changes().complete(), Some(Change { epoch: 1, seq: 2 }));
    let missing: Vec<u64> = (1..=5)
        .filter(|&seq| !log.changes().contains(Change { epoch: 1, seq }))
        .collect();
    assert_eq!(missing, [3, 5]);
    let repeated = |seq| Err(ChangeError::Repeated(Change { epoch: 1, seq }));
    let mut outcomes = Vec::new();
    for seq in 1..=5 {
        outcomes.push(append_change(&log, seq).await);
    }
    assert_eq!(
        outcomes,
        [repeated(1), repeated(2), Ok(3), repeated(4), Ok(4)]
    );
    assert_eq!(log.changes().complete(), Some(Change { epoch: 1, seq: 5 }));
}

#[tokio::test]
async fn after_a_gap_the_changes_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    append_change(&log, 1).await.unwrap();
    append_change(&log, 3).await.unwrap();
    let _ = log
        .append(Draft::new(Kind::Gap, NOW, "AcceptLoss"), Share::System)
        .await
        .unwrap();
    append_change(&log, 40).await.unwrap();
    drop(log);
    assert_eq!(
        open(dir.path(), None).changes().complete(),
        Some(Change { epoch: 1, seq: 40 })
    );
    let report = verify(dir.path(), &Certifier::new().trust(None)).unwrap();
    assert_eq!(
        (report.status, report.gaps),
        (Status::TailUnproven, 1),
        "{report:?}"
    );
}
