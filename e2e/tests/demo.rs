//! The demo, as a person runs it: what it says, and that nothing of it is left afterwards.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use strongroom_hack::{
    cluster::{Layout, Name, Process},
    installation, paths,
};

const NAME: &str = "e2e-demo";
const ROOT: &str = "/srv/strongroom-e2e-demo";

/// Lines that a reader of the story has to see, in this order.
const STORY: &[&str] = &[
    "keyservice.strongroom.dev/default condition met",
    "Denied: ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db; add it under spec.access",
    "version 1 of the password",
    "version 2 of the password",
    " ms later.",
    "version 3 of the password",
    "Complete up to the witness.",
    "Second act",
    "rrect-horse-batt",
    ">k8s:enc:kms:v2:s<",
    "Rotated the etcd key.",
    "now      1.2",
    "APIServer   yes",
    "    correct-horse-battery",
    "Decrypt\",provider_name=\"strongroom\"} ",
    "Complete up to the witness.",
    "TAMPERED at log-00000000000000000000.jsonl, record 3",
    "(exit code 1)",
    "What is left running",
    "cargo xtask demo-down --name e2e-demo",
];

#[test]
fn demo_tells_the_main_jobs_goes_on_running_and_is_removed_without_a_trace() -> Result<()> {
    text(&xtask(&["demo-down", "--name", NAME])?)?;
    let story = text(&xtask(&["demo", "--name", NAME, "--first-port", "21900"])?)?;
    let mut rest = story.as_str();
    for line in STORY {
        let at = rest
            .find(line)
            .with_context(|| format!("not there, or not there in order: {line}\n{story}"))?;
        rest = &rest[at..];
    }

    let processes = processes()?;
    assert_eq!(
        processes.len(),
        5,
        "three programs, etcd and the namespace go on: {processes:?}"
    );
    let namespace = network_of(&processes)?;
    let again = text(&xtask(&["demo", "--name", NAME])?)?;
    assert!(again.starts_with("The demo runs already."), "{again}");

    text(&xtask(&["demo-down", "--name", NAME])?)?;
    assert!(!Path::new(ROOT).exists());
    assert!(!Layout::new(&name()).root().exists());
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert_eq!(inhabitants(&namespace)?, 0, "the namespace is gone");
    assert_eq!(command_lines_with(ROOT)?, Vec::<String>::new());
    Ok(())
}

fn name() -> Name {
    NAME.parse().expect("a valid name")
}

/// What people type after `cargo xtask`.
fn xtask(words: &[&str]) -> Result<Output> {
    let mut command = Command::new("cargo");
    command.current_dir(paths::checkout());
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "strongroom-hack",
        "--",
    ]);
    Ok(command.args(words).output()?)
}

fn text(output: &Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}\n{said}", output.status);
    Ok(told)
}

fn processes() -> Result<Vec<Process>> {
    let records = installation::records(Path::new(ROOT));
    let mut found = Vec::new();
    for name in records.names()? {
        found.extend(records.process(&name)?);
    }
    let cluster = Layout::new(&name());
    for member in ["etcd", "namespace"] {
        found.extend(cluster.process(member)?);
    }
    Ok(found)
}

/// The network namespace of the cluster, which is that of the last process.
fn network_of(processes: &[Process]) -> Result<String> {
    let holder = processes.last().context("the holder runs")?;
    let link = fs::read_link(format!("/proc/{}/ns/net", holder.id()))?;
    Ok(link.display().to_string())
}

fn inhabitants(namespace: &str) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let link = fs::read_link(entry?.path().join("ns/net"));
        count += usize::from(link.is_ok_and(|link| link.display().to_string() == namespace));
    }
    Ok(count)
}

fn command_lines_with(word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let words = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words).replace('\0', " ");
        if line.contains(word) {
            found.push(line);
        }
    }
    Ok(found)
}
