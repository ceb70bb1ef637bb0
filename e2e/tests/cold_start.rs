//! A cluster whose etcd is encrypted by pods of its own comes back from a power cut without a hand.
#![forbid(unsafe_code)]

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use strongroom_e2e::control_plane::{ControlPlane, ENCRYPTION};
use strongroom_hack::cluster::Health;

#[test]
fn after_a_power_cut_the_api_server_is_ready_and_reads_what_it_wrote() -> Result<()> {
    let control_plane = ControlPlane::bootstrapped("e2e-cold", &[])?;
    control_plane.create_secret("secrets")?;
    cold_start(&control_plane, "secrets")?;
    control_plane.check_secret("secrets")?;

    // With everything encrypted, the API server cannot even write a Lease without the plugin.
    let node = control_plane.node()?;
    let configuration = node.on_disk(ENCRYPTION);
    let text = fs::read_to_string(&configuration)?;
    let everything = text.replace("[secrets]", "['*.*']");
    ensure!(everything != text, "{text}");
    fs::write(&configuration, everything)?;
    node.restart_api_server(Health::Ready)?;
    control_plane.create_secret("everything")?;
    cold_start(&control_plane, "*.*")?;
    for name in ["secrets", "everything"] {
        control_plane.check_secret(name)?;
    }
    control_plane.create_secret("after")
}

fn cold_start(control_plane: &ControlPlane, what: &str) -> Result<()> {
    control_plane.cluster.power_off()?;
    let start = Instant::now();
    control_plane.cluster.power_on()?;
    let node = control_plane.node()?;
    node.wait_for_api_server(Health::Ready)?;
    println!(
        "report: cold start with {what} encrypted: the API server was ready after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    node.wait_until_ready()
}
