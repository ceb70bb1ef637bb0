//! SIGKILL at each step of an init that was asked for: what comes after finishes the same instance, and the request hears of it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_hack::{cluster::ScopedCluster, installation::Program, programs::Programs};

use crate::place::{Place, WITNESS, granted};

const AGENT: [&str; 3] = [
    "hsm.make-token.pins-written",
    "hsm.make-token.token-made",
    "hsm.make-token.user-pin-set",
];

const KEY_SERVICE: [&str; 7] = [
    "key-service.awaiting.token-made",
    "key-service.init.intent-written",
    "key-service.init.log-begun",
    "key-service.init.token-initialised",
    "key-service.init.pinned",
    "key-service.init.store-filled",
    "key-service.awaiting.initialised",
];

pub(crate) fn each_point_is_gone_on_from(
    cluster: &ScopedCluster,
    programs: &Programs,
) -> Result<()> {
    for (number, point) in KEY_SERVICE.iter().enumerate() {
        let system = format!("strongroom-kill-{number}");
        killed_key_service_goes_on(cluster, programs, &system, point)
            .with_context(|| (*point).to_owned())?;
    }
    for (number, point) in AGENT.iter().enumerate() {
        let system = format!("strongroom-kill-agent-{number}");
        killed_token_goes_on(cluster, programs, &system, point)
            .with_context(|| (*point).to_owned())?;
    }
    Ok(())
}

fn killed_key_service_goes_on(
    cluster: &ScopedCluster,
    programs: &Programs,
    system: &str,
    point: &str,
) -> Result<()> {
    let mut place = Place::lay_out(cluster, system, 29320, programs)?;
    place.start(Program::HsmAgent, "")?;
    place.start(Program::KeyService, &format!("{point}=kill"))?;
    place.wait_says(Program::KeyService, 200, "awaiting init")?;
    let job = place.ask("60s")?;
    place.process(Program::KeyService)?.wait_killed()?;
    let begun = begun(&place)?;
    place.start(Program::KeyService, "")?;
    let said = granted(job.wait_with_output()?)?;
    ensure!(begun.is_none_or(|begun| said.contains(&begun)), "{said}");
    finished(place, &said)
}

/// The agent's child that makes the token is killed; the key service has it made once more.
fn killed_token_goes_on(
    cluster: &ScopedCluster,
    programs: &Programs,
    system: &str,
    point: &str,
) -> Result<()> {
    let mut place = Place::lay_out(cluster, system, 29320, programs)?;
    place.start(Program::HsmAgent, &format!("{point}=kill"))?;
    place.start(Program::KeyService, "")?;
    place.wait_says(Program::KeyService, 200, "awaiting init")?;
    let job = place.ask("60s")?;
    place.wait_says(Program::KeyService, 503, "init is not finished")?;
    place.start(Program::HsmAgent, "")?;
    let said = granted(job.wait_with_output()?)?;
    ensure!(said.starts_with("initialised\n"), "{said}");
    finished(place, &said)
}

fn finished(place: Place<'_>, said: &str) -> Result<()> {
    place.wait_serves()?;
    let instance = place.word(WITNESS, "instanceId")?;
    ensure!(said.contains(&instance), "{said}");
    place.clean_up()
}

/// The instance of an init that was begun and not finished.
fn begun(place: &Place<'_>) -> Result<Option<String>> {
    let path = place.installation.path("service/init-intent.json");
    if !path.exists() {
        return Ok(None);
    }
    let intent: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let instance = intent["instanceId"].as_str();
    Ok(Some(
        instance.context("the intent names an instance")?.to_owned(),
    ))
}
