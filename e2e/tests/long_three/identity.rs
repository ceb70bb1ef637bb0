//! The certificate of a node that has joined: renewed by the pod itself, revoked when an older copy of it comes back, and
//! made anew.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::world::wait;
use strongroom_hack::cluster::{Health, Node};

use super::trio::{KEY_SERVICE_PROBES, LIMIT, PLUGIN_PROBES, Trio};

const IDENTITY: &str = "/var/lib/strongroom/kms-plugin/identity/identity.json";
const PLUGIN_UID: u32 = 2002;
const HOURS: i64 = 3600 * 1000;

pub(crate) fn renews_is_revoked_and_is_enrolled_anew(trio: &Trio) -> Result<()> {
    let second = trio.node(1)?;
    let file = second.on_disk(IDENTITY);
    let copy = fs::read(&file)?;

    let serial = renew(trio, &file)?;
    trio.write(second, "renewed")?;

    put(&file, &copy)?;
    kill_plugin(second)?;
    wait(LIMIT, "the plugin says that it was revoked", || {
        let missing = trio.probe(second, PLUGIN_PROBES, "/readyz")?;
        Ok(missing.contains("was revoked"))
    })?;
    check_alarm(trio, &serial)?;
    check_the_others_go_on(trio)?;

    let start = Instant::now();
    trio.join(second, &["--overwrite"])?;
    second.wait_for_api_server(Health::Ready)?;
    println!(
        "report: three API servers: a new enrolment brought a revoked node back after {:.0} s",
        start.elapsed().as_secs_f64()
    );
    trio.write(second, "enrolled-anew")?;
    let status = trio.status()?;
    ensure!(status["ok"] == true, "{status}");
    ensure!(node(&status)?["state"] == "Enrolled", "{status}");
    second.restart_api_server(Health::Ready)
}

/// The machine's clock stays as it is; the plugin is told that its certificate is older.
fn renew(trio: &Trio, file: &Path) -> Result<String> {
    let mut identity: Value = serde_json::from_slice(&fs::read(file)?)?;
    let before = serial(file)?;
    for end in ["notBeforeMs", "notAfterMs"] {
        let time = identity["certificate"][end].as_i64();
        identity["certificate"][end] = (time.context("a time")? - 17 * HOURS).into();
    }
    put(file, identity.to_string().as_bytes())?;
    wait(LIMIT, "the certificate is renewed", || {
        Ok(serial(file)? != before)
    })?;
    let renewed = serial(file)?;
    // It counts once it was used.
    wait(LIMIT, "the key service knows the new certificate", || {
        Ok(node(&trio.status()?)?["serial"] == *renewed)
    })?;
    Ok(renewed)
}

/// Puts a file in the place of the identity, as a restored disk would.
fn put(file: &Path, content: &[u8]) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, content)?;
    chown(&next, Some(PLUGIN_UID), Some(PLUGIN_UID))?;
    fs::set_permissions(&next, Permissions::from_mode(0o600))?;
    Ok(fs::rename(&next, file)?)
}

fn serial(file: &Path) -> Result<String> {
    let identity: Value = serde_json::from_slice(&fs::read(file)?)?;
    let serial = identity["certificate"]["serial"].as_str();
    Ok(serial.context("there is a serial number")?.to_owned())
}

/// The kubelet starts another one.
fn kill_plugin(node: Node<'_>) -> Result<()> {
    let plugins = node.processes("kms-plugin")?;
    ensure!(!plugins.is_empty(), "no plugin runs");
    plugins.into_iter().try_for_each(|plugin| plugin.kill())
}

/// What the key service says of the second node.
fn node(status: &Value) -> Result<&Value> {
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    nodes
        .find(|node| node["node"] == "node-1")
        .context("the node is known")
}

fn check_alarm(trio: &Trio, newest: &str) -> Result<()> {
    let status = trio.status()?;
    ensure!(status["ok"] == false, "{status}");
    ensure!(node(&status)?["state"] == "Revoked", "{status}");
    let metrics = || trio.probe(trio.first()?, KEY_SERVICE_PROBES, "/metrics");
    wait(LIMIT, "the metric is an alarm", || {
        Ok(metrics()?
            .lines()
            .any(|line| line == "strongroom_nodes_revoked 1"))
    })?;
    let records = read_audit(trio)?;
    let record = records
        .lines()
        .find(|line| line.contains("\"RevokeNode\""))
        .context("the revocation is recorded")?;
    ensure!(record.contains(newest), "{record}");
    Ok(())
}

fn read_audit(trio: &Trio) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(trio.first()?.on_disk("/var/lib/strongroom/audit"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            text.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(text)
}

/// One API server tells why it is not ready; the other two are, and write.
fn check_the_others_go_on(trio: &Trio) -> Result<()> {
    let [first, second, third] = trio.nodes()?;
    wait(LIMIT, "the API server says why it is not ready", || {
        let error = second.get("/readyz/kms-providers").err();
        let error = error.context("it is ready")?.to_string();
        ensure!(error.contains("was revoked"), "{error}");
        Ok(true)
    })?;
    ensure!(second.get("/readyz").is_err() && second.get("/livez").is_ok());
    trio.read(second, "renewed")
        .context("what it has in its cache")?;
    for node in [first, third] {
        node.get("/readyz")?;
        let name = format!("without-second-{}", node.name());
        trio.write(node, &name)?;
        trio.read(first, &name)?;
        trio.read(third, &name)?;
    }
    Ok(())
}
