//! The program itself: help, version, usage.

use std::process::{Command, Output};

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;

use crate::common::User;

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-strongroom"))
        .args(args)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn program_prints_help_and_version_on_stdout() {
    let help = program(&["--help"]);
    assert_eq!((help.status.code(), help.stderr.len()), (Some(0), 0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: kubectl strongroom <COMMAND>"));
    let version = program(&["--version"]);
    let expected = format!("kubectl-strongroom {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
}

#[test]
fn wrong_command_line_is_exit_code_2() {
    for args in [
        &["rotate"][..],
        &["status", "-o", "xml"],
        &["status", "--server", "nowhere"],
        &["rotate", "etcd", "--timeout", "5m"],
        &["rotate", "etcd", "--wait", "--timeout", "0s"],
        &["rotate", "etcd", "--from", "1"],
        &[
            "rotate",
            "etcd",
            "--wait",
            "--plugin-metrics",
            "https://node/metrics",
        ],
        &["audit", "verify", "."],
        &["bootstrap", "--image-tag", "${x}"],
        &["bootstrap", "--image-repository", "a b"],
        &["bootstrap", "--resources", "secrets]"],
        &["bootstrap", "--api-server", "http://node"],
        &["bootstrap", "--plan", "values"],
        &["audit", "verify", ".", "--fingerprint", "abc"],
    ] {
        let output = program(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}"
        );
    }
}

#[test]
fn program_without_configuration_says_what_is_missing() {
    let output = program(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    expect![[r#"
        error: no server is given, and there is no kubeconfig to go by; give --server, or set `server` in ~/.config/strongroom/config.yaml
    "#]].assert_eq(&String::from_utf8_lossy(&output.stderr));
}

#[test]
fn flags_win_over_the_file_and_the_users_file_over_the_machines() {
    let user = User::new();
    let etc = user.path().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    let machines = "server: 127.0.0.1:1\nca: machine.pem\ncertificate: c.pem\nkey: k.pem\n";
    crate::pki::write(&etc, "cli.yaml", machines);
    let outcome = user.run(&["status"]);
    assert!(
        outcome.err.contains("HOME/etc/machine.pem"),
        "{}",
        outcome.err
    );

    let own = user.path().join(".config/strongroom");
    std::fs::create_dir_all(&own).unwrap();
    crate::pki::write(&own, "config.yaml", &machines.replace("machine", "own"));
    let outcome = user.run(&["status"]);
    assert!(
        outcome.err.contains("HOME/.config/strongroom/own.pem"),
        "{}",
        outcome.err
    );

    let outcome = user.run(&["status", "--ca", "/nowhere/flag.pem"]);
    assert!(outcome.err.contains("/nowhere/flag.pem"), "{}", outcome.err);
    assert_eq!(outcome.exit, Exit::Usage);
}

#[test]
fn unknown_field_of_the_configuration_is_named() {
    let user = User::new();
    let path = crate::pki::write(user.path(), "c.yaml", "server: a:1\ncacert: x\n");
    let outcome = user.run(&["status", "--config", path.to_str().unwrap()]);
    assert_eq!(outcome.exit, Exit::Usage);
    expect![[r#"
        error: the configuration "HOME/c.yaml" is not valid: unknown field `cacert`, expected one of `server`, `ca`, `certificate`, `key` at line 2 column 1
    "#]].assert_eq(&outcome.err);
}
