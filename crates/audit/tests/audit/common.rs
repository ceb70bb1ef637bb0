//! What the tests share: a certifier in software, drafts, and a log with checkpoints to damage.

use std::{collections::BTreeMap, convert::Infallible, fs, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use strongroom_audit::{
    Certification, Change, Checkpoint, Checkpointer, Draft, Kind, Log, Options, Origin, Outcome,
    Share, Statement, Trust, certificate_message, spki_fingerprint,
};

/// 2026-11-22T04:39:47.123Z.
pub(crate) const NOW: i64 = 1_795_322_387_123;

/// The HSM's part, in software.
pub(crate) struct Certifier(EcdsaKeyPair);

impl Certifier {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn save(&self, path: &Path) {
        fs::write(path, self.0.to_pkcs8v1().unwrap()).unwrap();
    }

    pub(crate) fn load(path: &Path) -> Self {
        let key = fs::read(path).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).unwrap())
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    pub(crate) fn certify(&self, statement: &Statement) -> Certification {
        let message = certificate_message(statement);
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        Certification {
            spki: self.spki(),
            signature: signature.as_ref().to_vec(),
        }
    }

    pub(crate) fn trust(&self, witness: Option<Checkpoint>) -> Trust {
        Trust {
            certifier: spki_fingerprint(&self.spki()),
            origin: Some(origin()),
            witness,
        }
    }
}

pub(crate) fn origin() -> Origin {
    Origin::new([0xab; 16], "key-service-0").unwrap()
}

pub(crate) fn options() -> Options {
    Options {
        origin: origin(),
        segment_bytes: 1024,
        capacity_bytes: 64 << 20,
        reserve_bytes: 1 << 16,
    }
}

pub(crate) fn open(dir: &Path, anchor: Option<&Checkpoint>) -> Log {
    open_with(dir, options(), anchor)
}

/// Opens a log, which is begun before.
pub(crate) fn open_with(dir: &Path, options: Options, anchor: Option<&Checkpoint>) -> Log {
    Log::begin(dir, &options.origin).unwrap();
    Log::open(dir, options, anchor).unwrap()
}

pub(crate) fn call(n: u64) -> Draft {
    let mut draft = Draft::new(Kind::Call, NOW + n as i64, "Encrypt");
    draft.request_id = format!("request-{n}");
    draft.caller = "socket:kms".to_owned();
    draft.resource = "ring/00/key/01".to_owned();
    draft.outcome = Outcome::Succeeded;
    draft.code = "Ok".to_owned();
    draft.detail = BTreeMap::from([("version".to_owned(), format!("1.{n}"))]);
    draft
}

pub(crate) fn change(epoch: u32, seq: u64) -> Draft {
    let mut draft = call(seq);
    draft.kind = Kind::Change;
    draft.action = "RotateKey".to_owned();
    draft.change = Some(Change { epoch, seq });
    draft
}

pub(crate) async fn start(log: &Log, certifier: &Certifier) -> Checkpointer {
    let certify = |statement| async move { Ok::<_, Infallible>(certifier.certify(&statement)) };
    Checkpointer::start(log, 1, Draft::new(Kind::Start, NOW, "Serve"), certify)
        .await
        .unwrap()
}

/// Writes a log of two runs with `records` calls and changes, several segments and checkpoints;
/// returns the last checkpoint, which covers all of it.
pub(crate) async fn write_log(dir: &Path, certifier: &Certifier, records: u64) -> Checkpoint {
    let mut anchor = None;
    let mut seq = 0;
    for _ in 0..2 {
        let log = open(dir, anchor.as_ref());
        let checkpointer = start(&log, certifier).await;
        for n in 0..records {
            let draft = if n % 3 == 2 {
                change(1, seq + 1)
            } else {
                call(n)
            };
            seq += u64::from(draft.change.is_some());
            let _ = log.append(draft, Share::System).await.unwrap();
            if n % 5 == 4 {
                checkpointer
                    .checkpoint(1, seq, [seq as u8; 32])
                    .await
                    .unwrap();
            }
        }
        anchor = Some(
            checkpointer
                .checkpoint(1, seq, [seq as u8; 32])
                .await
                .unwrap(),
        );
        log.close().await;
    }
    anchor.unwrap()
}
