//! A full audit log stops administration with a typed error, while the plugin's reserve lets an API server restart; every
//! acknowledged success is in the log.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use strongroom_e2e::stage::Stage;
use strongroom_hack::{installation::Program, programs::Build};
use tonic::{Code, Status};

const CAPACITY_MIB: u64 = 1;

#[test]
fn full_log_stops_administration_and_leaves_the_reserve_to_the_plugin() -> Result<()> {
    let mut stage = Stage::lay_out("audit-space", 24040, Build::Plain, |settings| {
        settings.audit_capacity_mib = CAPACITY_MIB;
    })?;
    stage.bring_up()?;
    let mut acknowledged = Acknowledged::default();
    fill(&stage, &mut acknowledged)?;
    let refused = refusal(stage.rotate())?;
    ensure!(refused.message().contains("audit log"), "{refused}");
    // What an API server needs at its start, several times over.
    for _ in 0..20 {
        let sealed = stage.plugin.encrypt(&[7; 32])?;
        ensure!(stage.plugin.decrypt(&sealed)? == [7; 32]);
        acknowledged.encrypted += 1;
        acknowledged.decrypted += 1;
    }
    compare_with_log(&stage, &acknowledged)?;

    stage.installation.settings_mut().audit_capacity_mib = 8 * CAPACITY_MIB;
    stage.installation.write_configuration()?;
    stage
        .process(Program::KeyService)?
        .end(Signal::TERM, Duration::from_secs(5))?;
    stage.recover()?;
    stage.rotate()?;
    stage.check_seeds()?;
    stage.verify_audit()?;
    stage.clean_up()
}

/// Successes that somebody was told of. The log may have more: those of the bringing up.
#[derive(Debug, Default)]
struct Acknowledged {
    encrypted: usize,
    decrypted: usize,
    rotated: usize,
}

/// Uses the key until administration is refused.
fn fill(stage: &Stage, acknowledged: &mut Acknowledged) -> Result<()> {
    for _ in 0..500 {
        for _ in 0..20 {
            stage.plugin.encrypt(&[7; 32])?;
            acknowledged.encrypted += 1;
        }
        match stage.describe() {
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        match stage.rotate() {
            Ok(_) => acknowledged.rotated += 1,
            Err(_) => return Ok(()),
        }
    }
    bail!("the log never fills")
}

fn refusal<T>(outcome: Result<T>) -> Result<Status> {
    let error = outcome.err().context("it was not refused")?;
    let status: Status = error.downcast()?;
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    Ok(status)
}

fn compare_with_log(stage: &Stage, acknowledged: &Acknowledged) -> Result<()> {
    let mut text = String::new();
    for entry in fs::read_dir(stage.installation.audit_dir())? {
        // Records are lines of text; the reserve beside them is not.
        text.push_str(&String::from_utf8_lossy(&fs::read(entry?.path())?));
    }
    let count = |action: &str| {
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|record: &serde_json::Value| {
                record["action"] == action && record["outcome"] == "Succeeded"
            })
            .count()
    };
    // One seed of the bringing up and one to see that the plugin is well.
    ensure!(
        count("EncryptSeed") == acknowledged.encrypted + 2,
        "{acknowledged:?} {}",
        count("EncryptSeed")
    );
    ensure!(
        count("DecryptSeed") == acknowledged.decrypted,
        "{acknowledged:?}"
    );
    ensure!(
        count("RotateKey") == acknowledged.rotated,
        "{acknowledged:?}"
    );
    Ok(())
}
