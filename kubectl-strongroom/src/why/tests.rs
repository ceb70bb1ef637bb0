//! The walk, from manifests as kubectl would print them to what people read.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_yaml_ng::{Deserializer, Value};

use super::{
    observed::{Instance, Observed, PodSeen, SecretInService, Seen, ServiceCondition, Subject},
    report::Report,
};
use crate::{cluster::objects::Named, exit::Exit};

/// A pod that is held up by nothing.
const WHOLE: &str = include_str!("tests/whole.yaml");

/// A scene: the objects of a namespace.
#[derive(Clone)]
struct Scene(Vec<Value>);

impl Scene {
    fn new() -> Self {
        let documents = Deserializer::from_str(WHOLE);
        Self(
            documents
                .map(|document| Value::deserialize(document).unwrap())
                .collect(),
        )
    }

    fn position(&self, kind: &str, name: &str) -> Option<usize> {
        let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.0.iter().position(is_it)
    }

    /// Changes one object.
    fn with(mut self, kind: &str, name: &str, path: &[&str], value: &str) -> Self {
        let index = self.position(kind, name).unwrap();
        let mut place = &mut self.0[index];
        for part in path {
            let map = place.as_mapping_mut().unwrap();
            let entry = map.entry((*part).into());
            place = entry.or_insert_with(|| Value::Mapping(serde_yaml_ng::Mapping::new()));
        }
        *place = serde_yaml_ng::from_str(value).unwrap();
        self
    }

    fn without(mut self, kind: &str, name: &str) -> Self {
        let index = self.position(kind, name).unwrap();
        self.0.remove(index);
        self
    }

    fn get<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Seen<T> {
        match self.position(kind, name) {
            Some(index) => Seen::There(parse(&self.0[index])),
            None => Seen::Missing,
        }
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> BTreeMap<String, Seen<T>> {
        let of_kind = self.0.iter().filter(|object| object["kind"] == kind);
        let entry = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            (name.to_owned(), Seen::There(parse(object)))
        };
        of_kind.map(entry).collect()
    }

    fn list<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let of_kind = self.0.iter().filter(|object| object["kind"] == kind);
        of_kind.map(parse).collect()
    }

    fn pod(&self) -> Subject {
        let Seen::There(pod) = self.get("Pod", "api") else {
            panic!("the scene has a pod")
        };
        Subject::Pod(Box::new(PodSeen {
            pod,
            account: self.get::<Named>("ServiceAccount", "api"),
            driver: self.get("CSIDriver", "csi.strongroom.dev"),
            node: Some(self.get("CSINode", "node-1")),
            events: self.list("Event"),
        }))
    }

    fn observed(&self, subject: Subject) -> Observed {
        Observed {
            namespace: "payments".to_owned(),
            subject,
            bundles: self.all("SecretBundle"),
            secrets: self.all("ManagedSecret"),
            rings: Seen::There(self.list("KeyRing")),
            service: self.get("KeyService", "default"),
            instance: None,
        }
    }
}

fn parse<T: DeserializeOwned>(object: &Value) -> T {
    serde_yaml_ng::from_value(object.clone()).unwrap()
}

fn check_observed(observed: &Observed, exit: Exit, expected: Expect) {
    let report = Report::new(observed, "2026-11-22T05:00:00Z".parse().unwrap());
    expected.assert_eq(&report.text());
    assert_eq!(report.exit(), exit);
}

fn check(scene: Scene, exit: Exit, expected: Expect) {
    check_observed(&scene.observed(scene.pod()), exit, expected);
}

/// What stands below the table.
fn sentence(scene: &Scene) -> (Exit, String) {
    let observed = scene.observed(scene.pod());
    let report = Report::new(&observed, "2026-11-22T05:00:00Z".parse().unwrap());
    let text = report.text();
    (report.exit(), text.lines().last().unwrap().to_owned())
}

#[test]
fn whole_chain_is_shown_to_its_end() {
    check(
        Scene::new(),
        Exit::Ok,
        expect![[r#"
        ok   Pod          pod/api                 on node node-1
        ok   Volume       secrets                 asks for SecretBundle api
        ok   Volume       stripe                  asks for ManagedSecret stripe
        ok   Driver       csi.strongroom.dev      runs on node node-1
        ok   Bundle       sb/api                  Ready
        ok   Secret       msec/db                 version 1.3
        ok   Access       sa/api on msec/db       has SecretReader by spec.access of ManagedSecret db
        ok   Secret       msec/stripe             version 1.1
        ok   Access       sa/api on msec/stripe   has SecretReader by spec.access of ManagedSecret stripe
        ok   KeyRing      kr/payments             Ready
        ok   KeyService   keyservice/default      Ready

        Nothing that was seen is broken on the way of Pod payments/api.
    "#]],
    );
}

#[test]
fn account_without_the_role_is_denied_with_what_to_add() {
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["spec", "access"], "[]")
        .with("ManagedSecret", "db", &["status", "access"], "[]");
    check(
        scene,
        Exit::Denied,
        expect![[r#"
        ok       Pod      pod/api              on node node-1
        ok       Volume   secrets              asks for SecretBundle api
        ok       Volume   stripe               asks for ManagedSecret stripe
        ok       Driver   csi.strongroom.dev   runs on node node-1
        ok       Bundle   sb/api               Ready
        ok       Secret   msec/db              version 1.3
        DENIED   Access   sa/api on msec/db    RoleMissing

        Denied: ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db; add it under spec.access
    "#]],
    );
}

#[test]
fn a_role_on_the_ring_is_a_role_on_its_secrets() {
    let bound = "[{role: SecretReader, serviceAccount: api, uid: uid-of-api}]";
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["status", "access"], "[]")
        .with("KeyRing", "payments", &["status", "access"], bound);
    assert_eq!(sentence(&scene).0, Exit::Ok);
    let other = "[{role: KeyDecrypter, serviceAccount: api, uid: uid-of-api}]";
    let scene = scene
        .with("KeyRing", "payments", &["status", "access"], other)
        .with("ManagedSecret", "db", &["spec", "access"], "[]");
    assert_eq!(sentence(&scene).0, Exit::Denied);
}

#[test]
fn what_is_written_and_not_bound_is_not_there_yet() {
    let scene = Scene::new().with("ManagedSecret", "db", &["status", "access"], "[]");
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::NotYet);
    expect!["Not yet: ServiceAccount payments/api stands under spec.access, and is bound when the operator has told the key service"].assert_eq(&text);
    let held = "[{type: Ready, status: 'True'}, {type: AccessApplied, status: 'False', message: the policy is away}]";
    let scene = scene.with("ManagedSecret", "db", &["status", "conditions"], held);
    assert_eq!(
        sentence(&scene),
        (Exit::NotYet, "Not yet: the policy is away".to_owned())
    );
}

#[test]
fn an_account_that_was_made_anew_is_another_one() {
    let scene = Scene::new().with("ServiceAccount", "api", &["metadata", "uid"], "another");
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::NotYet);
    expect!["Not yet: ServiceAccount payments/api was made anew, and is bound again when the operator sees it"].assert_eq(&text);
}

#[test]
fn a_secret_without_a_value_waits_for_a_person() {
    let scene = Scene::new().with(
        "ManagedSecret",
        "stripe",
        &["status", "phase"],
        "AwaitingValue",
    );
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::NotYet);
    expect!["Not yet: ManagedSecret payments/stripe has no value yet; set it with `kubectl strongroom secret set`"].assert_eq(&text);
}

#[test]
fn what_is_optional_holds_nobody_up() {
    let files = "[{path: a, optional: true, from: {secret: nowhere, field: x}}]";
    let scene = Scene::new().with("SecretBundle", "api", &["spec", "files"], files);
    assert_eq!(sentence(&scene).0, Exit::Ok);
    let files = "[{path: a, from: {secret: nowhere, field: x}}]";
    let scene = scene.with("SecretBundle", "api", &["spec", "files"], files);
    let expected = "Broken: there is no ManagedSecret payments/nowhere".to_owned();
    assert_eq!(sentence(&scene), (Exit::Failed, expected.clone()));
    // Two files of one field: one of them is asked for all the same.
    let files = "[{path: a, optional: true, from: {secret: nowhere, field: x}}, {path: b, from: {secret: nowhere, field: x}}]";
    let scene = scene.with("SecretBundle", "api", &["spec", "files"], files);
    assert_eq!(sentence(&scene), (Exit::Failed, expected));
}

#[test]
fn a_field_that_the_secret_never_has_is_named() {
    let files = "[{path: a, from: {secret: db, field: passwd}}]";
    let scene = Scene::new().with("SecretBundle", "api", &["spec", "files"], files);
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::Failed);
    expect!["Broken: ManagedSecret payments/db has no field passwd; name one of its fields in the SecretBundle"].assert_eq(&text);
}

#[test]
fn a_missing_bundle_and_a_volume_that_asks_for_nothing_are_broken() {
    let scene = Scene::new().without("SecretBundle", "api");
    let expected = "Broken: there is no SecretBundle payments/api".to_owned();
    assert_eq!(sentence(&scene), (Exit::Failed, expected));
    let volume = "[{name: v, csi: {driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {secret: db}}}]";
    let scene = Scene::new().with("Pod", "api", &["spec", "volumes"], volume);
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::Failed);
    expect![[r#"Broken: unknown attribute "secret" in the pod's volume: `bundle`, `secrets` and `optional` are known"#]].assert_eq(&text);
    let writable =
        "[{name: v, csi: {driver: csi.strongroom.dev, volumeAttributes: {secrets: db}}}]";
    let scene = scene.with("Pod", "api", &["spec", "volumes"], writable);
    let (_, text) = sentence(&scene);
    expect![
        "Broken: the volume must be read-only: add `readOnly: true` under csi in the pod's volume"
    ]
    .assert_eq(&text);
    let twice = "[{name: v, csi: {driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {secrets: 'db,db'}}}]";
    let scene = scene.with("Pod", "api", &["spec", "volumes"], twice);
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::Failed);
    assert!(text.ends_with("separated by commas, each once"), "{text}");
}

#[test]
fn a_forged_attribute_is_broken_and_one_that_kubelet_writes_over_is_nothing() {
    let with = |attribute: &str| {
        let volume = format!(
            "[{{name: v, csi: {{driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {{secrets: db, {attribute}}}}}}}]"
        );
        sentence(&Scene::new().with("Pod", "api", &["spec", "volumes"], &volume))
    };
    let (exit, text) = with("csi.storage.k8s.io/serviceAccount.tokens: x");
    assert_eq!(exit, Exit::Failed);
    expect![[r#"Broken: attribute "csi.storage.k8s.io/serviceAccount.tokens" in the pod's volume is for kubelet alone to write: remove it"#]].assert_eq(&text);
    assert_eq!(with("csi.storage.k8s.io/pod.name: other").0, Exit::Ok);
}

#[test]
fn a_missing_role_is_told_before_what_only_readers_need_to_know() {
    let denied = |scene: Scene, secret: &str| {
        let scene = scene
            .with("ManagedSecret", secret, &["spec", "access"], "[]")
            .with("ManagedSecret", secret, &["status", "access"], "[]");
        let (exit, text) = sentence(&scene);
        assert_eq!(exit, Exit::Denied, "{text}");
        assert!(text.contains("has no role SecretReader"), "{text}");
    };
    let phase = ["status", "phase"];
    let scene = Scene::new().with("ManagedSecret", "stripe", &phase, "AwaitingValue");
    denied(scene, "stripe");
    let files = "[{path: a, from: {secret: db, field: passwd}}]";
    let scene = Scene::new().with("SecretBundle", "api", &["spec", "files"], files);
    denied(scene, "db");
}

#[test]
fn a_namespace_without_a_ring_is_told_before_what_would_lie_in_it() {
    let expected = "Broken: there is no KeyRing in namespace payments; the platform makes it";
    let scene = Scene::new().without("KeyRing", "payments");
    let scene = scene.without("ManagedSecret", "db");
    assert_eq!(sentence(&scene), (Exit::Failed, expected.to_owned()));
    let scene = scene.without("SecretBundle", "api");
    assert_eq!(sentence(&scene), (Exit::Failed, expected.to_owned()));
}

#[test]
fn what_everything_waits_for_is_told_in_place_of_what_waits() {
    let pending = "{conditions: [{type: Ready, status: 'False', reason: KeyServiceAway, message: later}], observedGeneration: 1}";
    let away = "[{type: Ready, status: 'False', reason: Unreachable, message: nobody answers at the port}]";
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["status"], pending)
        .with("ManagedSecret", "stripe", &["status"], pending)
        .with("SecretBundle", "api", &["status"], pending)
        .with("KeyRing", "payments", &["status"], pending)
        .with("KeyService", "default", &["status", "conditions"], away);
    check(
        scene,
        Exit::Failed,
        expect![[r#"
        ok       Pod          pod/api              on node node-1
        ok       Volume       secrets              asks for SecretBundle api
        ok       Volume       stripe               asks for ManagedSecret stripe
        ok       Driver       csi.strongroom.dev   runs on node node-1
        waits    Bundle       sb/api               KeyServiceAway
        waits    Secret       msec/db              KeyServiceAway
        waits    Secret       msec/stripe          KeyServiceAway
        waits    KeyRing      kr/payments          KeyServiceAway
        BROKEN   KeyService   keyservice/default   Unreachable

        Broken: nobody answers at the port
    "#]],
    );
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["status"], pending)
        .with("SecretBundle", "api", &["status"], "{}");
    assert_eq!(
        sentence(&scene),
        (Exit::NotYet, "Not yet: later".to_owned())
    );
}

#[test]
fn a_ring_of_a_former_namespace_names_the_command() {
    let former = "[{type: Ready, status: 'False', reason: OwnedByFormerNamespace, message: x}]";
    let scene = Scene::new().with("KeyRing", "payments", &["status", "conditions"], former);
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::Failed);
    expect!["Broken: KeyRing payments/payments belongs to a namespace of this name that is no more; an administrator gives it to this one with `kubectl strongroom ring adopt payments -n payments --reason …`"].assert_eq(&text);
}

#[test]
fn an_instance_that_nobody_initialised_is_not_there_yet() {
    let awaiting =
        "[{type: Ready, status: 'False', reason: AwaitingInit, message: waits for init}]";
    let scene = Scene::new().with("KeyService", "default", &["status", "conditions"], awaiting);
    assert_eq!(
        sentence(&scene),
        (Exit::NotYet, "Not yet: waits for init".to_owned())
    );
    let scene = scene.without("KeyService", "default");
    assert_eq!(sentence(&scene).0, Exit::Failed);
}

#[test]
fn a_degraded_key_service_is_broken_only_by_what_stops_it() {
    let with = |message: &str, hsm: &str| {
        let conditions = format!(
            "[{{type: Ready, status: 'False', reason: Degraded, message: '{message}'}}, {{type: HSMAvailable, status: '{hsm}', \
             reason: Away, message: the token does not answer}}]"
        );
        sentence(&Scene::new().with(
            "KeyService",
            "default",
            &["status", "conditions"],
            &conditions,
        ))
    };
    assert_eq!(with("AuditAnchored: no anchor yet", "True").0, Exit::Ok);
    let expected = "Broken: the token does not answer".to_owned();
    assert_eq!(
        with("HSMAvailable: away", "False"),
        (Exit::Failed, expected)
    );
    let expected = "Broken: Ready: store: away".to_owned();
    assert_eq!(with("Ready: store: away", "True"), (Exit::Failed, expected));
}

#[test]
fn a_node_without_the_driver_is_named() {
    let scene = Scene::new().with("CSINode", "node-1", &["spec", "drivers"], "[]");
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::NotYet);
    expect!["Not yet: the CSI driver does not run on node node-1 yet; look at the pods of DaemonSet strongroom-csi-driver"].assert_eq(&text);
    let scene = scene.without("CSIDriver", "csi.strongroom.dev");
    assert_eq!(sentence(&scene).0, Exit::Failed);
}

/// A scene in which the mount failed at a minute, and kubelet has an answer of the driver to show for it.
fn failed_mount(mut scene: Scene, minute: u8, answer: &str) -> Scene {
    let event = format!(
        "{{kind: Event, metadata: {{name: e}}, reason: FailedMount, lastTimestamp: '2026-11-22T04:{minute:02}:00Z', \
         message: 'MountVolume.SetUp failed for volume \"secrets\" : rpc error: code = {answer}'}}"
    );
    scene.0.push(serde_yaml_ng::from_str(&event).unwrap());
    scene
}

#[test]
fn kubelets_word_counts_only_when_nothing_else_explains_it() {
    let answer = "Unavailable desc = the key service cannot be reached";
    let scene = failed_mount(Scene::new(), 0, answer);
    assert_eq!(sentence(&scene).0, Exit::Ok);
    let scene = scene.with("Pod", "api", &["status", "phase"], "Pending");
    let expected = "Not yet: kubelet said last: the key service cannot be reached".to_owned();
    assert_eq!(sentence(&scene), (Exit::NotYet, expected));
    let scene = scene
        .with("ManagedSecret", "db", &["status", "access"], "[]")
        .with("ManagedSecret", "db", &["spec", "access"], "[]");
    assert_eq!(sentence(&scene).0, Exit::Denied);
    let report = Report::new(&scene.observed(scene.pod()), jiff::Timestamp::UNIX_EPOCH);
    let json = serde_json::to_string(&report).unwrap();
    assert!(!json.contains("Kubelet"), "{json}");
}

#[test]
fn kubelets_last_word_counts_and_its_code_tells_whose_turn_it_is() {
    let pending = || Scene::new().with("Pod", "api", &["status", "phase"], "Pending");
    let scene = failed_mount(pending(), 1, "Unavailable desc = first");
    let scene = failed_mount(scene, 9, "PermissionDenied desc = last");
    let scene = failed_mount(scene, 5, "Internal desc = between");
    let expected = "Denied: kubelet said last: last".to_owned();
    assert_eq!(sentence(&scene), (Exit::Denied, expected));
    for (code, exit) in [
        ("Unauthenticated", Exit::Denied),
        ("FailedPrecondition", Exit::NotYet),
        ("DeadlineExceeded", Exit::NotYet),
        ("Aborted", Exit::NotYet),
        ("Internal", Exit::Failed),
    ] {
        let scene = failed_mount(pending(), 0, &format!("{code} desc = x"));
        assert_eq!(sentence(&scene).0, exit, "{code}");
    }
}

#[test]
fn what_the_user_may_not_see_is_taken_for_whole_and_named() {
    let scene = Scene::new();
    let mut observed = scene.observed(scene.pod());
    let hidden = || "cannot get it: you may not: forbidden".to_owned();
    observed.service = Seen::Hidden(hidden());
    observed.rings = Seen::Hidden(hidden());
    check_observed(
        &observed,
        Exit::Ok,
        expect![[r#"
        ok         Pod          pod/api                 on node node-1
        ok         Volume       secrets                 asks for SecretBundle api
        ok         Volume       stripe                  asks for ManagedSecret stripe
        ok         Driver       csi.strongroom.dev      runs on node node-1
        ok         Bundle       sb/api                  Ready
        ok         Secret       msec/db                 version 1.3
        ok         Access       sa/api on msec/db       has SecretReader by spec.access of ManagedSecret db
        ok         Secret       msec/stripe             version 1.1
        ok         Access       sa/api on msec/stripe   has SecretReader by spec.access of ManagedSecret stripe
        not seen   KeyRing      kr/payments             cannot get it: you may not: forbidden
        not seen   KeyService   keyservice/default      cannot get it: you may not: forbidden

        Nothing that was seen is broken on the way of Pod payments/api.
    "#]],
    );
}

#[test]
fn a_role_that_a_hidden_ring_may_give_is_not_denied() {
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["spec", "access"], "[]")
        .with("ManagedSecret", "db", &["status", "access"], "[]");
    let mut observed = scene.observed(scene.pod());
    observed.rings = Seen::Hidden("you may not".to_owned());
    let report = Report::new(&observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(report.exit(), Exit::Ok);
    let text = report.text();
    assert!(text.contains("which you may not see, can"), "{text}");
}

#[test]
fn what_the_key_service_says_is_newer_than_a_status() {
    let scene = Scene::new();
    let mut observed = scene.observed(scene.pod());
    let condition = |r#type: &str, ok| ServiceCondition {
        r#type: r#type.to_owned(),
        ok,
        reason: "Away".to_owned(),
        message: "hsm-agent does not answer".to_owned(),
    };
    let there = SecretInService::There {
        version: Some("1.4".to_owned()),
        access: Vec::new(),
    };
    let mut instance = Instance {
        conditions: vec![condition("Ready", true), condition("HSMAvailable", false)],
        secrets: BTreeMap::new(),
    };
    observed.instance = Some(Ok(instance.clone()));
    check_observed(
        &observed,
        Exit::Failed,
        expect![[r#"
        ok       Pod          pod/api                  on node node-1
        ok       Volume       secrets                  asks for SecretBundle api
        ok       Volume       stripe                   asks for ManagedSecret stripe
        ok       Driver       csi.strongroom.dev       runs on node node-1
        ok       Bundle       sb/api                   Ready
        ok       Secret       msec/db                  version 1.3
        ok       Access       sa/api on msec/db        has SecretReader by spec.access of ManagedSecret db
        ok       Secret       msec/stripe              version 1.1
        ok       Access       sa/api on msec/stripe    has SecretReader by spec.access of ManagedSecret stripe
        ok       KeyRing      kr/payments              Ready
        ok       KeyService   keyservice/default       Ready
        ok       KeyService   condition Ready          Away
        BROKEN   HSM          condition HSMAvailable   Away

        Broken: hsm-agent does not answer
    "#]],
    );
    instance.secrets.insert("db".to_owned(), there);
    observed.instance = Some(Ok(instance));
    let text = Report::new(&observed, jiff::Timestamp::UNIX_EPOCH).text();
    assert!(text.contains("version 1.4"), "{text}");
    // The status still has the binding that the key service does not have any more.
    let has_access = |line: &str| line.starts_with("NOT YET") && line.contains("sa/api on msec/db");
    assert!(text.lines().any(has_access), "{text}");
    observed.instance = Some(Err("cannot reach it".to_owned()));
    let report = Report::new(&observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(report.exit(), Exit::Ok);
    assert!(report.text().contains("cannot reach it"));
}

#[test]
fn a_pod_without_a_volume_of_ours_is_not_our_business() {
    let scene = Scene::new().with("Pod", "api", &["spec", "volumes"], "[]");
    check(
        scene,
        Exit::Ok,
        expect![[r#"
        Pod payments/api has no volume of csi.strongroom.dev, so nothing of Strongroom holds it up.
    "#]],
    );
}

#[test]
fn a_secret_and_a_bundle_are_explained_by_themselves() {
    let scene = Scene::new();
    let secret = scene.observed(Subject::Secret("db".to_owned()));
    check_observed(
        &secret,
        Exit::Ok,
        expect![[r#"
        ok   Secret       msec/db              version 1.3
        ok   KeyRing      kr/payments          Ready
        ok   KeyService   keyservice/default   Ready

        Nothing that was seen is broken on the way of ManagedSecret payments/db.
    "#]],
    );
    let bundle = scene.observed(Subject::Bundle("api".to_owned()));
    check_observed(
        &bundle,
        Exit::Ok,
        expect![[r#"
        ok   Bundle       sb/api               Ready
        ok   Secret       msec/db              version 1.3
        ok   KeyRing      kr/payments          Ready
        ok   KeyService   keyservice/default   Ready

        Nothing that was seen is broken on the way of SecretBundle payments/api.
    "#]],
    );
}

#[test]
fn several_rings_must_be_told_apart() {
    let mut scene = Scene::new().with("ManagedSecret", "db", &["status", "keyRing"], "null");
    let other = "{kind: KeyRing, metadata: {name: other}, status: {conditions: [{type: Ready, status: 'True'}]}}";
    scene.0.push(serde_yaml_ng::from_str(other).unwrap());
    let (exit, text) = sentence(&scene);
    assert_eq!(exit, Exit::Failed);
    expect!["Broken: namespace payments has several KeyRings; name one under spec.keyRingRef"]
        .assert_eq(&text);
    let named = scene.clone().with(
        "ManagedSecret",
        "db",
        &["spec", "keyRingRef"],
        "{name: gone}",
    );
    let (_, text) = sentence(&named);
    expect!["Broken: there is no KeyRing payments/gone; the platform makes it"].assert_eq(&text);
    // What one of them binds says nothing before it is the one.
    let bound = "[{role: SecretReader, serviceAccount: api, uid: uid-of-api}]";
    let scene = scene
        .with("ManagedSecret", "db", &["status", "access"], "[]")
        .with("KeyRing", "payments", &["status", "access"], bound);
    let report = Report::new(&scene.observed(scene.pod()), jiff::Timestamp::UNIX_EPOCH);
    assert!(
        !report.text().contains("of KeyRing payments"),
        "{}",
        report.text()
    );
}

#[test]
fn json_has_every_link() {
    let scene = Scene::new()
        .with("ManagedSecret", "db", &["spec", "access"], "[]")
        .with("ManagedSecret", "db", &["status", "access"], "[]");
    let observed = scene.observed(Subject::Secret("db".to_owned()));
    let report = Report::new(&observed, jiff::Timestamp::UNIX_EPOCH);
    let json = serde_json::to_string_pretty(&report).unwrap();
    expect![[r#"
        {
          "kind": "ManagedSecret",
          "namespace": "payments",
          "name": "db",
          "observedAt": "1970-01-01T00:00:00Z",
          "ok": true,
          "broken": null,
          "links": [
            {
              "part": "Secret",
              "object": "msec/db",
              "state": "Whole",
              "reason": "",
              "message": "version 1.3"
            },
            {
              "part": "KeyRing",
              "object": "kr/payments",
              "state": "Whole",
              "reason": "",
              "message": "Ready"
            },
            {
              "part": "KeyService",
              "object": "keyservice/default",
              "state": "Whole",
              "reason": "",
              "message": "Ready"
            }
          ]
        }"#]]
    .assert_eq(&json);
}
