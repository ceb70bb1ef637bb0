//! `status`.

use expect_test::{Expect, expect};
use strongroom_api::strongroom::v1::DescribeInstanceResponse;
use strongroom_kubectl_strongroom::Exit;
use tonic::Status;

use crate::{
    common::pair,
    fake::{condition, instance, jump},
};

/// A checkpoint of 1200 records, as the key service anchors it.
const CHECKPOINT: &str = include_str!("../data/checkpoint.txt");

fn anchored() -> DescribeInstanceResponse {
    let mut instance = instance();
    let audit = instance.audit.as_mut().unwrap();
    CHECKPOINT.clone_into(&mut audit.anchored_checkpoint);
    audit.anchored_at = Some("2026-11-22T04:57:30Z".parse().unwrap());
    instance
}

fn check(answer: DescribeInstanceResponse, args: &[&str], exit: Exit, expected: Expect) {
    let (fake, user) = pair();
    fake.state().instance = Ok(answer);
    let outcome = user.run(&[&["status"], args].concat());
    expected.assert_eq(&outcome.out);
    assert_eq!((outcome.exit, outcome.err.as_str()), (exit, ""));
}

#[test]
fn healthy_installation_is_a_table() {
    check(
        anchored(),
        &[],
        Exit::Ok,
        expect![[r#"
        Instance:       d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        Version:        0.1.0
        Token:          strongroom (software, this is not hardware)
        Wrap profile:   AES-GCM with host IV
        Store:          epoch 1, seq 42
        Audit log:      1204 records, anchored up to 1200, 2m ago
        Clock:          2026-11-22T05:00:01Z

        CONDITION   OK    REASON      MESSAGE
        HSM         yes   Reachable   the token answers
    "#]],
    );
}

#[test]
fn wide_adds_roots_and_ids() {
    check(
        anchored(),
        &["-o", "wide"],
        Exit::Ok,
        expect![[r#"
        Instance:          d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        Version:           0.1.0
        Token:             strongroom (software, this is not hardware)
        Wrap profile:      AES-GCM with host IV
        Store:             epoch 1, seq 42
        Audit log:         1204 records, anchored up to 1200, 2m ago
        Clock:             2026-11-22T05:00:01Z
        Store root:        5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f
        System ring:       0f0e0d0c0b0a09080706050403020100
        Etcd key:          000102030405060708090a0b0c0d0e0f
        Token serial:      1f2e3d4c5b6a7988
        Token model:       SoftHSM project, SoftHSM v2
        Audit certifier:   abababababababababababababababababababababababababababababababab

        CONDITION   OK    REASON      MESSAGE
        HSM         yes   Reachable   the token answers
    "#]],
    );
}

#[test]
fn json_has_everything() {
    check(
        anchored(),
        &["-o", "json"],
        Exit::Ok,
        expect![[r#"
        {
          "ok": true,
          "instanceID": "d1d2d3d4d5d6d7d8d9dadbdcdddedfd0",
          "version": "0.1.0",
          "store": {
            "epoch": 1,
            "seq": 42,
            "root": "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"
          },
          "token": {
            "label": "strongroom",
            "serial": "1f2e3d4c5b6a7988",
            "manufacturer": "SoftHSM project",
            "model": "SoftHSM v2",
            "hardware": false,
            "wrapProfile": "AES-GCM with host IV"
          },
          "audit": {
            "records": 1204,
            "anchoredRecords": 1200,
            "anchoredAt": "2026-11-22T04:57:30Z",
            "anchoredCheckpoint": "strongroom.dev/d1d2d3d4d5d6d7d8d9dadbdcdddedfd0/key-service-0\n1200\nERERERERERERERERERERERERERERERERERERERERERE=\nepoch 1\nseq 42\nstore 5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f\nprevious 2222222222222222222222222222222222222222222222222222222222222222\n\n— strongroom.dev/d1d2d3d4d5d6d7d8d9dadbdcdddedfd0/key-service-0 MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzM=\n",
            "certifierFingerprint": "abababababababababababababababababababababababababababababababab"
          },
          "etcdKey": {
            "ringID": "0f0e0d0c0b0a09080706050403020100",
            "keyID": "000102030405060708090a0b0c0d0e0f"
          },
          "conditions": [
            {
              "type": "HSM",
              "ok": true,
              "reason": "Reachable",
              "message": "the token answers"
            }
          ],
          "nodes": [],
          "clock": {
            "serviceTime": "2026-11-22T05:00:01Z",
            "wallClock": "2026-11-22T05:00:01Z",
            "jump": null
          }
        }
    "#]],
    );
}

#[test]
fn yaml_is_the_same() {
    check(
        anchored(),
        &["-o", "yaml"],
        Exit::Ok,
        expect![[r#"
        ok: true
        instanceID: d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        version: 0.1.0
        store:
          epoch: 1
          seq: 42
          root: 5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f
        token:
          label: strongroom
          serial: 1f2e3d4c5b6a7988
          manufacturer: SoftHSM project
          model: SoftHSM v2
          hardware: false
          wrapProfile: AES-GCM with host IV
        audit:
          records: 1204
          anchoredRecords: 1200
          anchoredAt: 2026-11-22T04:57:30Z
          anchoredCheckpoint: |
            strongroom.dev/d1d2d3d4d5d6d7d8d9dadbdcdddedfd0/key-service-0
            1200
            ERERERERERERERERERERERERERERERERERERERERERE=
            epoch 1
            seq 42
            store 5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f
            previous 2222222222222222222222222222222222222222222222222222222222222222

            — strongroom.dev/d1d2d3d4d5d6d7d8d9dadbdcdddedfd0/key-service-0 MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzM=
          certifierFingerprint: abababababababababababababababababababababababababababababababab
        etcdKey:
          ringID: 0f0e0d0c0b0a09080706050403020100
          keyID: 000102030405060708090a0b0c0d0e0f
        conditions:
        - type: HSM
          ok: true
          reason: Reachable
          message: the token answers
        nodes: []
        clock:
          serviceTime: 2026-11-22T05:00:01Z
          wallClock: 2026-11-22T05:00:01Z
          jump: null
    "#]],
    );
}

#[test]
fn condition_that_does_not_hold_is_exit_code_1() {
    let mut answer = instance();
    let message = "hsm-agent does not answer for 40 s\u{1b}[2J";
    answer
        .conditions
        .push(condition("Audit", false, "Unreachable", message));
    check(
        answer,
        &[],
        Exit::Failed,
        expect![[r#"
        Instance:       d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        Version:        0.1.0
        Token:          strongroom (software, this is not hardware)
        Wrap profile:   AES-GCM with host IV
        Store:          epoch 1, seq 42
        Audit log:      1204 records, not anchored yet
        Clock:          2026-11-22T05:00:01Z

        CONDITION   OK    REASON        MESSAGE
        HSM         yes   Reachable     the token answers
        Audit       NO    Unreachable   hsm-agent does not answer for 40 s�[2J
    "#]],
    );
}

#[test]
fn a_clock_that_jumped_is_told_with_the_way_it_went() {
    let mut answer = anchored();
    answer.clock.as_mut().unwrap().jump = Some(jump());
    answer
        .conditions
        .push(condition("ClockTrusted", false, "Jumped", "look at it"));
    check(
        answer,
        &[],
        Exit::Failed,
        expect![[r#"
        Instance:       d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        Version:        0.1.0
        Token:          strongroom (software, this is not hardware)
        Wrap profile:   AES-GCM with host IV
        Store:          epoch 1, seq 42
        Audit log:      1204 records, anchored up to 1200, 2m ago
        Clock:          2026-11-22T05:00:01Z, not believed: it was 24h 1m 1s behind at 2026-11-22T04:00:00Z

        CONDITION      OK    REASON      MESSAGE
        HSM            yes   Reachable   the token answers
        ClockTrusted   NO    Jumped      look at it
    "#]],
    );
}

#[test]
fn refusal_is_exit_code_4_with_the_reason() {
    let (fake, user) = pair();
    let reason = "administrator `intern` may not describe the instance";
    fake.state().instance = Err(Status::permission_denied(reason));
    let outcome = user.run(&["status"]);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Denied, ""));
    expect![[r#"
        error: cannot read the status: administrator `intern` may not describe the instance
    "#]]
    .assert_eq(&outcome.err);
}

#[test]
fn other_answers_are_exit_code_1() {
    let (fake, user) = pair();
    fake.state().instance = Err(Status::unavailable(
        "the HSM cannot be reached; it is retried",
    ));
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: cannot read the status: the HSM cannot be reached; it is retried
    "#]]
    .assert_eq(&outcome.err);
}

#[test]
fn nodes_are_a_table_of_their_own() {
    use strongroom_api::strongroom::v1::{NodeIdentity, NodeState};
    let node = |name: &str, state: NodeState| NodeIdentity {
        node: name.to_owned(),
        role: "kms-plugin".to_owned(),
        state: state.into(),
        serial: "01".to_owned(),
        not_after: Some("2026-11-23T05:00:00Z".parse().unwrap()),
        ..NodeIdentity::default()
    };
    let mut instance = anchored();
    instance.conditions.push(condition(
        "NodesTrusted",
        false,
        "Revoked",
        "there is a copy of a key",
    ));
    instance.nodes = vec![
        node("cp-2", NodeState::Enrolled),
        NodeIdentity {
            revoked_at: Some("2026-11-22T04:00:00Z".parse().unwrap()),
            revocation_cause: "RenewedTwice".to_owned(),
            ..node("cp-3", NodeState::Revoked)
        },
        NodeIdentity {
            not_after: None,
            ..node("cp-4", NodeState::Invited)
        },
    ];
    check(
        instance,
        &[],
        Exit::Failed,
        expect![[r#"
        Instance:       d1d2d3d4d5d6d7d8d9dadbdcdddedfd0
        Version:        0.1.0
        Token:          strongroom (software, this is not hardware)
        Wrap profile:   AES-GCM with host IV
        Store:          epoch 1, seq 42
        Audit log:      1204 records, anchored up to 1200, 2m ago
        Clock:          2026-11-22T05:00:01Z

        CONDITION      OK    REASON      MESSAGE
        HSM            yes   Reachable   the token answers
        NodesTrusted   NO    Revoked     there is a copy of a key

        NODE   ROLE         STATE                    UNTIL
        cp-2   kms-plugin   Enrolled                 2026-11-23T05:00:00Z
        cp-3   kms-plugin   Revoked (RenewedTwice)   2026-11-22T04:00:00Z
        cp-4   kms-plugin   Invited
    "#]],
    );
}
