//! What a secret wants, and what is said about it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strongroom_api::strongroom::v1::{ApplyOutcome, Secret, SecretVersion};

use super::*;
use crate::{crds::Truth, plan::Guard};

fn secret(change: impl FnOnce(&mut Value)) -> ManagedSecret {
    let mut object = json!({
        "apiVersion": "strongroom.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": "db", "namespace": "payments", "uid": "u-db", "generation": 3},
        "spec": {
            "source": {"generate": {"fields": [
                {"name": "username", "value": "api"},
                {"name": "password", "length": 24, "alphabet": "Hex"},
            ]}},
            "rotation": {"period": "720h"},
            "access": [{"role": "SecretReader", "subjects": [{"kind": "ServiceAccount", "name": "api"}]}],
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn facts() -> Facts {
    Facts {
        namespace_uid: Some("u-ns".to_owned()),
        rings: vec!["payments".to_owned()],
        accounts: BTreeMap::from([("api".to_owned(), "u-api".to_owned())]),
        guard: Guard::InPlace,
        ..Facts::default()
    }
}

fn state(versions: &[(&str, SecretStage)], outcome: ApplyOutcome) -> SecretState {
    let version = |(version, stage): &(&str, SecretStage)| SecretVersion {
        version: (*version).to_owned(),
        stage: (*stage).into(),
        ..SecretVersion::default()
    };
    SecretState {
        outcome: outcome.into(),
        secret: Some(Secret {
            id: "id".to_owned(),
            versions: versions.iter().map(version).collect(),
            ..Secret::default()
        }),
        consumers: 12,
        consumers_current: 11,
        ..SecretState::default()
    }
}

#[test]
fn wish_holds_what_is_written_and_the_uids_of_now() {
    let wish = secret(|_| {}).wish(&facts()).ok().unwrap();
    let request = wish.request;
    assert_eq!(request.ring, "payments");
    let object = request.object.unwrap();
    assert_eq!((&*object.namespace_uid, &*object.uid), ("u-ns", "u-db"));
    assert_eq!(request.access[0].service_account_uid, "u-api");
    assert_eq!(request.rotation.unwrap().period.unwrap().seconds, 2_592_000);
    let Some(WireSource::Generate(source)) = request.source.unwrap().source else {
        panic!("it is generated");
    };
    assert!(matches!(&source.fields[0].kind, Some(FieldKind::Value(text)) if text == "api"));
    assert!(matches!(&source.fields[1].kind, Some(FieldKind::Random(text)) if text.length == 24));
}

#[test]
fn nothing_is_wished_for_before_namespace_and_ring_are_there() {
    let secret = secret(|_| {});
    let reason = |facts: &Facts| secret.wish(facts).err().unwrap().reason;
    let mut early = facts();
    early.namespace_uid = None;
    assert_eq!(reason(&early), Reason::NamespaceUnknown);
    let mut without = facts();
    without.rings.clear();
    assert_eq!(reason(&without), Reason::RingNotFound);
}

#[test]
fn generated_secret_is_ready_with_its_version_and_consumers() {
    let secret = secret(|_| {});
    let wish = secret.wish(&facts()).ok().unwrap();
    let versions = [
        ("1.1", SecretStage::Previous),
        ("1.2", SecretStage::Current),
    ];
    let told = secret.told(&wish, &state(&versions, ApplyOutcome::Created));
    assert!(told.verdict.ready && told.is_new);
    let status = told.status;
    assert_eq!(status.version.as_deref(), Some("1.2"));
    assert_eq!(status.consumers.as_deref(), Some("11/12"));
    assert_eq!(status.phase, Some(Phase::Active));
    assert_eq!(status.access[0].uid, "u-api");
    assert_eq!(told.notices[0].0, Notice::Created);
}

#[test]
fn count_that_may_lack_volumes_is_none_and_replaces_none_of_the_same_version() {
    let consumers = |before: Value, pending: bool| {
        let secret = secret(|object| object["status"] = before);
        let wish = secret.wish(&facts()).ok().unwrap();
        let versions = [("1.2", SecretStage::Current)];
        let mut state = state(&versions, ApplyOutcome::Unchanged);
        state.consumers_pending = pending;
        secret.told(&wish, &state).status.consumers
    };
    let former = json!({"version": "1.1", "consumers": "12/12", "conditions": []});
    assert_eq!(consumers(former.clone(), true), None);
    assert_eq!(consumers(former, false).as_deref(), Some("11/12"));
    let same = json!({"version": "1.2", "consumers": "12/13", "conditions": []});
    assert_eq!(consumers(same.clone(), true).as_deref(), Some("12/13"));
    assert_eq!(consumers(same, false).as_deref(), Some("11/12"));
}

#[test]
fn manual_secret_waits_for_its_value_and_says_how_to_set_it() {
    let manual = secret(|object| {
        object["spec"] = json!({"source": {"manual": {"fields": ["key"]}}});
    });
    let wish = manual.wish(&facts()).ok().unwrap();
    let told = manual.told(&wish, &state(&[], ApplyOutcome::Unchanged));
    assert_eq!(told.verdict.reason, Reason::AwaitingValue);
    assert!(told.verdict.message.contains("secret set db -n payments"));
    assert_eq!(told.status.phase, Some(Phase::AwaitingValue));
}

#[test]
fn new_version_is_told_once() {
    let told = |before: Value, source: Value| {
        let secret = secret(|object| {
            object["status"] = before;
            object["spec"] = json!({"source": source});
        });
        let wish = secret.wish(&facts()).ok().unwrap();
        let state = state(&[("1.2", SecretStage::Current)], ApplyOutcome::Unchanged);
        let told = secret.told(&wish, &state);
        told.notices
            .into_iter()
            .map(|(it, _)| it)
            .collect::<Vec<_>>()
    };
    let generate = json!({"generate": {"fields": [{"name": "a"}]}});
    let manual = json!({"manual": {"fields": ["a"]}});
    let before = json!({"secretID": "id", "version": "1.1"});
    assert_eq!(told(before.clone(), generate.clone()), [Notice::Rotated]);
    assert_eq!(told(before, manual.clone()), [Notice::ValueSet]);
    assert_eq!(told(json!({"secretID": "id"}), manual), [Notice::ValueSet]);
    let same = json!({"secretID": "id", "version": "1.2"});
    assert_eq!(told(same, generate.clone()), []);
    assert_eq!(told(json!({}), generate), []);
}

#[test]
fn outage_of_the_guard_leaves_what_was_bound_in_the_status() {
    let secret = secret(|object| {
        object["status"] = json!({"access": [
            {"role": "SecretReader", "serviceAccount": "old", "uid": "u-old"},
        ]});
    });
    let mut unguarded = facts();
    unguarded.guard = Guard::Missing("it is not there");
    let wish = secret.wish(&unguarded).ok().unwrap();
    assert!(wish.request.keep_access && wish.request.access.is_empty());
    let told = secret.told(
        &wish,
        &state(&[("1.1", SecretStage::Current)], ApplyOutcome::Unchanged),
    );
    assert_eq!(told.status.access[0].service_account, "old");
    assert_eq!(told.verdict.access.unwrap().status, Truth::False);
}
