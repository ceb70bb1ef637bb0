//! `ring adopt`.

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;

use crate::{api::Api, common::pair};

const ADOPT: [&str; 5] = ["ring", "adopt", "payments", "--reason", "INC-42"];

#[test]
fn a_ring_goes_to_the_namespace_that_there_is() {
    let (fake, user) = pair();
    let api = Api::start();
    api.configure(&user);
    api.put_at(
        "/api/v1/namespaces",
        "{metadata: {name: payments, uid: uid-2}}",
    );
    let outcome = user.run(&ADOPT);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        KeyRing payments/payments (0f0e0d0c0b0a09080706050403020100) belongs to the namespace with uid uid-2
    "#]]
    .assert_eq(&outcome.out);
    let asked = fake.state().adopted.take().unwrap();
    let owner = asked.owner.unwrap();
    assert_eq!(
        (asked.name.as_str(), asked.reason.as_str()),
        ("payments", "INC-42")
    );
    assert_eq!(
        (
            owner.cluster.as_str(),
            owner.namespace.as_str(),
            owner.namespace_uid.as_str()
        ),
        ("", "payments", "uid-2")
    );
}

#[test]
fn nobody_gets_a_ring_whose_namespace_is_not_there() {
    let (fake, user) = pair();
    let outcome = user.run(&ADOPT);
    assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.err);
    let api = Api::start();
    api.configure(&user);
    let going =
        "{metadata: {name: payments, uid: uid-2, deletionTimestamp: '2026-11-22T04:00:00Z'}}";
    for name in ["gone", "payments"] {
        api.put_at("/api/v1/namespaces", going);
        let outcome = user.run(&[&ADOPT[..], &["-n", name]].concat());
        assert_eq!(outcome.exit, Exit::Failed);
        assert!(
            outcome.err.contains("there is no namespace"),
            "{}",
            outcome.err
        );
    }
    assert!(fake.state().adopted.is_none());
}

#[test]
fn on_a_node_namespace_and_uid_are_given() {
    let (fake, user) = pair();
    let place = [
        "-n",
        "payments",
        "--namespace-uid",
        "uid-3",
        "--cluster-name",
        "main",
    ];
    let outcome = user.run(&[&ADOPT[..], &place].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    let owner = fake.state().adopted.take().unwrap().owner.unwrap();
    assert_eq!(
        (owner.cluster.as_str(), owner.namespace_uid.as_str()),
        ("main", "uid-3")
    );
}
