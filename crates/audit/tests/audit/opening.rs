//! What `Log::open` accepts, repairs and refuses.

use std::{fs, io::Write, path::Path};

use strongroom_audit::{AppendError, Checkpoint, Log, OpenError, Origin, Share, Status, verify};

use crate::common::*;

fn refused(dir: &Path, anchor: Option<&Checkpoint>) -> OpenError {
    let before = contents(dir);
    let error = Log::open(dir, options(), anchor).unwrap_err();
    assert_eq!(contents(dir), before, "a refused log was changed: {error}");
    error
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_line_cut_by_a_crash_is_removed_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let anchor = write_log(dir.path(), &certifier, 5).await;
    let last = segments(dir.path()).pop().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(last).unwrap();
    file.write_all(b"{\"index\":12,\"time\":\"20").unwrap();

    let log = open(dir.path(), Some(&anchor));
    assert_eq!((log.size(), log.torn_bytes()), (12, 22));
    assert_eq!(log.append(call(0), Share::Tenant).await.unwrap().index, 12);
    let report = verify(dir.path(), &certifier.trust(Some(anchor))).unwrap();
    assert_eq!(
        (report.status, report.records),
        (Status::Complete, 13),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_log_that_does_not_extend_the_anchor_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let anchor = write_log(dir.path(), &certifier, 5).await;
    let last = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 10]).unwrap();
    let error = refused(dir.path(), Some(&anchor));
    let OpenError::DoesNotExtendAnchor {
        anchor_size: 12,
        log_size: 11,
    } = error
    else {
        panic!("{error:?}");
    };
    let error = refused(dir.path(), None);
    let OpenError::DoesNotExtendCheckpoint {
        checkpoint_size: 12,
        log_size: 11,
    } = error
    else {
        panic!("{error:?}");
    };

    let empty = tempfile::tempdir().unwrap();
    Log::begin(empty.path(), &origin()).unwrap();
    let error = refused(empty.path(), Some(&anchor));
    assert!(
        matches!(
            error,
            OpenError::DoesNotExtendAnchor {
                anchor_size: 12,
                log_size: 0
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_folder_in_which_no_log_was_begun_is_refused_and_left_empty() {
    let dir = tempfile::tempdir().unwrap();
    let anchor = write_log(dir.path(), &Certifier::new(), 5).await;
    let empty = tempfile::tempdir().unwrap();
    for anchor in [None, Some(&anchor)] {
        let error = Log::open(empty.path(), options(), anchor).unwrap_err();
        assert!(matches!(error, OpenError::NotBegun(_)), "{error:?}");
        assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    }
    let missing = empty.path().join("missing");
    let error = Log::open(&missing, options(), None).unwrap_err();
    assert!(matches!(error, OpenError::NotBegun(_)), "{error:?}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn another_history_of_the_same_length_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certifier = Certifier::new();
    let anchor = write_log(one.path(), &certifier, 5).await;
    let _ = write_log(other.path(), &certifier, 5).await;
    let error = refused(other.path(), Some(&anchor));
    assert!(
        matches!(
            error,
            OpenError::DoesNotExtendAnchor {
                anchor_size: 12,
                log_size: 12
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_anchor_that_the_file_of_checkpoints_lost_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let anchor = write_log(dir.path(), &Certifier::new(), 5).await;
    let path = dir.path().join("checkpoints");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.strip_suffix(anchor.as_note()).unwrap()).unwrap();
    let error = refused(dir.path(), Some(&anchor));
    assert!(
        matches!(
            error,
            OpenError::AnchorNotRecorded {
                anchor_size: 12,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_log_of_another_replica_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let anchor = write_log(dir.path(), &Certifier::new(), 2).await;
    let mut other = options();
    other.origin = Origin::new([0xab; 16], "key-service-1").unwrap();
    let error = Log::open(dir.path(), other.clone(), Some(&anchor)).unwrap_err();
    assert!(matches!(error, OpenError::OtherLog { .. }), "{error:?}");
    // So did logs begin when no file said whose they were.
    fs::remove_file(dir.path().join("origin")).unwrap();
    let error = Log::open(dir.path(), other, Some(&anchor)).unwrap_err();
    assert!(matches!(error, OpenError::OtherOrigin { .. }), "{error:?}");
    let log = Log::open(dir.path(), options(), Some(&anchor)).unwrap();
    assert_eq!(log.size(), anchor.size());
}

#[tokio::test]
async fn an_inconsistent_log_is_refused_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let _ = write_log(dir.path(), &Certifier::new(), 5).await;
    let paths = segments(dir.path());
    let good = fs::read_to_string(&paths[1]).unwrap();
    let first: u64 = good[9..].split(',').next().unwrap().parse().unwrap();
    let other_index = format!("{{\"index\":{}", first + 1);
    let cases: [(&str, String, u64); 5] = [
        (
            "another index",
            good.replacen(&format!("{{\"index\":{first}"), &other_index, 1),
            first,
        ),
        ("edited", good.replacen("Encrypt", "encrypt", 1), first + 1),
        ("no record", good.replacen('{', "[", 1), first),
        (
            "a line removed",
            good.split_once('\n').unwrap().1.to_owned(),
            first,
        ),
        ("a line of its own", format!("\n{good}"), first),
    ];
    for (done, bytes, place) in cases {
        fs::write(&paths[1], bytes).unwrap();
        let error = refused(dir.path(), None);
        let OpenError::Inconsistent { path, index, .. } = &error else {
            panic!("{done}: {error:?}");
        };
        assert_eq!((path, *index), (&paths[1], place), "{done}: {error}");
    }
    fs::remove_file(&paths[1]).unwrap();
    let error = refused(dir.path(), None);
    assert!(matches!(error, OpenError::Inconsistent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_log_has_one_writer_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), None);
    let second = Log::open(dir.path(), options(), None).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second:?}");
    log.close().await;
    log.close().await;
    let closed = log.append(call(0), Share::System).await.unwrap_err();
    assert!(matches!(closed, AppendError::Closed), "{closed:?}");
    let again = open(dir.path(), None);
    assert_eq!(again.append(call(0), Share::System).await.unwrap().index, 0);
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = options();
    none.segment_bytes = 0;
    let mut large = options();
    large.reserve_bytes = large.capacity_bytes + 1;
    for wrong in [none, large] {
        let error = Log::open(dir.path(), wrong, None).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
