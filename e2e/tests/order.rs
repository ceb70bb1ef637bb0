//! kube-apiserver as a static pod starts when the plugin can be used, and without it when that takes too long.
#![forbid(unsafe_code)]

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use strongroom_e2e::{
    late::{BEFORE, LatePod, Made, wait_ready},
    ordered::Ordered,
    world::wait,
};

/// Many looks of the one that waits.
const LATE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn api_server_starts_after_the_plugin_and_without_one_that_does_not_come() -> Result<()> {
    let ordered = Ordered::begin("e2e-order")?;
    let control_plane = &ordered.control_plane;
    let said = control_plane.bootstraps(&[])?;
    ensure!(
        said.ends_with("kube-apiserver has its flags, its folders and its init container.\n"),
        "{said}"
    );
    let made = Made::begin(control_plane)?;

    let plugin = LatePod::boot_without(control_plane, "kms-plugin")?;
    ordered.wait_until_named("nobody answers on")?;
    thread::sleep(LATE);
    ordered.check_waits()?;
    plugin.arrive()?;
    wait_ready(control_plane, "kms-plugin")?;
    let ready = ordered.wait_until_ready()?;
    println!(
        "report: order: the API server was ready {:.1} s after the plugin, which was late",
        ready.as_secs_f64()
    );
    made.check(control_plane)?;

    ordered.set_patience("5s")?;
    let plugin = LatePod::boot_without(control_plane, "kms-plugin")?;
    let node = control_plane.node()?;
    wait(LIMIT, "the API server lives without the plugin", || {
        Ok(node.get("/livez").is_ok())
    })?;
    ensure!(ordered.said()?.contains("what waits starts without it"));
    let maps = ["get", "configmaps", "--namespace=kube-system"];
    control_plane.cluster.kubectl(&maps)?;
    ensure!(control_plane.check_secret(BEFORE).is_err(), "it was read");
    plugin.arrive()
}
