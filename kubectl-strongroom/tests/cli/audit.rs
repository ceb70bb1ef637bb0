//! `audit verify`, on logs that the audit crate wrote.

use std::{convert::Infallible, fs, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use expect_test::expect;
use strongroom_audit::{
    Certification, Checkpointer, Draft, Kind, Log, Options, Origin, Outcome as RecordOutcome,
    Share, Statement, certificate_message, spki_fingerprint,
};
use strongroom_kubectl_strongroom::Exit;

use crate::{
    common::{Outcome, User},
    pki::write,
};

/// 2026-11-22T04:39:47.123Z.
const NOW: i64 = 1_795_322_387_123;

/// A user with a log of twelve records and what is needed to verify it.
struct Auditor {
    user: User,
    fingerprint: String,
}

impl Auditor {
    fn new() -> Self {
        let user = User::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        let fingerprint = spki_fingerprint(&spki).to_string();
        let folder = user.path().join("log");
        fs::create_dir(&folder).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let witness = runtime.unwrap().block_on(write_log(&folder, &key, &spki));
        write(user.path(), "witness", &witness);
        Self { user, fingerprint }
    }

    fn verify(&self, args: &[&str]) -> Outcome {
        let folder = self.user.path().join("log");
        let fixed = ["audit", "verify", folder.to_str().unwrap(), "--fingerprint"];
        self.user
            .run(&[&fixed, [self.fingerprint.as_str()].as_slice(), args].concat())
    }

    fn witness(&self) -> String {
        self.user
            .path()
            .join("witness")
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// The file with the records.
    fn segment(&self) -> std::path::PathBuf {
        let entries = fs::read_dir(self.user.path().join("log")).unwrap();
        let mut segments: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("request-3")))
            .collect();
        assert_eq!(segments.len(), 1);
        segments.remove(0)
    }
}

async fn write_log(folder: &Path, key: &EcdsaKeyPair, spki: &[u8]) -> String {
    let options = Options {
        origin: Origin::new([0xab; 16], "key-service-0").unwrap(),
        segment_bytes: 1 << 20,
        capacity_bytes: 64 << 20,
        reserve_bytes: 1 << 16,
    };
    Log::begin(folder, &options.origin).unwrap();
    let log = Log::open(folder, options, None).unwrap();
    let certify = |statement: Statement| async move {
        let message = certificate_message(&statement);
        let signature = key.sign(&SystemRandom::new(), &message).unwrap();
        Ok::<_, Infallible>(Certification {
            spki: spki.to_vec(),
            signature: signature.as_ref().to_vec(),
        })
    };
    let start = Draft::new(Kind::Start, NOW, "Serve");
    let checkpointer = Checkpointer::start(&log, 1, start, certify).await.unwrap();
    for n in 0..10 {
        let mut draft = Draft::new(Kind::Call, NOW + n, "Encrypt");
        draft.request_id = format!("request-{n}");
        draft.caller = "socket:kms".to_owned();
        draft.outcome = RecordOutcome::Succeeded;
        draft.code = "Ok".to_owned();
        let _ = log.append(draft, Share::System).await.unwrap();
    }
    let checkpoint = checkpointer.checkpoint(1, 0, [7; 32]).await.unwrap();
    log.close().await;
    checkpoint.as_note().to_owned()
}

#[test]
fn log_with_its_witness_is_complete() {
    let auditor = Auditor::new();
    let outcome = auditor.verify(&["--witness", &auditor.witness()]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        Complete up to the witness.
        Log:            strongroom.dev/abababababababababababababababab/key-service-0
        Records:        11 fit together; 11 covered by checkpoints, 11 by the witness
        Time:           2026-11-22T04:39:47.123Z to 2026-11-22T04:39:47.132Z
        Checkpoints:    1
        Certificates:   1
        Changes:        0
    "#]]
    .assert_eq(&outcome.out);
}

#[test]
fn log_without_a_witness_has_an_unproven_tail() {
    let auditor = Auditor::new();
    let outcome = auditor.verify(&["-o", "json"]);
    assert_eq!(outcome.exit, Exit::NotYet);
    let bytes = fs::metadata(auditor.segment()).unwrap().len().to_string();
    expect![[r#"
        {
          "status": "TailUnproven",
          "origin": "strongroom.dev/abababababababababababababababab/key-service-0",
          "segments": 1,
          "records": 11,
          "bytes": BYTES,
          "coveredRecords": 11,
          "witnessedRecords": null,
          "certificates": 1,
          "checkpoints": 1,
          "changes": 0,
          "gaps": 0,
          "firstTime": "2026-11-22T04:39:47.123Z",
          "lastTime": "2026-11-22T04:39:47.132Z",
          "tornBytes": 0
        }
    "#]]
    .assert_eq(&outcome.out.replace(&bytes, "BYTES"));
}

#[test]
fn changed_record_is_named_with_its_file() {
    let auditor = Auditor::new();
    let segment = auditor.segment();
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replace("request-3", "request-4")).unwrap();
    let outcome = auditor.verify(&["--witness", &auditor.witness()]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        TAMPERED at log-00000000000000000000.jsonl, record 4: not the record that record 5 was written after.
        Log:            strongroom.dev/abababababababababababababababab/key-service-0
        Records:        5 fit together; 0 covered by checkpoints, 11 by the witness
        Time:           2026-11-22T04:39:47.123Z to 2026-11-22T04:39:47.126Z
        Checkpoints:    0
        Certificates:   1
        Changes:        0
    "#]].assert_eq(&outcome.out);
}

#[test]
fn log_of_another_certifier_is_not_accepted() {
    let mut auditor = Auditor::new();
    auditor.fingerprint = "00".repeat(32);
    let outcome = auditor.verify(&["--witness", &auditor.witness()]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.out.starts_with("TAMPERED at certificates"),
        "{}",
        outcome.out
    );
}

#[test]
fn witness_may_have_lost_or_gained_newlines_at_its_end() {
    let auditor = Auditor::new();
    let text = fs::read_to_string(auditor.witness()).unwrap();
    for end in ["", "\n\n"] {
        let path = write(
            auditor.user.path(),
            "other",
            &format!("{}{end}", text.trim_end()),
        );
        let outcome = auditor.verify(&["--witness", path.to_str().unwrap()]);
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.out);
    }
}

#[test]
fn what_cannot_be_read_is_not_called_tampered() {
    let auditor = Auditor::new();
    let no_checkpoint = write(auditor.user.path(), "note", "hello\n");
    let cases = [
        auditor.verify(&["--witness", no_checkpoint.to_str().unwrap()]),
        auditor.verify(&["--witness", "/nowhere/witness"]),
        {
            fs::rename(
                auditor.user.path().join("log"),
                auditor.user.path().join("gone"),
            )
            .unwrap();
            auditor.verify(&[])
        },
    ];
    assert!(cases.iter().all(|outcome| outcome.exit == Exit::Usage));
    expect![[r#"
        error: the witness "HOME/note" is not a checkpoint: text is not a signed note with one signature
        error: cannot read the witness "/nowhere/witness": No such file or directory (os error 2)
        error: cannot verify the log: cannot read "HOME/log/": No such file or directory (os error 2)
    "#]].assert_eq(&cases.map(|outcome| outcome.err).concat());
}
