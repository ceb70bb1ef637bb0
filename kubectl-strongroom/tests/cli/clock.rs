//! `clock confirm`.

use expect_test::{Expect, expect};
use strongroom_kubectl_strongroom::Exit;
use tonic::Status;

use crate::common::pair;

fn check(args: &[&str], expected: &Expect) {
    let (fake, user) = pair();
    let outcome = user.run(&[&["clock", "confirm"], args].concat());
    expected.assert_eq(&outcome.out);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert_eq!(fake.state().seen, ["2026-11-22T05:00:00Z".parse().unwrap()]);
}

#[test]
fn what_was_confirmed_is_told_and_the_own_time_is_sent_along() {
    check(
        &[],
        &expect![[r#"
        confirmed: it is 2026-11-22T05:00:01Z; the clock was 24h 1m 1s behind at 2026-11-22T04:00:00Z
    "#]],
    );
}

#[test]
fn json_has_the_jump() {
    check(
        &["-o", "json"],
        &expect![[r#"
        {
          "serviceTime": "2026-11-22T05:00:01Z",
          "confirmed": {
            "noticedAt": "2026-11-22T04:00:00Z",
            "aheadSeconds": -86461
          }
        }
    "#]],
    );
}

#[test]
fn nothing_to_confirm_is_no_failure() {
    let (fake, user) = pair();
    fake.state().confirmation.as_mut().unwrap().confirmed = None;
    let outcome = user.run(&["clock", "confirm"]);
    expect![[r#"
        nothing to confirm: it is 2026-11-22T05:00:01Z, and the clock has not jumped
    "#]]
    .assert_eq(&outcome.out);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
}

#[test]
fn clocks_that_differ_are_exit_code_1_and_a_stranger_is_exit_code_4() {
    let (fake, user) = pair();
    fake.state().confirmation = Err(Status::failed_precondition("the clocks differ"));
    let outcome = user.run(&["clock", "confirm"]);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Failed, ""));
    assert_eq!(
        outcome.err,
        "error: cannot confirm the clock: the clocks differ\n"
    );
    fake.state().confirmation = Err(Status::permission_denied("not you"));
    assert_eq!(user.run(&["clock", "confirm"]).exit, Exit::Denied);
}
