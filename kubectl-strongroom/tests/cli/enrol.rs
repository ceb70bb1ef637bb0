//! `enrol node`.

use std::os::unix::fs::PermissionsExt;

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;
use tonic::Status;

use crate::common::{User, pair};

fn enrol(user: &User, more: &[&str]) -> (std::path::PathBuf, crate::common::Outcome) {
    let path = user.path().join("enrolment.yaml");
    let file = path.to_str().unwrap();
    let outcome = user.run(&[&["enrol", "node", "cp-2.example", "-f", file], more].concat());
    (path, outcome)
}

#[test]
fn file_has_everything_that_the_node_needs_and_is_for_its_owner() {
    let (_fake, user) = pair();
    let (path, outcome) = enrol(&user, &[]);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Ok, ""));
    expect![[r#"
        cp-2.example can be enrolled once before 2026-11-22T05:15:00Z: on it, run kms-plugin enrol --enrolment FILE
    "#]].assert_eq(&outcome.err);
    expect![[r#"
        # Enrols kms-plugin of one node once. Whoever has it until then can take the node's place: keep it secret.
        expires: 2026-11-22T05:15:00Z
        instanceID: d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        node: cp-2.example
        endpoints:
        - 192.0.2.10:8444
        rootSha256: '7070707070707070707070707070707070707070707070707070707070707070'
        secret: 5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
    "#]].assert_eq(&std::fs::read_to_string(&path).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn standard_output_has_the_same_and_no_secret_goes_elsewhere() {
    let (_fake, user) = pair();
    let outcome = user.run(&[
        "enrol",
        "node",
        "cp-2",
        "-f",
        "-",
        "--endpoint",
        "[2001:db8::1]:1",
        "--endpoint",
        "node:2",
    ]);
    assert!(
        outcome
            .out
            .contains("endpoints:\n- '[2001:db8::1]:1'\n- node:2\n"),
        "{}",
        outcome.out
    );
    assert!(outcome.out.contains(&"5e".repeat(32)));
    assert!(!outcome.err.contains(&"5e".repeat(32)));
}

#[test]
fn file_that_exists_is_not_touched_and_nothing_is_asked() {
    let (fake, user) = pair();
    fake.state().invitation = Some(Status::internal("it was asked"));
    std::fs::write(user.path().join("enrolment.yaml"), "precious").unwrap();
    let (path, outcome) = enrol(&user, &[]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.err.contains("cannot write the enrolment file"),
        "{}",
        outcome.err
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[test]
fn refusal_leaves_no_file() {
    let (fake, user) = pair();
    fake.state().invitation = Some(Status::permission_denied("not you"));
    let (path, outcome) = enrol(&user, &[]);
    assert_eq!(outcome.exit, Exit::Denied);
    assert_eq!(outcome.err, "error: cannot enrol the node: not you\n");
    assert!(!path.exists());
}

#[test]
fn name_that_no_node_has_is_refused_before_anything() {
    let (_fake, user) = pair();
    for name in ["CP-2", "../x", ""] {
        let outcome = user.run(&["enrol", "node", name]);
        assert_eq!(outcome.exit, Exit::Usage, "{name}");
    }
}
