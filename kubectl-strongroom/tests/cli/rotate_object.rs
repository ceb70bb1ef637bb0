//! `rotate msec/NAME` and `rotate ck/NAME`.

use expect_test::expect;
use serde_json::json;
use strongroom_kubectl_strongroom::Exit;

use crate::{
    api::{Api, OURS},
    common::User,
};

const SECRET: &str = "{metadata: {name: db}, spec: {source: {generate: {fields: [{name: password}]}}}, status: {version: '1.2', \
                      consumers: 2/2}}";

fn user(api: &Api) -> User {
    let user = User::new();
    api.configure(&user);
    user
}

#[test]
fn a_secret_is_rotated_by_an_object_that_stays() {
    let api = Api::start();
    api.put("managedsecrets", SECRET);
    let user = user(&api);
    let outcome = user.run(&["rotate", "msec/db", "--reason", "INC-42"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert_eq!(
        outcome.out,
        "asked for a rotation of ManagedSecret payments/db by SecretRotation db-x7k2p\n"
    );
    let change = api.state().changes.pop().unwrap();
    assert_eq!(change.method, "POST");
    let folder = format!("{OURS}/namespaces/payments/secretrotations");
    assert_eq!(
        change.path,
        format!("{folder}?fieldManager=kubectl-strongroom")
    );
    assert_eq!(change.body["metadata"], json!({"generateName": "db-"}));
    assert_eq!(
        change.body["spec"],
        json!({"secretRef": {"name": "db"}, "reason": "INC-42"})
    );
}

#[test]
fn a_dry_run_leaves_nothing() {
    let api = Api::start();
    api.put("managedsecrets", SECRET);
    let user = user(&api);
    let outcome = user.run(&["rotate", "msec/db", "--dry-run=server"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert_eq!(
        outcome.out,
        "ManagedSecret payments/db would be rotated (server dry run)\n"
    );
    assert!(api.state().changes[0].path.ends_with("&dryRun=All"));
    assert_eq!(api.state().objects.len(), 1);
}

#[test]
fn the_wait_ends_with_the_last_volume() {
    let api = Api::start();
    api.put("managedsecrets", SECRET);
    api.state().status =
        json!({"version": "1.3", "conditions": [{"type": "Ready", "status": "True"}]});
    let user = user(&api);
    let outcome = user.run(&["rotate", "msec/db", "--wait", "--timeout", "1s"]);
    assert_eq!(outcome.exit, Exit::NotYet);
    expect![[r#"
        waiting: the ManagedSecret does not show the new version yet
        error: not yet: after 1s the ManagedSecret does not show the new version yet; the wish stays, and is carried out once
    "#]]
    .assert_eq(&outcome.err);

    api.put("managedsecrets", &SECRET.replace("1.2", "1.3"));
    let outcome = user.run(&["rotate", "msec/db", "--wait", "-o", "json"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        {
          "kind": "ManagedSecret",
          "namespace": "payments",
          "name": "db",
          "dryRun": false,
          "rotation": "db-x7k2p",
          "requestID": null,
          "done": true,
          "version": "1.3"
        }
    "#]]
    .assert_eq(&outcome.out);
}

#[test]
fn what_cannot_be_rotated_is_not_asked_for() {
    let api = Api::start();
    let manual = "{metadata: {name: stripe}, spec: {source: {manual: {fields: [key]}}}}";
    api.put("managedsecrets", manual);
    let user = user(&api);
    for (args, exit, words) in [
        (
            &["rotate", "msec/stripe"][..],
            Exit::Failed,
            "is not generated",
        ),
        (
            &["rotate", "msec/db"],
            Exit::Failed,
            "there is no ManagedSecret payments/db",
        ),
        (
            &["rotate", "ck/orders"],
            Exit::Failed,
            "there is no CryptoKey payments/orders",
        ),
        (
            &["rotate", "ck/orders", "--reason", "x"],
            Exit::Usage,
            "--reason is for",
        ),
    ] {
        let outcome = user.run(args);
        assert_eq!(outcome.exit, exit, "{}", outcome.err);
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    assert!(api.state().changes.is_empty());
}

#[test]
fn whoever_may_not_make_a_rotation_is_denied() {
    let api = Api::start();
    api.put("managedsecrets", SECRET);
    let folder = format!("{OURS}/namespaces/payments/secretrotations");
    api.state().denied.insert(folder);
    let outcome = user(&api).run(&["rotate", "msec/db"]);
    assert_eq!(outcome.exit, Exit::Denied);
    expect![[r#"
        error: cannot make a SecretRotation: you may not: forbidden: user "me" cannot do that
    "#]]
    .assert_eq(&outcome.err);
}

#[test]
fn a_refused_rotation_is_told_in_the_operators_words() {
    let api = Api::start();
    api.put("managedsecrets", SECRET);
    api.state().status = json!({"conditions": [
        {"type": "Ready", "status": "False", "reason": "x", "message": "the secret has no ring"},
        {"type": "Stalled", "status": "True"},
    ]});
    let outcome = user(&api).run(&["rotate", "msec/db", "--wait"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.err,
        "error: it was refused: the secret has no ring\n"
    );
}

#[test]
fn a_key_is_rotated_by_a_request_of_its_own() {
    let api = Api::start();
    api.put(
        "cryptokeys",
        "{metadata: {name: orders, generation: 1}, spec: {rotation: {period: 720h, requestID: former}}}",
    );
    let user = user(&api);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let outcome = user.run(&["rotate", "ck/orders", "-o", "json"]);
        assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
        let json: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
        let change = api.state().changes.pop().unwrap();
        assert_eq!(change.method, "PATCH");
        let id = json["requestID"].as_str().unwrap().to_owned();
        assert_eq!(
            change.body,
            json!({"spec": {"rotation": {"requestID": id}}})
        );
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
    assert!(
        ids[0].starts_with("kubectl-20261122T050000Z-"),
        "{}",
        ids[0]
    );

    let outcome = user.run(&["rotate", "ck/orders", "--wait", "--timeout", "1s"]);
    assert_eq!(outcome.exit, Exit::NotYet);
    assert!(
        outcome.err.contains("not handed the request over"),
        "{}",
        outcome.err
    );
}
