//! When checkpoints are made, and from whom a certificate is taken.

use std::{convert::Infallible, fs};

use strongroom_audit::{
    Certification, CheckpointFailed, Checkpointer, Draft, Kind, Share, StartError, Statement,
    Status, verify,
};

use crate::common::*;

#[tokio::test]
async fn a_checkpoint_is_made_only_when_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let checkpointer = start(&log, &Certifier::new()).await;
    let first = checkpointer.checkpoint(1, 7, [1; 32]).await.unwrap();
    assert_eq!((first.size(), first.epoch(), first.seq()), (1, 1, 7));
    assert_eq!(checkpointer.checkpoint(1, 7, [1; 32]).await.unwrap(), first);
    let _ = log.append(call(0), Share::Tenant).await.unwrap();
    let second = checkpointer.checkpoint(1, 7, [1; 32]).await.unwrap();
    assert_eq!((second.size(), second.previous()), (2, first.hash()));
    let third = checkpointer.checkpoint(1, 8, [1; 32]).await.unwrap();
    assert_eq!((third.size(), third.previous()), (2, second.hash()));
    let file = fs::read_to_string(dir.path().join("checkpoints")).unwrap();
    assert_eq!(
        file,
        [first.as_note(), second.as_note(), third.as_note()].concat()
    );
}

#[tokio::test]
async fn a_store_that_went_back_or_changed_its_epoch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let checkpointer = start(&log, &Certifier::new()).await;
    checkpointer.checkpoint(1, 7, [1; 32]).await.unwrap();
    let error = checkpointer.checkpoint(1, 6, [1; 32]).await.unwrap_err();
    assert!(
        matches!(error, CheckpointFailed::WentBack { last: 7, asked: 6 }),
        "{error:?}"
    );
    let error = checkpointer.checkpoint(2, 8, [1; 32]).await.unwrap_err();
    assert!(
        matches!(
            error,
            CheckpointFailed::OtherEpoch {
                certified: 1,
                asked: 2
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn each_start_is_recorded_and_bound_to_the_checkpoint_before() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let last = write_log(dir.path(), &certifier, 2).await;
    let log = open(dir.path(), Some(&last));
    let checkpointer = start(&log, &certifier).await;
    let Statement {
        start,
        previous,
        origin,
        epoch,
        ..
    } = checkpointer.certificate().statement().clone();
    assert_eq!((start, previous, epoch), (7, last.hash(), 1));
    assert_eq!(&origin, log.origin());
    let record = log.records_from(6).unwrap().next().unwrap().unwrap();
    assert_eq!(record.kind, Kind::Start);
    assert!(record.detail.contains_key("checkpoint_key"), "{record:?}");
}

#[tokio::test]
async fn a_log_has_one_checkpointer() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let certifier = Certifier::new();
    let _first = start(&log, &certifier).await;
    let certify = |statement| async { Ok::<_, Infallible>(certifier.certify(&{ statement })) };
    let draft = Draft::new(Kind::Start, NOW, "Serve");
    let error = Checkpointer::start(&log, 1, draft, certify)
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::AlreadyStarted), "{error:?}");
}

#[tokio::test]
async fn a_start_without_certificate_is_tried_again_and_recorded_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let certifier = Certifier::new();
    let draft = || Draft::new(Kind::Start, NOW, "Serve");
    for _ in 0..3 {
        let certify = |_| async { Err::<Certification, _>("hsm-agent is out of reach") };
        let error = Checkpointer::start(&log, 1, draft(), certify)
            .await
            .unwrap_err();
        assert!(matches!(error, StartError::Certify(_)), "{error:?}");
    }
    let never = |_| std::future::pending::<Result<Certification, Infallible>>();
    let waited = std::time::Duration::from_millis(1);
    let start_again = Checkpointer::start(&log, 1, draft(), never);
    tokio::time::timeout(waited, start_again).await.unwrap_err();
    let _ = log.append(call(0), Share::System).await.unwrap();

    let checkpointer = start(&log, &certifier).await;
    let last = checkpointer.checkpoint(1, 1, [0; 32]).await.unwrap();
    assert_eq!(
        (checkpointer.certificate().statement().start, last.size()),
        (1, 2)
    );
    let report = verify(dir.path(), &certifier.trust(Some(last))).unwrap();
    assert_eq!(report.status, Status::Complete, "{report:?}");
}

#[tokio::test]
async fn a_wrong_certificate_is_not_used() {
    type Answer = fn(&Certifier, Statement) -> Result<Certification, &'static str>;
    let other_statement: Answer = |certifier, mut statement| {
        statement.start += 1;
        Ok(certifier.certify(&statement))
    };
    let other_key: Answer = |certifier, statement| {
        let spki = Certifier::new().spki();
        Ok(Certification {
            spki,
            ..certifier.certify(&statement)
        })
    };
    let no_key: Answer = |certifier, statement| {
        Ok(Certification {
            spki: Vec::new(),
            ..certifier.certify(&statement)
        })
    };
    let unreachable: Answer = |_, _| Err("hsm-agent is out of reach");
    for (answer, sentence) in [
        (
            other_statement,
            "the certificate of the checkpoint key is wrong",
        ),
        (other_key, "the certificate of the checkpoint key is wrong"),
        (no_key, "the certificate of the checkpoint key is wrong"),
        (unreachable, "the checkpoint key was not certified"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), None);
        let certifier = Certifier::new();
        let certify = |statement| async { answer(&certifier, statement) };
        let draft = Draft::new(Kind::Start, NOW, "Serve");
        let error = Checkpointer::start(&log, 1, draft, certify)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), sentence);
        assert_eq!(fs::read(dir.path().join("certificates")).unwrap(), b"");
    }
}
