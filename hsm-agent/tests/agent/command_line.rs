//! What people type, and what they are told at once.

use std::process::{Command, Output};

use expect_test::{Expect, expect};

use crate::place::PROGRAM;

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn check(arguments: &[&str], expected: &Expect) {
    let output = run(arguments);
    assert!(output.status.success());
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn help_is_as_documented() {
    check(
        &["--help"],
        &expect![[r#"
        Keeps Strongroom's root keys in a PKCS#11 token.

        The only program that loads a PKCS#11 module, in a process of its own. The key service asks it over
        a Unix socket.

        Usage: hsm-agent <COMMAND>

        Commands:
          init     Make SoftHSM's token and its PIN
          serve    Serve the key service until SIGTERM
          folders  Make the folders of the configuration on the volumes of a pod: the data's and the
                   socket's
          help     Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version
    "#]],
    );
    check(
        &["help", "init"],
        &expect![[r#"
        Make SoftHSM's token and its PIN

        Refused when there is a token with the configured label, unless --if-missing is given. A run that
        was interrupted is finished by the next. Keys are not made here but by `key-service init`.

        Usage: hsm-agent init [OPTIONS] --config <FILE>

        Options:
              --config <FILE>
                  The configuration file; config/hsm-agent.yaml is the sample

              --if-missing
                  Succeed when there is a token already, and leave it alone

          -h, --help
                  Print help (see a summary with '-h')
    "#]],
    );
    check(
        &["help", "serve"],
        &expect![[r#"
        Serve the key service until SIGTERM

        Usage: hsm-agent serve --config <FILE>

        Options:
              --config <FILE>  The configuration file; config/hsm-agent.yaml is the sample
          -h, --help           Print help
    "#]],
    );
}

#[test]
fn the_version_is_shown() {
    check(
        &["--version"],
        &expect![[r#"
        hsm-agent 0.1.0
    "#]],
    );
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let output = run(&["serve", "--config", "/nowhere/hsm-agent.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = expect![[r#"
        hsm-agent: cannot read the configuration /nowhere/hsm-agent.yaml: No such file or directory (os error 2)
    "#]];
    expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
}

#[test]
fn a_worker_is_nothing_to_start_by_hand() {
    let place = crate::place::Place::default();
    let output = place
        .command("worker")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("a worker is started by the agent alone"),
        "{log}"
    );
}
