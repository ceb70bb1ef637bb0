//! The real program: its command line, its start, its end, and being killed in the middle of a publish.

use std::process::Stdio;

use expect_test::{Expect, expect};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{
    in_own_mounts, run,
    stage::{POD_TOKEN, Stage},
};
#[cfg(feature = "fault-points")]
use crate::support::{mounts_below, stage::eventually};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_csi-driver"));
    command.env_remove("RUST_LOG").env_remove("FAILPOINTS");
    command
}

async fn check(arguments: &[&str], expected: Expect) {
    let output = command().args(arguments).output().await.unwrap();
    assert!(output.status.success());
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn command_line_is_as_documented() {
    run(async {
        check(
            &["--version"],
            expect![[r#"
            csi-driver 0.1.0
        "#]],
        )
        .await;
        check(&["--help"], expect![[r#"
            CSI driver of Strongroom: puts secrets into pods as files, and swaps them when they rotate

            Usage: csi-driver <COMMAND>

            Commands:
              serve  Serve the kubelet of this node until SIGTERM or SIGINT; files stay as they are in the
                     meantime
              help   Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version
        "#]]).await;
        check(&["serve", "--help"], expect![[r#"
            Serve the kubelet of this node until SIGTERM or SIGINT; files stay as they are in the meantime

            Usage: csi-driver serve --config <FILE> --node <NAME>

            Options:
                  --config <FILE>  Configuration file (YAML); the sample is config/csi-driver.yaml
                  --node <NAME>    Name of this node in Kubernetes
              -h, --help           Print help
        "#]]).await;
    });
}

/// A running program. It is killed when it is dropped.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    log: String,
}

impl Program {
    fn spawn(stage: &Stage, faults: &str) -> Self {
        let mut child = command()
            .args(["serve", "--node", "node-0", "--config"])
            .arg(stage.path("config.yaml"))
            .env("FAILPOINTS", faults)
            .env("RUST_LOG", "debug")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines,
            log: String::new(),
        }
    }

    /// Reads the log until a line holds a text.
    async fn line(&mut self, text: &str) {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return;
            }
        }
        panic!("the program ended before it logged {text:?}:\n{}", self.log);
    }

    /// Reads the log to its end, and returns how the program ended.
    async fn end(&mut self) -> std::process::ExitStatus {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        self.child.wait().await.unwrap()
    }
}

#[test]
fn unknown_field_is_refused_by_name_and_nothing_is_made() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let path = stage.path("config.yaml");
            let text = std::fs::read_to_string(&path).unwrap() + "cache: on\n";
            std::fs::write(&path, text).unwrap();
            let mut program = Program::spawn(&stage, "");
            assert_eq!(program.end().await.code(), Some(2));
            assert!(
                program.log.contains("unknown field `cache`"),
                "{}",
                program.log
            );
            assert!(!stage.config.socket().exists());
        });
    });
}

#[test]
fn it_starts_publishes_and_ends_on_sigterm_and_logs_no_secret() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            stage.fake.rotate("value-canary-0815");
            let mut program = Program::spawn(&stage, "");
            program.line("started").await;
            let request = stage.request("secrets", POD_TOKEN);
            stage.node().node_publish_volume(request).await.unwrap();
            program.line("tells of changes").await;
            stage.fake.facts().failure = Some(tonic::Status::permission_denied("no"));
            let request = stage.request("secrets", POD_TOKEN);
            stage.node().node_publish_volume(request).await.unwrap();
            program.line("was not refreshed").await;

            let id = i32::try_from(program.child.id().unwrap()).unwrap();
            let pid = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            assert!(program.end().await.success(), "{}", program.log);
            assert_eq!(
                stage.password(),
                "value-canary-0815",
                "the pod keeps its files"
            );
            assert!(!stage.config.socket().exists());
            assert!(!stage.config.registration_socket().exists());
            for canary in ["value-canary", "pod-token", "driver-token"] {
                assert!(
                    !program.log.contains(canary),
                    "{canary} is in\n{}",
                    program.log
                );
            }
        });
    });
}

#[cfg(feature = "fault-points")]
#[test]
fn driver_that_is_killed_in_any_publish_leaves_nothing_or_everything() {
    use std::os::unix::process::ExitStatusExt;

    in_own_mounts(|| {
        run(async {
            for step in [
                "csi.publish.created",
                "csi.writer.folder",
                "csi.writer.file",
                "csi.writer.prepared",
                "csi.writer.shown",
                "csi.publish.written",
                "csi.publish.mounted",
            ] {
                let stage = Stage::new().await;
                let mut program = Program::spawn(&stage, &format!("{step}=kill"));
                program.line("started").await;
                let request = stage.request("secrets", POD_TOKEN);
                assert!(
                    stage
                        .node()
                        .node_publish_volume(request.clone())
                        .await
                        .is_err()
                );
                assert_eq!(program.end().await.signal(), Some(9), "{step}");
                let is_mounted = step == "csi.publish.mounted";
                assert_eq!(
                    mounts_below(&stage.path("")),
                    usize::from(is_mounted),
                    "{step}"
                );
                assert_eq!(stage.password() == "first", is_mounted, "{step}");

                let mut program = Program::spawn(&stage, "");
                program.line("started").await;
                // As kubelet, whose connection comes back by itself.
                eventually("the volume is published", async || {
                    stage
                        .node()
                        .node_publish_volume(request.clone())
                        .await
                        .is_ok()
                })
                .await;
                assert_eq!(stage.password(), "first", "{step}");
                assert_eq!(mounts_below(&stage.path("")), 1, "{step}");
            }
        });
    });
}
