//! csi-sanity, the conformance suite of the Container Storage Interface, against the driver as users get it: bare, and through
//! a forwarder that plays the controller which it has not, so that the publish path itself is tried, with a real key service.

mod forwarder;
mod stage;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use strongroom_hack::tools::{self, Module};

use crate::{forwarder::Forwarder, stage::Stage};

/// What needs a controller whether there is one or not.
const NEEDS_CONTROLLER: &str =
    r"\[Controller Server\]|should remove target path|does not exist on the specified path";
/// The controller itself is none of ours.
const IS_CONTROLLER: &str = r"\[Controller Server\]|GroupController|Snapshot";

/// Runs the suite and returns what it prints last: how many specs ran, passed and were skipped.
fn sanity(words: &[String], skip: &str) -> Result<(String, usize)> {
    let program = tools::ensure_built(Module::CsiSanity)?.join("csi-sanity");
    let output = Command::new(program)
        .args(words)
        .arg(format!("--ginkgo.skip={skip}"))
        .arg("--ginkgo.no-color")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "csi-sanity is not content:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = said.lines().find(|line| line.contains(" Passed | "));
    let summary = summary.context("csi-sanity counts nothing")?.to_owned();
    let count = summary.split(" Passed").next().unwrap_or_default();
    let count = count.split_whitespace().last().unwrap_or_default();
    let passed = count.parse().context("a number of specs")?;
    println!("{summary}");
    Ok((summary, passed))
}

#[test]
fn driver_passes_every_spec_of_a_node_plugin() -> Result<()> {
    let stage = Stage::up("sanity", 29000)?;
    let words = [
        format!("--csi.endpoint={}", stage.socket().display()),
        format!("--csi.mountdir={}", stage.path("mounts").display()),
        format!("--csi.stagingdir={}", stage.path("staging").display()),
    ];
    let (summary, passed) = sanity(&words, NEEDS_CONTROLLER)?;
    // Three of the identity, ten of the node: less would mean that the suite saw less than there is.
    ensure!(passed >= 13, "{summary}");
    ensure!(summary.contains("0 Failed"), "{summary}");
    stage.down()
}

/// The suite appends `target` to the folder that it makes; kubelet's paths end in `mount`. It learns by this program what
/// lies there, in the driver's own namespace of mounts or not, the folder is the same.
fn write_check(path: &Path) -> Result<()> {
    let script = "#!/bin/sh\n\
                  place=\"${1%/target}/mount\"\n\
                  if [ -d \"$place\" ]; then echo directory; elif [ -e \"$place\" ]; then echo other; else echo not_found; fi\n";
    fs::write(path, script)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn driver_passes_the_publish_path_of_the_suite_ten_times_over() -> Result<()> {
    let stage = Stage::up("sanity-path", 29020)?;
    let forwarder = Forwarder::start(&stage)?;
    let check = stage.path("check-path");
    write_check(&check)?;
    let secrets = stage.path("secrets.yaml");
    let tokens = serde_json::json!({ "strongroom.dev": { "token": stage.pod_token()? } });
    let key = "csi.storage.k8s.io/serviceAccount.tokens";
    let text = serde_json::json!({ "NodePublishVolumeSecret": { key: tokens.to_string() } });
    fs::write(&secrets, text.to_string())?;
    let words = [
        format!("--csi.endpoint={}", forwarder.socket().display()),
        format!("--csi.mountdir={}", stage.volume().display()),
        format!("--csi.stagingdir={}", stage.path("staging").display()),
        format!("--csi.secrets={}", secrets.display()),
        format!("--csi.checkpathcmd={}", check.display()),
    ];
    let (summary, passed) = sanity(&words, IS_CONTROLLER)?;
    ensure!(passed >= 17, "{summary}");
    ensure!(summary.contains("0 Failed"), "{summary}");
    // It was the real path: four specs publish, one of them ten times, and what the driver mounted it has taken away.
    ensure!(forwarder.published() >= 13, "{}", forwarder.published());
    ensure!(stage.mounts()? == 0, "volumes are left");
    forwarder.end();
    stage.down()
}

#[test]
fn program_that_users_get_has_no_switch_for_tests() -> Result<()> {
    use strongroom_hack::programs::{Build, Programs};
    let program = Programs::ensure_built(Build::Plain)?.csi_driver();
    let bytes = fs::read(program)?;
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    for switch in [
        "FAILPOINTS",
        "csi.writer.shown",
        "csi.publish.mounted",
        "mock_provider",
    ] {
        ensure!(!has(switch), "{switch} is in the program");
    }
    // The test can fail: the build with fault points has them.
    let faulty = fs::read(Programs::ensure_built(Build::FaultPoints)?.csi_driver())?;
    let word = b"csi.writer.shown";
    ensure!(faulty.windows(word.len()).any(|window| window == word));
    Ok(())
}
