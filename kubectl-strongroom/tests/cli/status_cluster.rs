//! `status` where there is a cluster.

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;

use crate::{
    api::{Api, OURS},
    common::{User, pair},
};

const LABELS: &str = "app.kubernetes.io/name: strongroom, app.kubernetes.io/version: 0.1.0";

fn cluster(api: &Api) {
    api.put_at(
        &format!("{OURS}/keyservices"),
        "{metadata: {name: default}, status: {instanceID: d1d2, version: 0.1.0, hardware: false, conditions: [{type: Ready, \
         status: 'True', reason: Serving, message: ''}, {type: HardwareRoot, status: 'False', reason: SoftHSM, message: this \
         is not hardware}]}}",
    );
    let workload = |folder: &str, name: &str, rest: &str| {
        let namespace = folder.rsplit('/').nth(1).unwrap();
        api.put_at(
            folder,
            &format!(
                "{{metadata: {{name: {name}, namespace: {namespace}, labels: {{{LABELS}, app.kubernetes.io/component: {}}}}}, \
                 {rest}}}",
                name.trim_start_matches("strongroom-")
            ),
        );
    };
    let system = "/apis/apps/v1/namespaces/strongroom-system";
    workload(
        &format!("{system}/statefulsets"),
        "strongroom-key-service",
        "spec: {replicas: 1}, status: {replicas: 1, readyReplicas: 1}",
    );
    workload(
        &format!("{system}/deployments"),
        "strongroom-operator",
        "spec: {replicas: 1}, status: {replicas: 1, readyReplicas: 1}",
    );
    workload(
        "/apis/apps/v1/namespaces/strongroom-csi/daemonsets",
        "strongroom-csi-driver",
        "status: {desiredNumberScheduled: 3, numberReady: 3}",
    );
    let ready = "{metadata: {name: a}, status: {conditions: [{type: Ready, status: 'True'}]}}";
    let awaiting = "{metadata: {name: b}, status: {conditions: [{type: Ready, status: 'False'}]}}";
    for object in [ready, awaiting] {
        api.put("managedsecrets", object);
    }
    api.put("keyrings", ready);
}

fn user(api: &Api) -> User {
    let user = User::new();
    api.configure(&user);
    user
}

#[test]
fn the_cluster_is_shown_without_a_certificate() {
    let api = Api::start();
    cluster(&api);
    let outcome = user(&api).run(&["status"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        KEYSERVICE     STATUS   REASON    MESSAGE
        Ready          True     Serving
        HardwareRoot   False    SoftHSM   this is not hardware

        WORKLOAD                             NAMESPACE           READY   VERSION
        StatefulSet strongroom-key-service   strongroom-system   1/1     0.1.0
        Deployment strongroom-operator       strongroom-system   1/1     0.1.0
        DaemonSet strongroom-csi-driver      strongroom-csi      3/3     0.1.0

        OBJECTS         READY   ALL
        KeyRing         1       1
        CryptoKey       0       0
        ManagedSecret   1       2
        SecretBundle    0       0
    "#]]
    .assert_eq(&outcome.out);
    let outcome = user(&api).run(&["status", "-o", "json"]);
    expect![[r#"
        {
          "ok": true,
          "cluster": {
            "keyService": {
              "ready": true,
              "version": "0.1.0",
              "instanceID": "d1d2",
              "hardware": false,
              "conditions": [
                {
                  "type": "Ready",
                  "status": "True",
                  "reason": "Serving",
                  "message": ""
                },
                {
                  "type": "HardwareRoot",
                  "status": "False",
                  "reason": "SoftHSM",
                  "message": "this is not hardware"
                }
              ]
            },
            "workloads": [
              {
                "kind": "StatefulSet",
                "namespace": "strongroom-system",
                "name": "strongroom-key-service",
                "component": "key-service",
                "version": "0.1.0",
                "desired": 1,
                "ready": 1
              },
              {
                "kind": "Deployment",
                "namespace": "strongroom-system",
                "name": "strongroom-operator",
                "component": "operator",
                "version": "0.1.0",
                "desired": 1,
                "ready": 1
              },
              {
                "kind": "DaemonSet",
                "namespace": "strongroom-csi",
                "name": "strongroom-csi-driver",
                "component": "csi-driver",
                "version": "0.1.0",
                "desired": 3,
                "ready": 3
              }
            ],
            "objects": [
              {
                "kind": "KeyRing",
                "total": 1,
                "ready": 1
              },
              {
                "kind": "CryptoKey",
                "total": 0,
                "ready": 0
              },
              {
                "kind": "ManagedSecret",
                "total": 2,
                "ready": 1
              },
              {
                "kind": "SecretBundle",
                "total": 0,
                "ready": 0
              }
            ],
            "missing": [],
            "notSeen": []
          }
        }
    "#]]
    .assert_eq(&outcome.out);
}

#[test]
fn a_part_that_is_missing_is_exit_code_1() {
    let api = Api::start();
    cluster(&api);
    api.put_at(
        "/apis/apps/v1/namespaces/strongroom-csi/daemonsets",
        "{metadata: {name: strongroom-csi-driver}, status: {desiredNumberScheduled: 3, numberReady: 2}}",
    );
    let outcome = user(&api).run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.out.contains("2/3"), "{}", outcome.out);
    cluster(&api);
    let operator = "/apis/apps/v1/namespaces/strongroom-system/deployments/strongroom-operator";
    api.state().objects.remove(operator);
    let outcome = user(&api).run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.out.contains("MISSING: nothing runs as operator"),
        "{}",
        outcome.out
    );
}

#[test]
fn what_may_not_be_seen_is_named_and_not_held_against_anybody() {
    let api = Api::start();
    cluster(&api);
    api.state()
        .denied
        .insert("/apis/apps/v1/daemonsets".to_owned());
    api.state().denied.insert(format!("{OURS}/managedsecrets"));
    let outcome = user(&api).run(&["status"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    assert!(
        outcome
            .out
            .contains("not seen: cannot list daemonsets: you may not"),
        "{}",
        outcome.out
    );
    assert!(!outcome.out.contains("WORKLOAD"), "{}", outcome.out);
}

#[test]
fn one_that_does_not_answer_does_not_hide_the_other() {
    let api = Api::start();
    cluster(&api);
    let (fake, user) = pair();
    api.configure(&user);
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    assert!(outcome.out.starts_with("Instance:"), "{}", outcome.out);
    assert!(outcome.out.contains("KEYSERVICE"), "{}", outcome.out);
    drop(fake);
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.out.starts_with("KEYSERVICE"), "{}", outcome.out);
    assert!(
        outcome.err.contains("cannot reach the key service"),
        "{}",
        outcome.err
    );
}
