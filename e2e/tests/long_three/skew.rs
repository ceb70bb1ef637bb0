//! API servers with different key ids, for as long as the plugin of one of them is paused.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use strongroom_e2e::world::wait;
use strongroom_hack::cluster::{Health, Process};

use super::trio::{self, LIMIT, Trio};

/// The kubelet replaces a plugin that does not answer for a minute.
const HELD: Duration = Duration::from_secs(50);
/// An API server whose plugin was away asks again every ten seconds, and may do so between the end of the pause and the
/// reads that must come before.
const TRIES: usize = 4;

/// A process that is stopped until this is dropped.
struct Paused(Process);

impl Paused {
    fn new(process: Process) -> Result<Self> {
        process.signal(Signal::STOP)?;
        Ok(Self(process))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.0.signal(Signal::CONT);
    }
}

pub(crate) fn reads_work_everywhere(trio: &Trio) -> Result<()> {
    for attempt in 0..TRIES {
        let seen = rotate_under_a_paused_plugin(trio, attempt)?;
        let third = trio.node(2)?;
        let wanted = trio.reported(trio.first()?)?;
        wait(LIMIT, "the third API server has the new key id", || {
            // The probe makes the API server ask for the status.
            let _ = third.get("/readyz/kms-providers");
            Ok(trio.reported(third)? == wanted)
        })?;
        third.wait_for_api_server(Health::Ready)?;
        if seen {
            return trio.read_everything();
        }
    }
    bail!("the third API server always asked before it was looked at")
}

/// Returns whether the third API server still had the old key id when it read what the others wrote under the new one.
fn rotate_under_a_paused_plugin(trio: &Trio, attempt: usize) -> Result<bool> {
    let [first, second, third] = trio.nodes()?;
    let named = |what: &str| format!("skew-{attempt}-{what}");
    let old = trio.write(third, &named("before"))?;
    let plugin = third.processes("kms-plugin")?;
    let paused = Paused::new(*plugin.first().context("a plugin runs on the third node")?)?;
    let start = Instant::now();
    let rotated = trio.rotate()?;
    // A new start asks for the key id at once, and has nothing in its caches.
    for node in [first, second] {
        node.restart_api_server(Health::Ready)?;
    }

    let new = trio.write(first, &named("by-first"))?;
    ensure!(new != old && rotated["now"]["keyIDHash"] == trio::hash(&new));
    ensure!(trio.write(second, &named("by-second"))? == new);
    ensure!(trio.write(third, &named("by-third"))? == old, "no skew");
    let by_all = ["before", "by-first", "by-second", "by-third"].map(named);
    for node in [first, second] {
        for name in &by_all {
            trio.read(node, name)?;
        }
        ensure!(trio.opened(node)? > 0.0, "no seed was opened");
    }
    for name in ["before", "by-third"].map(named) {
        trio.read(third, &name)
            .context("what it has is read without its plugin")?;
    }
    wait_names_the_third(trio, &rotated["before"]["version"])?;
    let held = start.elapsed();
    ensure!(held < HELD, "the kubelet may have replaced the plugin");

    drop(paused);
    for name in &by_all {
        wait(LIMIT, "the third API server reads it", || {
            trio.read(third, name).map(|()| true)
        })?;
    }
    let still_old = trio.write(third, &named("at-the-end"))? == old;
    println!(
        "report: three API servers: a paused plugin held two key ids for {:.0} s; under the old one its API server {}",
        held.as_secs_f64(),
        if still_old {
            "read what was written under the new one"
        } else {
            "was not caught, trying again"
        }
    );
    Ok(still_old)
}

/// Whoever waits for the rotation is told that one API server has not come along, and which.
fn wait_names_the_third(trio: &Trio, before: &serde_json::Value) -> Result<()> {
    let from = format!("--from={}", before.as_str().context("a version")?);
    let output = trio.rotate_and_wait(&[&from, "--timeout=8s"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(3), "{said}");
    // Whether it was met among the looks of this time or not, it is missing.
    ensure!(said.contains("API server node-2 ("), "{said}");
    Ok(())
}
