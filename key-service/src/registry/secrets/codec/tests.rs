//! Frozen bytes of the records of secrets, and records that do not fit.

use expect_test::expect;
use prost::Message;
use std::{sync::Arc, time::Duration};

use strongroom_core::{
    Access, AccessBinding, AccessRole, HandledRequest, HandledRequests, ObjectId, RotationSchedule,
    RotationWindow, StoreEpoch, VersionId, VersionNumber,
};

use super::*;

fn tenant() -> Tenant {
    Tenant {
        cluster: "east".parse().expect("a DNS label"),
        namespace: "payments".parse().expect("a DNS label"),
    }
}

fn version(number: u32, stage: SecretStage) -> SecretVersion {
    SecretVersion {
        id: VersionId {
            epoch: StoreEpoch::FIRST,
            number: VersionNumber::new(number).expect("is not zero"),
        },
        stage,
        created: UnixMillis::new(2_000 + i64::from(number)),
    }
}

fn generated() -> SecretSource {
    let field = |name: &str, kind| GeneratedField {
        name: name.parse().expect("a name of a field"),
        kind,
    };
    let random = |length, alphabet| {
        FieldKind::Random(RandomText::new(length, alphabet).expect("is long enough"))
    };
    let fields = GeneratedFields::new(vec![
        field("username", FieldKind::Fixed("api".to_owned())),
        field("password", random(32, Alphabet::Alphanumeric)),
        field("salt", random(16, Alphabet::Hex)),
        field("pin", random(8, Alphabet::Printable)),
    ]);
    SecretSource::Generate(fields.expect("are few"))
}

fn manual() -> SecretSource {
    let names = ["key", "user"].map(|name| name.parse().expect("a name of a field"));
    SecretSource::Manual(FieldNames::new(names.to_vec()).expect("are two"))
}

fn schedule() -> RotationSchedule {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let window = RotationWindow::new("0 3 * * 1-5", "Europe/Berlin", hours(2));
    let window = window.expect("opens on workdays");
    RotationSchedule::new(hours(720), Some(window)).expect("is long enough")
}

fn handled() -> HandledRequest {
    HandledRequest {
        id: "INC-42".parse().expect("is printable"),
        version: version(2, SecretStage::Current).id,
        time: UnixMillis::new(2_002),
    }
}

/// A head in which every field is set.
fn full(source: SecretSource) -> SecretHead {
    let binding = AccessBinding {
        role: AccessRole::SecretReader,
        account: ObjectId {
            name: "api".parse().expect("a name"),
            uid: "uid-1".parse().expect("a uid"),
        },
    };
    let access = Access::new(Some(tenant()), vec![binding]).expect("is one");
    SecretHead {
        id: SecretId::from_bytes([0xa1; 16]),
        ring: RingId::from_bytes([0xa2; 16]),
        name: "db".parse().expect("a DNS label"),
        source,
        created: UnixMillis::new(1_000),
        versions: vec![
            version(1, SecretStage::Previous),
            version(2, SecretStage::Current),
        ],
        access: Arc::new(access),
        holder: Some("uid-2".parse().expect("a uid")),
        rotation: Some(schedule()),
        requests: [handled()].into_iter().collect(),
    }
}

fn read(bytes: &[u8]) -> Decoded<SecretHead> {
    let record = wire::SecretHead::decode(bytes).expect("is a message");
    decode(record, Some(tenant()))
}

#[test]
fn bytes_of_a_generated_secret_are_frozen() {
    let bytes = encode(&full(generated())).encode_to_vec();
    expect!["0a10a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a11210a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a21a026462223e0a0f0a08757365726e616d6512036170690a100a0870617373776f72641a04082010010a0c0a0473616c741a04081010020a0b0a0370696e1a040808100330e8073a0908011001180220d10f3a0908011002180120d20f420e080112036170691a057569642d314a057569642d325229088090fbd30912210a0b302033202a202a20312d35120d4575726f70652f4265726c696e1880bab7035a0f0a06494e432d34321001180220d20f"].assert_eq(&hex::encode(&bytes));
    assert_eq!(read(&bytes).expect("is a head"), full(generated()));
}

#[test]
fn bytes_of_a_manual_secret_are_frozen() {
    let bytes = encode(&full(manual())).encode_to_vec();
    expect!["0a10a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a11210a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a21a0264622a0b0a036b65790a047573657230e8073a0908011001180220d10f3a0908011002180120d20f420e080112036170691a057569642d314a057569642d325229088090fbd30912210a0b302033202a202a20312d35120d4575726f70652f4265726c696e1880bab7035a0f0a06494e432d34321001180220d20f"].assert_eq(&hex::encode(&bytes));
    assert_eq!(read(&bytes).expect("is a head"), full(manual()));
}

#[test]
fn bytes_from_before_there_were_custom_resources_are_read() {
    let bytes = hex::decode(
        "0a10a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a11210a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a21a0264622a0b0a036b65790a047573657230e8073a0908011001180220d10f3a0908011002180120d20f420e080112036170691a057569642d31",
    );
    let former = SecretHead {
        holder: None,
        rotation: None,
        requests: HandledRequests::default(),
        ..full(manual())
    };
    assert_eq!(
        read(&bytes.expect("are digits")).expect("is a head"),
        former
    );
}

#[test]
fn a_secret_without_a_version_is_read_back() {
    let waiting = SecretHead {
        versions: Vec::new(),
        ..full(manual())
    };
    let bytes = encode(&waiting).encode_to_vec();
    assert_eq!(read(&bytes).expect("is a head"), waiting);
}

#[test]
fn stages_that_no_step_leaves_behind_are_refused() {
    use SecretStage::{Current, Previous};
    for stages in [
        vec![Previous],
        vec![Current, Previous],
        vec![Current, Current],
        vec![Previous, Previous, Current],
    ] {
        let versions = (1..).zip(&stages).map(|(n, stage)| version(n, *stage));
        let head = SecretHead {
            versions: versions.collect(),
            ..full(manual())
        };
        let refused = read(&encode(&head).encode_to_vec()).expect_err("is refused");
        assert_eq!(refused.0, "versions", "{stages:?}");
    }
}

#[test]
fn what_this_version_does_not_know_is_refused_by_name() {
    let refused = |change: fn(&mut wire::SecretHead)| {
        let mut record = encode(&full(generated()));
        change(&mut record);
        decode(record, Some(tenant())).expect_err("is refused").0
    };
    assert_eq!(refused(|record| record.source = None), "source");
    assert_eq!(refused(|record| record.access[0].role = 2), "role");
    assert_eq!(refused(|record| record.versions[0].stage = 3), "stage");
}

#[test]
fn bindings_without_a_tenant_are_refused() {
    let record = encode(&full(manual()));
    assert_eq!(decode(record, None).expect_err("is refused").0, "access");
}
