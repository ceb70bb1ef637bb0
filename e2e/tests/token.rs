//! What a token sees and what a sick one does, with a PKCS#11 module in front of SoftHSM that counts and fails calls.
#![forbid(unsafe_code)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use strongroom_e2e::{stage::Stage, world::wait};
use strongroom_hack::{
    installation::{AGENT_UID, Program, Settings},
    programs::Build,
    shim::{Call, Shim},
};

/// `CKR_DEVICE_REMOVED`.
const DEVICE_REMOVED: u64 = 0x32;
/// What a worker asks of a token that it has, so what a token that is gone refuses.
const NEEDS_THE_TOKEN: [Call; 6] = [
    Call::OpenSession,
    Call::Login,
    Call::GetTokenInfo,
    Call::EncryptInit,
    Call::DecryptInit,
    Call::SignInit,
];
const LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_wrong_pin_is_tried_once_in_fifty_starts() -> Result<()> {
    let (mut stage, shim) = lay_out("token-pin", 27300, |_| {})?;
    stage.installation.init(Program::HsmAgent)?;
    let pin = stage.installation.path("agent/pin");
    let right = fs::read(&pin)?;
    let logins = || shim.steering.count(Call::Login);

    let before = logins()?;
    replace(&pin, b"000000000000")?;
    for _ in 0..50 {
        start_refused(&mut stage)?;
    }
    ensure!(
        logins()? == before + 1,
        "{} logins with a wrong PIN",
        logins()? - before
    );

    replace(&pin, b"111111111111")?;
    for _ in 0..3 {
        start_refused(&mut stage)?;
    }
    ensure!(
        logins()? == before + 2,
        "a replaced PIN file was not tried once"
    );

    replace(&pin, &right)?;
    stage.bring_up_made()?;
    stage.check_seeds()?;
    stage.clean_up()
}

#[test]
fn a_token_that_is_gone_is_missed_after_the_bound_and_used_at_once_when_it_returns() -> Result<()> {
    let bound = Duration::from_secs(10);
    let (mut stage, shim) = lay_out("token-gone", 27310, |settings| {
        settings.kek_cache_ttl = "10s".to_owned();
    })?;
    stage.bring_up()?;
    let key_id = stage.plugin.status()?.key_id;

    let gone = Instant::now();
    answer(&shim, DEVICE_REMOVED)?;
    // Refreshed every 2.5 s, so up to that much of the bound had passed before.
    while gone.elapsed() < bound - Duration::from_secs(4) {
        stage.seal()?;
        stage.check_seeds()?;
        thread::sleep(Duration::from_millis(200));
    }
    wait(LIMIT, "the bound ends service", || {
        Ok(stage.plugin.encrypt(&[0; 32]).is_err() && stage.plugin.status().is_err())
    })?;
    wait(LIMIT, "readiness names the token", || {
        let answer = stage.installation.probe(Program::KeyService, "/readyz")?;
        Ok(answer.status != 200 && answer.body.contains("hsm"))
    })?;

    answer(&shim, 0)?;
    let returned = Instant::now();
    wait(LIMIT, "the plugin serves again", || {
        Ok(stage.plugin.status().is_ok() && stage.plugin.encrypt(&[0; 32]).is_ok())
    })?;
    eprintln!("served {:?} after the token's return", returned.elapsed());
    ensure!(returned.elapsed() < Duration::from_secs(5));
    stage.wait_ready(Program::KeyService)?;
    stage.check_seeds()?;
    ensure!(stage.plugin.status()?.key_id == key_id);
    stage.clean_up()
}

fn lay_out(
    name: &str,
    first_port: u16,
    change: impl FnOnce(&mut Settings),
) -> Result<(Stage, Shim)> {
    let stage = Stage::lay_out(name, first_port, Build::Plain, |settings| {
        settings.module = settings.root.join("etc/pkcs11-shim.so");
        change(settings);
    })?;
    let shim = Shim::place(&stage.installation.path("etc"))?;
    Ok((stage, shim))
}

/// Starts the agent, sees it name the PIN, and kills it, as a container that is restarted for ever.
fn start_refused(stage: &mut Stage) -> Result<()> {
    stage.start(Program::HsmAgent, "")?;
    stage.wait_answering(Program::HsmAgent)?;
    wait(LIMIT, "readiness names the PIN", || {
        let answer = stage.installation.probe(Program::HsmAgent, "/readyz")?;
        Ok(answer.status != 200 && answer.body.contains("PIN"))
    })?;
    stage
        .process(Program::HsmAgent)?
        .end(Signal::KILL, END_LIMIT)?;
    Ok(())
}

/// Replaces the file by another one, as people and volumes do.
fn replace(pin: &PathBuf, content: &[u8]) -> Result<()> {
    let next = pin.with_extension("next");
    fs::write(&next, content)?;
    fs::set_permissions(&next, Permissions::from_mode(0o600))?;
    chown(&next, Some(AGENT_UID), Some(AGENT_UID))?;
    Ok(fs::rename(next, pin)?)
}

fn answer(shim: &Shim, value: u64) -> Result<()> {
    for call in NEEDS_THE_TOKEN {
        shim.steering.answer(call, value)?;
    }
    Ok(())
}
