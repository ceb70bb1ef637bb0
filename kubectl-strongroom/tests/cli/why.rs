//! `why`, from the command line to the text. What follows from what is tested beside the walk.

use std::path::Path;

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;

use crate::{
    api::{Api, OURS},
    common::{User, pair},
    fake::condition,
};

/// Puts the objects of the walk's own test where an API server has them.
fn scene(api: &Api) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/why/tests/whole.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    for document in text.split("---\n") {
        let object: serde_json::Value = serde_yaml_ng::from_str(document).unwrap();
        let of_namespace =
            |group: &str, plural: &str| format!("{group}/namespaces/payments/{plural}");
        let folder = match object["kind"].as_str().unwrap() {
            "Pod" => of_namespace("/api/v1", "pods"),
            "ServiceAccount" => of_namespace("/api/v1", "serviceaccounts"),
            "CSIDriver" => "/apis/storage.k8s.io/v1/csidrivers".to_owned(),
            "CSINode" => "/apis/storage.k8s.io/v1/csinodes".to_owned(),
            "KeyService" => format!("{OURS}/keyservices"),
            kind => of_namespace(OURS, &format!("{}s", kind.to_lowercase())),
        };
        api.put_at(&folder, document);
    }
}

#[test]
fn a_pod_is_explained_from_its_volume_to_the_hsm() {
    let api = Api::start();
    scene(&api);
    let user = User::new();
    api.configure(&user);
    let outcome = user.run(&["why", "pod/api"]);
    assert_eq!(
        (outcome.exit, outcome.err.as_str()),
        (Exit::Ok, ""),
        "{}",
        outcome.out
    );
    assert!(
        outcome.out.contains("runs on node node-1"),
        "{}",
        outcome.out
    );

    api.put(
        "managedsecrets",
        "{metadata: {name: db, generation: 1}, spec: {source: {generate: {fields: [{name: username}, {name: password}]}}}, \
         status: {observedGeneration: 1, keyRing: payments, version: '1.3', conditions: [{type: Ready, status: 'True'}]}}",
    );
    let outcome = user.run(&["why", "pod/api"]);
    assert_eq!(outcome.exit, Exit::Denied);
    let sentence = outcome.out.lines().last().unwrap();
    expect!["Denied: ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db; add it under spec.access"]
        .assert_eq(sentence);
    let outcome = user.run(&["why", "pod/api", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(json["broken"]["reason"], "RoleMissing");
}

#[test]
fn what_may_not_be_seen_is_named_but_not_the_subject_itself() {
    let api = Api::start();
    scene(&api);
    let user = User::new();
    api.configure(&user);
    let service = format!("{OURS}/keyservices/default");
    api.state().denied.insert(service);
    let outcome = user.run(&["why", "pod/api"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    assert!(outcome.out.contains("you may not"), "{}", outcome.out);

    let pod = "/api/v1/namespaces/payments/pods/api".to_owned();
    api.state().denied.insert(pod);
    let outcome = user.run(&["why", "pod/api"]);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Denied, ""));
    expect![[r#"
        error: cannot get Pod api: you may not: forbidden: user "me" cannot do that
    "#]]
    .assert_eq(&outcome.err);
    let outcome = user.run(&["why", "msec/gone", "-n", "other"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.err,
        "error: there is no ManagedSecret gone in namespace other\n"
    );
}

#[test]
fn the_key_service_is_asked_where_there_is_a_certificate() {
    let api = Api::start();
    scene(&api);
    let (fake, user) = pair();
    api.configure(&user);
    if let Ok(instance) = &mut fake.state().instance {
        let ready = condition("Ready", true, "Serving", "");
        instance.conditions.push(ready);
    }
    let outcome = user.run(&["why", "msec/db"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    assert!(outcome.out.contains("condition Ready"), "{}", outcome.out);
    if let Ok(instance) = &mut fake.state().instance {
        let hsm = condition("HSMAvailable", false, "Away", "hsm-agent does not answer");
        instance.conditions.push(hsm);
    }
    let outcome = user.run(&["why", "msec/db"]);
    assert_eq!(outcome.exit, Exit::Failed);
    let sentence = outcome.out.lines().last().unwrap();
    assert_eq!(sentence, "Broken: hsm-agent does not answer");
    drop(fake);
    let outcome = user.run(&["why", "msec/db"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.out);
    assert!(outcome.out.contains("not seen"), "{}", outcome.out);
}

#[test]
fn without_a_kubeconfig_nothing_is_explained() {
    let outcome = User::new().run(&["why", "pod/api"]);
    assert_eq!(outcome.exit, Exit::Usage);
    expect![[r#"
        error: no kubeconfig is given; give --kubeconfig, set KUBECONFIG, or write ~/.kube/config
    "#]]
    .assert_eq(&outcome.err);
}
