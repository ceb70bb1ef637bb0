//! SIGKILL at random moments of a running load: whatever was acknowledged is there, whatever was in work is there or not,
//! and nobody has to do more than start the program again.
#![forbid(unsafe_code)]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_e2e::stage::Stage;
use strongroom_hack::{installation::Program, programs::Build};

const ROUNDS: usize = 20;
/// Kills come within this time after a load began.
const MOMENT_MAX_MS: u64 = 400;

#[test]
fn hsm_agent_is_killed_at_random() -> Result<()> {
    kill_at_random("kills-agent", 27000, Program::HsmAgent)
}

#[test]
fn key_service_is_killed_at_random() -> Result<()> {
    kill_at_random("kills-service", 27020, Program::KeyService)
}

#[test]
fn kms_plugin_is_killed_at_random() -> Result<()> {
    kill_at_random("kills-plugin", 27040, Program::KmsPlugin)
}

fn kill_at_random(name: &str, port: u16, victim: Program) -> Result<()> {
    let mut stage = Stage::lay_out(name, port, Build::Plain, |_| {})?;
    stage.bring_up()?;
    for round in 0..ROUNDS {
        one_kill(&mut stage, victim).with_context(|| format!("round {round}"))?;
    }
    println!(
        "report: {}: {ROUNDS} kills at random moments",
        victim.name()
    );
    stage.clean_up()
}

fn one_kill(stage: &mut Stage, victim: Program) -> Result<()> {
    let before = stage.describe()?.versions.len();
    let acknowledged = load_until_killed(stage, victim)?;
    stage.recover()?;
    let after = stage.describe()?.versions.len();
    // At most the one rotation that was in work is there without an acknowledgement.
    let expected = before + acknowledged..=before + acknowledged + 1;
    ensure!(
        expected.contains(&after),
        "{before} versions, {acknowledged} rotations acknowledged, then {after}"
    );
    stage.check_seeds()?;
    stage.verify_audit()
}

/// Seals and rotates while another thread waits for its moment; returns the rotations that were acknowledged.
fn load_until_killed(stage: &mut Stage, victim: Program) -> Result<usize> {
    let id = stage.process(victim)?.id();
    let moment = Duration::from_millis(random()? % MOMENT_MAX_MS);
    let killer = thread::spawn(move || {
        thread::sleep(moment);
        kill_process(
            Pid::from_raw(id).context("a child has an id")?,
            Signal::KILL,
        )?;
        Ok::<(), anyhow::Error>(())
    });
    let start = Instant::now();
    let mut acknowledged = 0;
    // The plugin serves on without a key service for a while, so the load ends with the clock, not with an error.
    while start.elapsed() < moment + Duration::from_millis(50) {
        acknowledged += usize::from(stage.rotate().is_ok());
        // A failed seal is remembered by nobody; one that was answered is checked from then on.
        let _ = stage.seal();
    }
    killer.join().expect("the killer does not panic")?;
    stage.process(victim)?.wait_killed()?;
    Ok(acknowledged)
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
