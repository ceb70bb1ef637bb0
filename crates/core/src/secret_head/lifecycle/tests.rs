//! The life of a secret, step by step and over random sequences of steps.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    AccessBinding, AccessRole, HandledRequests, ObjectId, RingId, SecretBytes, SecretId, Tenant,
    secret_head::{Alphabet, FieldKind, FieldNames, GeneratedField, GeneratedFields, RandomText},
};

const EPOCH: StoreEpoch = StoreEpoch::FIRST;

fn name(text: &str) -> FieldName {
    text.parse().expect("a name of a field")
}

fn generated() -> SecretSource {
    let random = RandomText::new(32, Alphabet::Alphanumeric).expect("is long enough");
    let field = GeneratedField {
        name: name("password"),
        kind: FieldKind::Random(random),
    };
    SecretSource::Generate(GeneratedFields::new(vec![field]).expect("is one"))
}

fn manual(fields: &[&str]) -> SecretSource {
    let names = fields.iter().copied().map(name).collect();
    SecretSource::Manual(FieldNames::new(names).expect("are few"))
}

fn secret(source: SecretSource) -> SecretHead {
    SecretHead {
        id: SecretId::from_bytes([1; 16]),
        ring: RingId::from_bytes([2; 16]),
        name: "db".parse().expect("a DNS label"),
        source,
        created: at(0),
        versions: Vec::new(),
        access: Arc::default(),
        holder: None,
        rotation: None,
        requests: HandledRequests::default(),
    }
}

fn at(milliseconds: i64) -> UnixMillis {
    UnixMillis::new(milliseconds)
}

fn value(fields: &[&str]) -> SecretValue {
    let field = |field: &&str| (name(field), SecretBytes::copy_from(b"x"));
    SecretValue::new(fields.iter().map(field).collect::<BTreeMap<_, _>>()).expect("is small")
}

/// `VERSION STAGE` of each version.
fn stages(head: &SecretHead) -> Vec<String> {
    let shown = |version: &SecretVersion| format!("{} {:?}", version.id, version.stage);
    head.versions.iter().map(shown).collect()
}

#[test]
fn manual_secret_waits_for_its_value_and_keeps_the_one_before() {
    let waiting = secret(manual(&["key"]));
    assert_eq!(waiting.staged(SecretStage::Current), None);
    let first = waiting.set(&value(&["key"]), EPOCH, at(1)).expect("is set");
    assert_eq!(stages(&first.head), ["1.1 Current"]);
    assert_eq!(first.dropped, None);
    let second = first.head.set(&value(&["key"]), EPOCH, at(2));
    let second = second.expect("is set");
    assert_eq!(stages(&second.head), ["1.1 Previous", "1.2 Current"]);
    assert_eq!(second.dropped, None);
}

#[test]
fn third_version_drops_the_first() {
    let mut head = secret(generated());
    let mut dropped = None;
    for time in 1..=3 {
        let next = head.rotated(EPOCH, at(time)).expect("can be rotated");
        (head, dropped) = (next.head, next.dropped);
    }
    assert_eq!(stages(&head), ["1.2 Previous", "1.3 Current"]);
    assert_eq!(
        dropped.map(|version| version.to_string()),
        Some("1.1".to_owned())
    );
}

#[test]
fn version_of_a_later_epoch_starts_at_one_again() {
    let first = secret(generated()).rotated(EPOCH, at(1)).expect("is made");
    let restored = first.head.rotated(StoreEpoch::new(7), at(2));
    let restored = restored.expect("can be rotated").head;
    assert_eq!(stages(&restored), ["1.1 Previous", "7.1 Current"]);
}

#[test]
fn fields_are_set_all_together_and_no_others() {
    let secret = secret(manual(&["user", "key"]));
    for (fields, expected) in [
        (vec!["user"], SecretStepError::FieldMissing(name("key"))),
        (
            vec!["user", "key", "other"],
            SecretStepError::FieldUnknown(name("other")),
        ),
    ] {
        let refused = secret.set(&value(&fields), EPOCH, at(1));
        assert_eq!(refused, Err(expected), "{fields:?}");
    }
}

#[test]
fn source_says_who_makes_the_next_version() {
    let set = secret(generated()).set(&value(&["password"]), EPOCH, at(1));
    assert_eq!(set, Err(SecretStepError::Generated));
    let rotated = secret(manual(&["key"])).rotated(EPOCH, at(1));
    assert_eq!(rotated, Err(SecretStepError::Manual));
}

#[test]
fn access_is_replaced_and_nothing_else_changes() {
    let tenant = Tenant {
        cluster: "east".parse().expect("a DNS label"),
        namespace: "payments".parse().expect("a DNS label"),
    };
    let binding = AccessBinding {
        role: AccessRole::SecretReader,
        account: ObjectId {
            name: "api".parse().expect("a name"),
            uid: "uid-1".parse().expect("a uid"),
        },
    };
    let access = Access::new(Some(tenant), vec![binding]).expect("is one");
    let before = secret(generated()).rotated(EPOCH, at(1)).expect("is made");
    let after = before.head.with_access(Arc::new(access.clone()));
    assert_eq!(*after.access, access);
    assert_eq!(after.with_access(Arc::default()), before.head);
}

fn schedule() -> RotationSchedule {
    RotationSchedule::new(Duration::from_hours(24), None).expect("is long enough")
}

#[test]
fn a_schedule_is_for_what_the_key_service_makes() {
    let refused = secret(manual(&["key"])).with_rotation(Some(schedule()));
    assert_eq!(refused, Err(SecretStepError::ManualSchedule));
    let by_request_only = secret(manual(&["key"])).with_rotation(None);
    assert_eq!(by_request_only, Ok(secret(manual(&["key"]))));
}

#[test]
fn the_next_rotation_counts_from_the_current_version() {
    let day = 24 * 3_600_000;
    let scheduled = secret(generated()).with_rotation(Some(schedule()));
    let scheduled = scheduled.expect("is generated");
    assert_eq!(scheduled.next_rotation(at(0)), None, "there is no version");
    let first = scheduled.rotated(EPOCH, at(0)).expect("is generated").head;
    assert_eq!(first.next_rotation(at(0)), Some(at(day)));
    let second = first
        .rotated(EPOCH, at(3 * day))
        .expect("is generated")
        .head;
    assert_eq!(second.next_rotation(at(3 * day)), Some(at(4 * day)));
    let by_request_only = second.with_rotation(None).expect("is generated");
    assert_eq!(by_request_only.next_rotation(at(9 * day)), None);
}

#[test]
fn a_request_is_remembered_with_the_version_that_it_made() {
    let id: RequestId = "INC-42".parse().expect("an id");
    let first = secret(generated())
        .rotated(EPOCH, at(1))
        .expect("is generated");
    let second = first.head.rotated_for(id.clone(), EPOCH, at(2));
    let second = second.expect("is generated");
    let handled = second.head.requests.find(&id).expect("is remembered");
    assert_eq!((handled.version, handled.time), (second.version, at(2)));
    assert_eq!(stages(&second.head), ["1.1 Previous", "1.2 Current"]);
    let third = second.head.rotated(EPOCH, at(3)).expect("is generated");
    assert_eq!(third.head.requests, second.head.requests);
    let manual = secret(manual(&["key"])).rotated_for(id, EPOCH, at(1));
    assert_eq!(manual, Err(SecretStepError::Manual));
}

proptest! {
    #[test]
    fn any_life_keeps_the_invariants(epochs in proptest::collection::vec(1..4u32, 0..40)) {
        let mut head = secret(generated());
        let mut used = Vec::new();
        let mut epoch = 0;
        for (time, next) in epochs.iter().enumerate() {
            // A store's epoch never goes back.
            epoch = epoch.max(*next);
            let before: Vec<VersionId> = head.versions.iter().map(|version| version.id).collect();
            let step = head.rotated(StoreEpoch::new(epoch), at(time as i64)).expect("can be rotated");
            prop_assert!(!used.contains(&step.version), "no version id is given twice");
            used.push(step.version);
            head = step.head;
            let current = head.staged(SecretStage::Current).expect("is there");
            prop_assert_eq!(current.id, step.version);
            let previous = head.staged(SecretStage::Previous).map(|version| version.id);
            prop_assert_eq!(previous, before.last().copied(), "what was current is previous");
            let kept: Vec<VersionId> = head.versions.iter().map(|version| version.id).collect();
            let gone = before.into_iter().find(|version| !kept.contains(version));
            prop_assert_eq!(gone, step.dropped, "whatever is not kept is named");
            prop_assert!(kept.len() <= 2);
        }
    }
}
