//! The real program: its command line, its start, its end.

use crate::support::{
    Client, Rig, eventually,
    program::{command, get},
};
use expect_test::{Expect, expect};
use rustix::process::Signal;

async fn check(arguments: &[&str], expected: Expect) {
    let output = command().args(arguments).output().await.unwrap();
    assert!(output.status.success());
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
}

#[tokio::test]
async fn the_command_line_is_as_documented() {
    check(
        &["--version"],
        expect![[r#"
        kms-plugin 0.1.0
    "#]],
    )
    .await;
    check(
        &["--help"],
        expect![[r#"
        KMS v2 plugin of Strongroom: lets kube-apiserver encrypt etcd with keys of the key service

        Usage: kms-plugin <COMMAND>

        Commands:
          serve  Serve kube-apiserver until SIGTERM or SIGINT
          enrol  Get this node's first certificate from the key service with an enrolment file, which is
                 used up
          wait   Wait until the plugin can be used, so that kube-apiserver starts then and not before
          help   Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version
    "#]],
    )
    .await;
    check(
        &["serve", "--help"],
        expect![[r#"
        Serve kube-apiserver until SIGTERM or SIGINT

        Usage: kms-plugin serve --config <FILE>

        Options:
              --config <FILE>  Configuration file (YAML); the sample is config/kms-plugin.yaml
          -h, --help           Print help
    "#]],
    )
    .await;
    check(
        &["enrol", "--help"],
        expect![[r#"
        Get this node's first certificate from the key service with an enrolment file, which is used up.

        Run it on the node as the user id of the plugin; a plugin that runs takes the certificate by itself.
        The file comes from `kubectl strongroom enrol node` and counts for 15 minutes.

        Usage: kms-plugin enrol --config <FILE> --enrolment <FILE>

        Options:
              --config <FILE>
                  Configuration file (YAML) with keyService.identityDir

              --enrolment <FILE>
                  The enrolment file

          -h, --help
                  Print help (see a summary with '-h')
    "#]],
    )
    .await;
    check(&["wait", "--help"], expect![[r#"
        Wait until the plugin can be used, so that kube-apiserver starts then and not before.

        For an init container of kube-apiserver, or a unit that starts it. Asks the plugin's Status, and
        says what is missing. Exit code 0 when the plugin can be used, 3 when it could not in time.

        Usage: kms-plugin wait [OPTIONS] --socket <PATH>

        Options:
              --socket <PATH>
                  The socket for kube-apiserver

              --uid <UID>
                  User id of the plugin; another listener is refused before the first byte [default: the
                  own]

              --timeout <DURATION>
                  How long to wait at most [default: 5m]

              --start-anyway
                  Exit with 0 after the timeout too: a cluster without Secrets can be mended, one without an
                  API server cannot

          -h, --help
                  Print help (see a summary with '-h')
    "#]]).await;
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name_and_nothing_is_made() {
    let rig = Rig::new();
    let path = rig.write_config();
    let text = std::fs::read_to_string(&path).unwrap() + "deadlines: 1s\n";
    std::fs::write(&path, text).unwrap();
    let output = command()
        .arg("serve")
        .arg("--config")
        .arg(&path)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("unknown field `deadlines`"), "{text}");
    assert_eq!(
        std::fs::read_dir(rig.folder.path()).unwrap().count(),
        1,
        "only the configuration"
    );
}

#[tokio::test]
async fn it_starts_becomes_ready_and_ends_on_sigterm() {
    let rig = Rig::new();
    let mut program = rig.spawn("");
    let start = program.line("starting").await;
    assert!(
        start.contains(env!("CARGO_PKG_VERSION")) && start.contains("config.yaml"),
        "{start}"
    );
    let line: serde_json::Value =
        serde_json::from_str(&program.line("serving probes").await).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    program.line("probe failed").await;
    eventually("the missing socket is named", async || {
        let answer = get(&address, "/readyz").await;
        answer.contains("nobody answers on").then_some(())
    })
    .await;
    assert!(get(&address, "/healthz").await.starts_with("HTTP/1.1 200"));

    let _service = rig.serve();
    eventually("it is ready", async || {
        let answer = get(&address, "/readyz").await;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    // A canary that no log line and no metric may hold; random, so that it is nowhere else.
    let seed = hex::encode(std::fs::read("/proc/sys/kernel/random/uuid").unwrap());
    let client = Client::new(&rig.config.listen.path);
    let sealed = client.encrypt(seed.as_bytes()).await.unwrap();
    assert_eq!(client.decrypt(&sealed).await.unwrap(), seed.as_bytes());
    let metrics = get(&address, "/metrics").await;
    assert!(
        metrics
            .contains(r#"strongroom_kms_plugin_requests_total{method="Encrypt",outcome="OK"} 1"#)
    );
    assert!(!metrics.contains(&seed));

    program.signal(Signal::TERM);
    assert!(program.end().await.success(), "{}", program.log);
    assert!(program.log.contains("stopped"));
    assert!(!program.log.contains(&seed));
    assert!(!rig.config.listen.path.exists());
}

#[tokio::test]
async fn a_killed_program_is_replaced_with_the_same_key_id() {
    let rig = Rig::new();
    let _service = rig.serve();
    let client = Client::new(&rig.config.listen.path);
    let mut program = rig.spawn("");
    let key_id = client.until_ok().await;
    let sealed = client.encrypt(&[1; 32]).await.unwrap();
    program.signal(Signal::KILL);
    program.end().await;
    assert!(
        rig.config.listen.path.exists(),
        "a stale socket is in the way"
    );

    let mut program = rig.spawn("");
    // The client of before, as kube-apiserver, connects again by itself.
    assert_eq!(client.until_ok().await, key_id);
    assert_eq!(client.decrypt(&sealed).await.unwrap(), [1; 32]);
    program.signal(Signal::TERM);
    assert!(program.end().await.success());
}

#[tokio::test]
async fn a_second_program_leaves_the_first_alone() {
    let rig = Rig::new();
    let _service = rig.serve();
    let _first = rig.spawn("");
    let client = Client::new(&rig.config.listen.path);
    client.until_ok().await;

    let mut second = rig.spawn("");
    assert_eq!(second.end().await.code(), Some(1));
    assert!(
        second.log.contains("another process holds the state"),
        "{}",
        second.log
    );

    let mut other = Rig::new();
    other.config.listen.path.clone_from(&rig.config.listen.path);
    let mut third = other.spawn("");
    assert_eq!(third.end().await.code(), Some(1));
    assert!(
        third.log.contains("another process listens on"),
        "{}",
        third.log
    );
    client.status().await.unwrap();
}

#[tokio::test]
async fn a_state_that_is_not_ours_is_refused_and_kept() {
    let rig = Rig::new();
    std::fs::write(&rig.config.state, "precious").unwrap();
    let mut program = rig.spawn("");
    assert_eq!(program.end().await.code(), Some(1));
    assert!(
        program.log.contains("state.json is not readable as such"),
        "{}",
        program.log
    );
    assert_eq!(
        std::fs::read_to_string(&rig.config.state).unwrap(),
        "precious"
    );
    assert!(!rig.config.listen.path.exists());
}
