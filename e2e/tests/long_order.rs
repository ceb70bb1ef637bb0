//! What kube-apiserver needs is two minutes late at boot, again and again: it waits, and is ready within 15 seconds of its
//! plugin.
#![forbid(unsafe_code)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    control_plane::ENCRYPTION,
    late::{LateDisk, LatePod, Made, Named, wait_ready},
    ordered::Ordered,
};

/// How often the plugin itself is late.
const ROUNDS: usize = 3;
const LATE: Duration = Duration::from_secs(120);
const READY_AFTER_PLUGIN: Duration = Duration::from_secs(15);
const NO_PLUGIN: &str = "nobody answers on";
const NO_KEY_SERVICE: &str = "the key service was not reached yet";

#[test]
fn api_server_is_ready_soon_after_a_plugin_that_was_late() -> Result<()> {
    let ordered = Ordered::begin("e2e-long-order")?;
    let stage = &ordered.control_plane;
    let made = Made::begin(stage)?;
    for _ in 0..ROUNDS {
        let pod = LatePod::boot_without(stage, "kms-plugin")?;
        follows(&ordered, "kms-plugin", NO_PLUGIN, None, || pod.arrive())?;
        made.check(stage)?;
    }
    for (program, named) in [
        (
            "key-service",
            Named::of("kms-plugin", "key-service: ", "the key service"),
        ),
        (
            "hsm-agent",
            Named::of("key-service", "hsm: ", "nobody answers on"),
        ),
    ] {
        let pod = LatePod::boot_without(stage, program)?;
        // The key service does not listen before it has a token.
        follows(&ordered, program, NO_KEY_SERVICE, Some(named), || {
            pod.arrive()
        })?;
        made.check(stage)?;
    }
    let disk = LateDisk::boot_without(stage, "audit")?;
    let named = Named::of(
        "key-service",
        "audit: ",
        "holds no audit log: mount its disk",
    );
    let what = "the disk of the audit log";
    follows(&ordered, what, NO_KEY_SERVICE, Some(named), || {
        disk.mount(stage)
    })?;
    // From outside the node, what is mounted in it is not seen.
    disk.put_back(stage)?;
    ordered.wait_until_ready()?;
    made.check(stage)
}

#[test]
fn api_server_that_waits_comes_back_with_everything_encrypted() -> Result<()> {
    let ordered = Ordered::begin("e2e-long-order-all")?;
    let stage = &ordered.control_plane;
    let made = Made::begin(stage)?;
    let configuration = stage.node()?.on_disk(ENCRYPTION);
    let text = fs::read_to_string(&configuration)?;
    let everything = text.replace("[secrets]", "['*.*']");
    ensure!(everything != text, "{text}");
    fs::write(&configuration, everything)?;
    // Only what is written from then on is encrypted, so the second power cut is the one that counts.
    for cut in ["first", "second"] {
        stage.cluster.power_off()?;
        stage.cluster.power_on()?;
        let ready = ordered.wait_until_ready()?;
        println!(
            "report: order: with *.* encrypted the API server was ready {:.1} s after the {cut} power cut",
            ready.as_secs_f64()
        );
        made.check(stage)?;
        stage.create_secret(cut)?;
    }
    stage.check_secret("first")
}

/// Something is late for two minutes, in which it is named; then the API server follows.
fn follows(
    ordered: &Ordered,
    what: &str,
    sentence: &str,
    named: Option<Named>,
    arrive: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stage = &ordered.control_plane;
    let booted = Instant::now();
    ordered.wait_until_named(sentence)?;
    thread::sleep(LATE.saturating_sub(booted.elapsed()));
    ordered.check_waits()?;
    if let Some(named) = named {
        named
            .is_said(stage)
            .with_context(|| format!("{what} is late"))?;
    }
    let arrived = Instant::now();
    arrive()?;
    wait_ready(stage, "kms-plugin")?;
    let usable = arrived.elapsed();
    let ready = ordered.wait_until_ready()?;
    println!(
        "report: order: {what} was {LATE:?} late: the plugin could be used after {:.1} s more, and the API server was ready \
         {:.1} s after it",
        usable.as_secs_f64(),
        ready.as_secs_f64()
    );
    ensure!(ready < READY_AFTER_PLUGIN, "{what}: {ready:?}");
    stage.create_secret(&format!("after-{}", ordered.processes()?[0].id()))
}
