//! The clock of the key service's machine is turned, while the service runs and while it does not: what the store keeps goes
//! by a time that was believed, and a destruction waits until an administrator has looked at the clock.
#![forbid(unsafe_code)]

use std::{process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use strongroom_api::strongroom::v1::{
    ConfirmClockRequest, ConfirmClockResponse, ScheduleVersionDestructionRequest, ServiceClock,
    clock_client::ClockClient, keys_client::KeysClient,
};
use strongroom_core::Clock;
use strongroom_e2e::{
    mtls::{self, Credentials, StoryClock},
    nodes::{clean_up, describe, invite, read_audit, refused, stage_with},
    remote::{Remote, Ways},
    stage::Stage,
    world::wait,
};
use strongroom_hack::installation::Program;
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// The certificates of a day are good for as long.
const TURNED: i64 = 2 * 3600;
const TURNED_BACK: i64 = 70 * 60;

/// With somebody who has a certificate and is no administrator.
fn stage(name: &str, port: u16) -> Result<(Stage, StoryClock)> {
    stage_with(name, port, |settings| {
        let ring = "0f".repeat(16);
        settings.access = vec![format!(
            "{{role: KeyEncrypter, certificate: intern, ring: {ring}}}"
        )];
    })
}

#[test]
fn a_jump_stops_destruction_until_an_administrator_confirms_the_clock() -> Result<()> {
    let (mut stage, clock) = stage("clock", 24200)?;
    let old = stage.describe()?.primary_version;
    stage.rotate()?;
    assert!(!has_jumped(&stage)?);
    assert!(is_trusted(&stage, &clock)?);

    clock.turn(TURNED)?;
    wait(LIMIT, "the jump is noticed", || has_jumped(&stage))?;
    assert!(!is_trusted(&stage, &clock)?);
    let jump = shown(&stage, &clock)?.jump.context("the jump is shown")?;
    let ahead = jump.ahead.context("with its distance")?.seconds;
    assert!((ahead - TURNED).abs() < 60, "{ahead}");
    stage.seal()?;
    stage.check_seeds().context("keys are used as before")?;
    stage.wait_ready(Program::KeyService)?;
    let refusal = schedule(&stage, &clock, &old).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("clock confirm"), "{refusal}");

    let differ = confirm(&stage, "administrator")?;
    assert_eq!(differ.status.code(), Some(1));
    let said = String::from_utf8(differ.stderr)?;
    assert!(said.contains("set right whichever is wrong"), "{said}");

    // Neither time nor a restart makes it forgotten.
    clock.turn(0)?;
    end(&mut stage, Signal::KILL)?;
    stage.recover()?;
    assert!(has_jumped(&stage)?);
    let refusal = schedule(&stage, &clock, &old).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);

    let denied = confirm(&stage, "intern")?;
    assert_eq!(denied.status.code(), Some(4));
    assert!(has_jumped(&stage)?);
    let confirmed = confirm(&stage, "administrator")?;
    assert!(confirmed.status.success(), "{confirmed:?}");
    assert!(String::from_utf8(confirmed.stdout)?.starts_with("confirmed: it is "));
    wait(LIMIT, "the alarm ends", || Ok(!has_jumped(&stage)?))?;
    assert!(is_trusted(&stage, &clock)?);
    schedule(&stage, &clock, &old)?;
    let again = confirm(&stage, "administrator")?;
    assert!(String::from_utf8(again.stdout)?.starts_with("nothing to confirm"));

    let audit = read_audit(&stage)?;
    assert_eq!(audit.matches("RecordClockJump").count(), 1, "{audit}");
    for record in ["ConfirmClock", "ClocksDiffer", "ClockJumped"] {
        assert!(audit.contains(record), "{record}");
    }
    clean_up(stage, &clock)
}

#[test]
fn service_time_does_not_go_back_over_a_restart() -> Result<()> {
    let (mut stage, clock) = stage("clock-floor", 24220)?;
    let late = Remote::lay_out(&stage.installation, "cp-2", 24226, Ways::default())?;
    let file = invite(&stage, "cp-2")?;

    clock.skip(HOUR + 15 * MINUTE)?;
    wait(LIMIT, "the time is written down", || {
        Ok(times_written(&stage)? == 1)
    })?;
    let before = service_time(&stage, &clock)?;
    end(&mut stage, Signal::KILL)?;
    // When the secret still counted; before the instance was made no certificate would.
    clock.turn(-TURNED_BACK)?;
    stage.recover()?;
    assert!(has_jumped(&stage)?, "noticed before anything is served");
    let turned = shown(&stage, &clock)?;
    assert!(turned.wall_clock.context("a time")?.seconds < before);
    assert!(service_time(&stage, &clock)? >= before);
    let said = refused(&stage, &late, &file)?;
    ensure!(said.contains("the enrolment secret has expired"), "{said}");

    // A person who says that this is the time is believed.
    let answer = confirm_now(&stage, &clock)?;
    let ahead = answer.confirmed.context("there was a jump")?.ahead;
    let ahead = ahead.context("with its distance")?.seconds;
    assert!((ahead + TURNED_BACK).abs() < 60, "{ahead}");
    assert!(answer.service_time.context("a time")?.seconds < before);
    assert!(is_trusted(&stage, &clock)?);

    let so_far = times_written(&stage)?;
    clock.skip(2 * MINUTE)?;
    end(&mut stage, Signal::TERM)?;
    assert_eq!(
        times_written(&stage)?,
        so_far + 1,
        "an end in order writes it"
    );
    stage.recover()?;
    assert!(is_trusted(&stage, &clock)?);
    clean_up(stage, &clock)
}

fn end(stage: &mut Stage, signal: Signal) -> Result<()> {
    stage
        .process(Program::KeyService)?
        .end(signal, END_LIMIT)
        .map(drop)
}

fn times_written(stage: &Stage) -> Result<usize> {
    Ok(read_audit(stage)?.matches("RecordTime").count())
}

fn service_time(stage: &Stage, clock: &StoryClock) -> Result<i64> {
    let at = shown(stage, clock)?.service_time;
    Ok(at.context("a time is there")?.seconds)
}

fn has_jumped(stage: &Stage) -> Result<bool> {
    let metrics = stage.installation.probe(Program::KeyService, "/metrics")?;
    let line = metrics
        .body
        .lines()
        .find_map(|line| line.strip_prefix("strongroom_clock_jumped "));
    Ok(line.context("the metric is there")? == "1")
}

fn is_trusted(stage: &Stage, clock: &StoryClock) -> Result<bool> {
    let conditions = describe(stage, clock)?.conditions;
    let condition = conditions.iter().find(|it| it.r#type == "ClockTrusted");
    Ok(condition.context("the condition is there")?.ok)
}

fn shown(stage: &Stage, clock: &StoryClock) -> Result<ServiceClock> {
    describe(stage, clock)?.clock.context("the clock is shown")
}

/// A certificate by the clock as it is now: one from before it was turned may not be valid yet.
fn administrator(stage: &Stage) -> Result<Credentials> {
    stage.installation.administrator("administrator")?;
    Credentials::of_administrator(&stage.installation, "administrator")
}

fn schedule(stage: &Stage, clock: &StoryClock, version: &str) -> Result<(), Status> {
    let failed = |error: anyhow::Error| Status::unknown(format!("{error:#}"));
    let described = describe(stage, clock).map_err(failed)?;
    let credentials = administrator(stage).map_err(failed)?;
    let request = ScheduleVersionDestructionRequest {
        ring_id: described.system_ring_id,
        key: described.etcd_key_id,
        version: version.to_owned(),
        ..ScheduleVersionDestructionRequest::default()
    };
    stage.block_on(async {
        let address = stage.installation.server();
        let channel = mtls::channel(&address, &credentials, clock)
            .await
            .map_err(failed)?;
        KeysClient::new(channel)
            .schedule_version_destruction(request)
            .await
            .map(drop)
    })
}

/// Types `clock confirm` on a machine with the true time.
fn confirm(stage: &Stage, name: &str) -> Result<Output> {
    let configuration = stage.installation.administrator(name)?;
    let mut command = stage.installation.kubectl_strongroom(&configuration);
    Ok(command.args(["clock", "confirm"]).output()?)
}

/// The same by somebody to whom it is as late as to the machine.
fn confirm_now(stage: &Stage, clock: &StoryClock) -> Result<ConfirmClockResponse> {
    let credentials = administrator(stage)?;
    let mut request = ConfirmClockRequest::default();
    request.now.get_or_insert_default().seconds = clock.now().as_i64() / 1000;
    stage.block_on(async {
        let address = stage.installation.server();
        let channel = mtls::channel(&address, &credentials, clock).await?;
        Ok(ClockClient::new(channel)
            .confirm(request)
            .await?
            .into_inner())
    })
}
