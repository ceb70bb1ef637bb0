//! `rotate etcd`, with and without `--wait`.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;
use tonic::Status;

use crate::{
    common::{User, pair},
    fake::key_id_hash,
    pki::write,
};

const LEASES: &str = include_str!("../data/leases.json");

#[test]
fn rotation_shows_versions_and_key_ids() {
    let (fake, user) = pair();
    let outcome = user.run(&["rotate", "etcd"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        Rotated the etcd key.
                 VERSION   KEY ID HASH
        before   1.1       sha256:0101010101010101010101010101010101010101010101010101010101010101
        now      1.2       sha256:0202020202020202020202020202020202020202020202020202020202020202
    "#]]
    .assert_eq(&outcome.out);
    assert_eq!(fake.state().rotations, 1);
}

#[test]
fn json_is_one_document() {
    let (_fake, user) = pair();
    let outcome = user.run(&["rotate", "etcd", "-o", "json"]);
    expect![[r#"
        {
          "keyID": "000102030405060708090a0b0c0d0e0f",
          "rotated": true,
          "before": {
            "version": "1.1",
            "keyIDHash": "sha256:0101010101010101010101010101010101010101010101010101010101010101"
          },
          "now": {
            "version": "1.2",
            "keyIDHash": "sha256:0202020202020202020202020202020202020202020202020202020202020202"
          }
        }
    "#]]
    .assert_eq(&outcome.out);
}

#[test]
fn from_rotates_only_once() {
    let (fake, user) = pair();
    let first = user.run(&["rotate", "etcd", "--from", "1.1"]);
    let second = user.run(&["rotate", "etcd", "--from", "1.1"]);
    assert_eq!((first.exit, second.exit), (Exit::Ok, Exit::Ok));
    expect![[r#"
        Already rotated.
                 VERSION   KEY ID HASH
        before   1.1       -
        now      1.2       sha256:0202020202020202020202020202020202020202020202020202020202020202
    "#]]
    .assert_eq(&second.out);
    assert_eq!(fake.state().rotations, 1);
}

#[test]
fn from_a_version_that_never_was_is_refused() {
    let (fake, user) = pair();
    let outcome = user.run(&["rotate", "etcd", "--from", "2.1"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: the etcd key never had a version 2.1, so nothing was rotated; its primary is 1.1
    "#]]
    .assert_eq(&outcome.err);
    assert_eq!(fake.state().rotations, 0);
}

#[test]
fn change_in_between_is_told() {
    let (fake, user) = pair();
    fake.state().rotation = Some(Status::aborted("the etag is old"));
    let outcome = user.run(&["rotate", "etcd"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: somebody else changed the etcd key in between, so nothing was rotated; look at what was done, then run it again
    "#]].assert_eq(&outcome.err);
}

#[test]
fn rotation_that_is_not_allowed_is_denied() {
    let (fake, user) = pair();
    fake.state().rotation = Some(Status::permission_denied("`intern` may not rotate keys"));
    let outcome = user.run(&["rotate", "etcd"]);
    assert_eq!(outcome.exit, Exit::Denied);
    expect![[r#"
        error: cannot rotate the etcd key: `intern` may not rotate keys
    "#]]
    .assert_eq(&outcome.err);
}

#[test]
fn unclear_end_is_told_as_such() {
    let (fake, user) = pair();
    fake.state().rotation = Some(Status::unavailable("the audit log does not answer"));
    let outcome = user.run(&["rotate", "etcd"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: it is not known whether the etcd key was rotated (run the same command with --from 1.1, which rotates only if it was not): cannot rotate the etcd key: the audit log does not answer
    "#]].assert_eq(&outcome.err);
}

/// A cluster with two API servers. Each call of kubectl for metrics reaches one of them, in turn, and the second takes
/// the new key over at its second look.
fn install_cluster(user: &User) {
    let metrics = |server: &str, number: usize, at: u64| {
        let key = key_id_hash(number);
        format!(
            "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds\
             {{apiserver_id_hash=\"{server}\",key_id_hash=\"{key}\",provider_name=\"strongroom\"}} {at}\n"
        )
    };
    let (a, b) = (
        sha256(user.path(), "apiserver-a"),
        sha256(user.path(), "apiserver-b"),
    );
    write(user.path(), "leases.json", LEASES);
    // The look before the rotation, then one each time.
    write(user.path(), "metrics.0", &metrics(&a, 1, 100));
    write(user.path(), "metrics.1", &metrics(&b, 1, 100));
    write(
        user.path(),
        "metrics.2",
        &(metrics(&a, 1, 100) + &metrics(&a, 2, 130)),
    );
    write(
        user.path(),
        "metrics.3",
        &(metrics(&b, 1, 100) + &metrics(&b, 2, 130)),
    );
    let home = user.path().display();
    user.install_kubectl(&format!(
        r#"cd "{home}"; echo "$@" >> calls
case "$*" in
*leases*) cat leases.json;;
*metrics*)
  look=$(cat look 2>/dev/null || echo 0)
  echo $((look + 1)) > look
  cat metrics.$look || exit 1;;
*) exit 1;;
esac"#
    ));
}

/// As coreutils computes it.
fn sha256(folder: &Path, text: &str) -> String {
    let file = write(folder, "digest", text);
    let output = std::process::Command::new("sha256sum")
        .arg(file)
        .output()
        .unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    format!("sha256:{}", digest.split(' ').next().unwrap())
}

#[test]
fn wait_ends_when_every_api_server_reports_the_new_key_id() {
    let (fake, user) = pair();
    install_cluster(&user);
    let outcome = user.run(&["rotate", "etcd", "--wait", "--context", "prod"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    expect![[r#"
        Rotated the etcd key.
                 VERSION   KEY ID HASH
        before   1.1       sha256:0101010101010101010101010101010101010101010101010101010101010101
        now      1.2       sha256:0202020202020202020202020202020202020202020202020202020202020202

        SERVER   KIND        CURRENT
        cp-1     APIServer   yes
        cp-2     APIServer   yes
    "#]]
    .assert_eq(&outcome.out);
    expect![[r#"
        waiting: 0 of 2 report the new key id; missing: API server cp-1 (older key id), API server cp-2 (older key id)
        waiting: 1 of 2 report the new key id; missing: API server cp-2 (older key id)
    "#]].assert_eq(&outcome.err);
    assert_eq!(fake.state().rotations, 1);
    let calls = std::fs::read_to_string(user.path().join("calls")).unwrap();
    assert!(
        calls
            .lines()
            .all(|call| call.starts_with("--context prod get ")),
        "{calls}"
    );
}

#[test]
fn cluster_that_cannot_be_asked_stops_the_rotation() {
    let (fake, user) = pair();
    let missing = user.run(&["rotate", "etcd", "--wait"]);
    user.install_kubectl("echo 'Warning: old' >&2; echo 'error: no configuration' >&2; exit 1");
    let failing = user.run(&["rotate", "etcd", "--wait"]);
    user.install_kubectl(r#"echo '{"items": []}'"#);
    let empty = user.run(&["rotate", "etcd", "--wait"]);
    for outcome in [&missing, &failing, &empty] {
        assert_eq!(outcome.exit, Exit::Failed);
    }
    expect![[r#"
        error: cannot see which key id is in use, so nothing was rotated: cannot run "HOME/kubectl"; install kubectl, or name the plugins with --plugin-metrics: No such file or directory (os error 2)
        error: cannot see which key id is in use, so nothing was rotated: kubectl cannot list the API servers: error: no configuration
        error: cannot see which key id is in use, so nothing was rotated: the cluster has no identity leases of API servers in kube-system; name the plugins with --plugin-metrics
    "#]].assert_eq(&[missing.err, failing.err, empty.err].concat());
    assert_eq!(fake.state().rotations, 0);
}

#[test]
fn key_service_without_hash_stops_the_wait_before_the_rotation() {
    let (fake, user) = pair();
    install_cluster(&user);
    fake.state().key.key_id_hash.clear();
    let outcome = user.run(&["rotate", "etcd", "--wait"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: this key service does not tell the hash of its key id, so --wait could never end; nothing was rotated; run it without --wait
    "#]].assert_eq(&outcome.err);
    assert_eq!(fake.state().rotations, 0);
}

/// A plugin that answers each request with `metrics`.
fn plugin(metrics: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            let length = metrics.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all((head + &metrics).as_bytes()).unwrap();
        }
    });
    format!("http://{address}/metrics")
}

fn plugin_metrics(number: usize) -> String {
    let key = key_id_hash(number);
    format!("strongroom_kms_plugin_key_id_info{{key_id_hash=\"{key}\"}} 1\n")
}

#[test]
fn wait_needs_no_kubeconfig_when_plugins_are_named() {
    let (_fake, user) = pair();
    let url = plugin(plugin_metrics(2));
    let outcome = user.run(&[
        "rotate",
        "etcd",
        "--wait",
        "--plugin-metrics",
        &url,
        "-o",
        "yaml",
    ]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    expect![[r#"
        keyID: 000102030405060708090a0b0c0d0e0f
        rotated: true
        before:
          version: '1.1'
          keyIDHash: sha256:0101010101010101010101010101010101010101010101010101010101010101
        now:
          version: '1.2'
          keyIDHash: sha256:0202020202020202020202020202020202020202020202020202020202020202
        wait:
          converged: true
          servers:
          - kind: Plugin
            name: URL
            current: true
            keyIDHashes:
            - sha256:0202020202020202020202020202020202020202020202020202020202020202
    "#]]
    .assert_eq(&outcome.out.replace(&url, "URL"));
}

#[test]
fn wait_that_is_over_too_early_is_exit_code_3() {
    let (fake, user) = pair();
    let url = plugin(plugin_metrics(1));
    let args = [
        "rotate",
        "etcd",
        "--wait",
        "--timeout",
        "1s",
        "--plugin-metrics",
        &url,
    ];
    let outcome = user.run(&args);
    assert_eq!(outcome.exit, Exit::NotYet);
    assert!(outcome.out.ends_with("Plugin   NO\n"), "{}", outcome.out);
    expect![[r#"
        waiting: 0 of 1 report the new key id; missing: plugin URL (older key id)
        error: not yet: after 1s 0 of 1 report the new key id; missing: plugin URL (older key id); run the same command with --from 1.1 to go on waiting
    "#]].assert_eq(&outcome.err.replace(&url, "URL"));
    assert_eq!(fake.state().rotations, 1);
}

#[test]
fn server_that_is_no_plugin_is_told_before_the_rotation() {
    let (fake, user) = pair();
    let url = plugin("up 1\n".to_owned());
    let outcome = user.run(&["rotate", "etcd", "--wait", "--plugin-metrics", &url]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: cannot see which key id is in use, so nothing was rotated: URL has no metric strongroom_kms_plugin_key_id_info; is it a kms-plugin that has started?
    "#]].assert_eq(&outcome.err.replace(&url, "URL"));
    assert_eq!(fake.state().rotations, 0);
}
