//! What people type, and what they are told at once.

use std::process::{Command, Output};

use expect_test::{Expect, expect};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_key-service"));
    // The width of the terminal is not that of the test.
    command.env("COLUMNS", "100").args(arguments);
    command.output().unwrap()
}

fn check(arguments: &[&str], expected: &Expect) {
    let output = run(arguments);
    assert!(output.status.success());
    // Between a value and its default stands a line of spaces alone, which no editor keeps.
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn help_names_every_command() {
    check(
        &["--help"],
        &expect![[r#"
        Authenticates, authorizes, audits and uses keys

        Usage: key-service <COMMAND>

        Commands:
          init               Makes a new instance: keys in the token, store, certificate authority, the key
                             of etcd
          serve              Serves until it is told to stop
          folders            Makes the folders of the configuration on the volumes of a pod: those of store,
                             audit log and sockets
          request-init       Asks the key service of a cluster to make its instance, and waits
          admin-certificate  Gets a certificate for an administrator from the running service
          check-config       Checks a configuration file and exits
          help               Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version
    "#]],
    );
}

#[test]
fn help_of_request_init_tells_exit_codes() {
    check(
        &["request-init", "--help"],
        &expect![[r#"
            Asks the key service of a cluster to make its instance, and waits

            For the job that the chart runs after an install. Where an instance is it says so and succeeds. Exit
            code 0 when there is an instance, 1 when the key service refuses, 3 when there was no answer in
            time.

            Usage: key-service request-init [OPTIONS]

            Options:
                  --namespace <NAME>
                      Namespace of the key service

                      [default: strongroom-system]

                  --kubeconfig <FILE>
                      A kubeconfig [default: the service account of the pod]

                  --timeout <DURATION>
                      How long to wait for the answer, such as 90s or 5m

                      [default: 5m]

              -h, --help
                      Print help (see a summary with '-h')
        "#]],
    );
}

#[test]
fn help_of_init_tells_that_it_may_be_run_again() {
    check(
        &["init", "--help"],
        &expect![[r#"
            Makes a new instance: keys in the token, store, certificate authority, the key of etcd

            Needs an empty data folder and a token without objects of ours. Run again after an interruption, it
            finishes what it began; on an initialised instance it says so and succeeds.

            Usage: key-service init [OPTIONS]

            Options:
                  --config <FILE>
                      The configuration file

                      [default: /etc/strongroom/key-service.yaml]

              -h, --help
                      Print help (see a summary with '-h')
        "#]],
    );
}

#[test]
fn help_of_serve_is_as_documented() {
    check(
        &["serve", "--help"],
        &expect![[r#"
        Serves until it is told to stop

        Usage: key-service serve [OPTIONS]

        Options:
              --config <FILE>  The configuration file [default: /etc/strongroom/key-service.yaml]
          -h, --help           Print help
    "#]],
    );
}

#[test]
fn help_of_admin_certificate_tells_how_to_make_a_request() {
    check(
        &["admin-certificate", "--help"],
        &expect![[r#"
            Gets a certificate for an administrator from the running service

            Run it on the node or through `kubectl exec`, as the user id of the service. The key never leaves
            the machine where the request was made: `openssl req -new -newkey ec -pkeyopt
            ec_paramgen_curve:P-256 -nodes -keyout admin.key -subj /CN=administrator -out admin.csr`.

            Usage: key-service admin-certificate [OPTIONS] --request <FILE>

            Options:
                  --config <FILE>
                      The configuration file

                      [default: /etc/strongroom/key-service.yaml]

                  --name <NAME>
                      Common name; one that the configuration lists

                      [default: administrator]

                  --request <FILE>
                      Certificate signing request, PEM; `-` is standard input

                  --lifetime <LIFETIME>
                      How long it counts, at most 24h

                      [default: 24h]

                  --root-out <FILE>
                      Where the root certificate goes that verifies the service, PEM

                  --out <FILE>
                      Where certificate and intermediate go, PEM; standard output when left out

              -h, --help
                      Print help (see a summary with '-h')
        "#]],
    );
}

#[test]
fn help_of_check_config_is_as_documented() {
    check(
        &["check-config", "--help"],
        &expect![[r#"
        Checks a configuration file and exits

        Usage: key-service check-config [OPTIONS]

        Options:
              --config <FILE>  The configuration file [default: /etc/strongroom/key-service.yaml]
          -h, --help           Print help
    "#]],
    );
}

#[test]
fn version_is_shown() {
    check(
        &["--version"],
        &expect![[r#"
        key-service 0.1.0
    "#]],
    );
}

#[test]
fn configuration_that_is_not_there_is_named() {
    let output = run(&["serve", "--config", "/nowhere/key-service.yaml"]);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    let expected = expect![[r#"
        key-service: cannot read the configuration /nowhere/key-service.yaml: No such file or directory (os error 2)
    "#]];
    expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
}
