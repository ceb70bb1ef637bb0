//! Certificates of a node are renewed whatever is killed, and wherever.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    mtls::StoryClock,
    nodes::{clean_up, enrol, invite, invite_now, refused, stage, states},
    remote::{POINTS, Remote, Ways},
    stage::Stage,
    world::wait,
};
use strongroom_hack::installation::Program;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn killed_anywhere_in_a_renewal_the_node_keeps_its_identity() -> Result<()> {
    let (mut stage, clock) = stage("remote-kills", 24090)?;
    let mut remote = Remote::lay_out(&stage.installation, "cp-2", 24096, Ways::default())?;
    for point in POINTS.iter().filter(|point| point.contains(".enrol.")) {
        check_enrolment(&mut stage, &clock, &remote, point).with_context(|| (*point).to_owned())?;
    }
    enrol(&stage, &remote, &invite(&stage, "cp-2")?)?;
    remote.start(&stage.installation, "")?;
    remote.wait_ready()?;
    let sealed = remote.plugin.encrypt(&[3; 32])?;
    for point in POINTS.iter().filter(|point| !point.contains(".enrol.")) {
        // The file is replaced twice: for the next key, and for the next certificate.
        let passes: &[u32] = if point.contains(".identity.") {
            &[0, 1]
        } else {
            &[0]
        };
        for passed in passes {
            let faults = format!("{point}={passed}*off->kill");
            check_renewal(&mut stage, &clock, &mut remote, &faults)
                .with_context(|| faults.clone())?;
            assert_eq!(remote.plugin.decrypt(&sealed)?, [3; 32]);
        }
    }
    assert_eq!(states(&stage, &clock)?, ["Enrolled"]);
    remote.kill();
    clean_up(stage, &clock)
}

/// Whatever is killed in an enrolment, another secret does it.
fn check_enrolment(
    stage: &mut Stage,
    clock: &StoryClock,
    remote: &Remote,
    point: &str,
) -> Result<()> {
    let faults = format!("{point}=kill");
    let by_service = point.starts_with("key-service");
    if by_service {
        stage.start(Program::KeyService, &faults)?;
        stage.wait_ready(Program::KeyService)?;
    }
    let file = invite_now(stage, clock, "cp-2")?;
    let output = remote.enrol(
        &stage.installation,
        &file,
        if by_service { "" } else { &faults },
    )?;
    ensure!(!output.status.success() && !remote.identity().exists());
    if by_service {
        stage.process(Program::KeyService)?.wait_killed()?;
    }
    stage.recover()?;
    let said = refused(stage, remote, &file)?;
    ensure!(said.contains("was used already"), "{said}");
    Ok(())
}

fn check_renewal(
    stage: &mut Stage,
    clock: &StoryClock,
    remote: &mut Remote,
    faults: &str,
) -> Result<()> {
    let before = remote.serial()?;
    if faults.starts_with("key-service") {
        stage.start(Program::KeyService, faults)?;
        stage.wait_ready(Program::KeyService)?;
        remote.start(&stage.installation, "")?;
        remote.wait_ready()?;
        clock.skip(17 * HOUR)?;
        stage.process(Program::KeyService)?.wait_killed()?;
        stage.recover()?;
    } else {
        // What the fault point counts begins with the start, before anything is due.
        let shows = faults.starts_with("plugin.renew.before-show");
        let faults = if shows {
            faults.replace("0*off", "1*off")
        } else {
            faults.to_owned()
        };
        remote.start(&stage.installation, &faults)?;
        remote.wait_ready()?;
        clock.skip(17 * HOUR)?;
        remote.wait_killed()?;
        remote.start(&stage.installation, "")?;
    }
    wait(LIMIT, "the certificate is renewed", || {
        Ok(remote.serial()? != before)
    })?;
    remote.wait_ready()?;
    wait(LIMIT, "the plugin seals", || {
        Ok(remote.plugin.encrypt(&[0; 32]).map(|_| true)?)
    })
}
