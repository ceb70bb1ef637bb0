//! The key service's listeners under floods of those who are not let in, or not far: plugins are served all the same, and
//! neither the audit log nor the process grows by it.
#![forbid(unsafe_code)]

mod hostile;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    mtls::StoryClock,
    nodes::{clean_up, describe, enrol, invite, read_audit, stage_with},
    remote::{Remote, Ways},
    stage::Stage,
    usage::Usage,
    world::wait,
};
use strongroom_hack::installation::Program;

use self::hostile::{Crowd, HOLDER, TENANT};

/// How long the floods go on; ten minutes as `long_floods`.
const FLOOD: Duration = Duration::from_secs(if cfg!(feature = "long") { 600 } else { 6 });
/// Rounds of calls at least, however slow the machine is.
const ROUNDS: usize = 8;
/// What connections may take, at what each may hold, and what a machine's allocator keeps of it.
const GROWTH_MIB: u64 = 96;
/// What the log may get each second of one caller who is refused: ten records and one for the rest.
const RECORDS_PER_SECOND: u64 = 11;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn plugins_are_served_under_floods_of_anonymous_and_refused_calls() -> Result<()> {
    // Of a ring that does not exist: he is known, and may do nothing.
    let access = [TENANT, HOLDER].map(|name| {
        format!(
            "{{role: KeyEncrypter, certificate: {name}, ring: {:032x}}}",
            1
        )
    });
    let (mut stage, clock) = stage_with("floods", 24300, |settings| {
        settings.access = access.to_vec();
    })?;
    for name in [TENANT, HOLDER] {
        stage.installation.administrator(name)?;
    }
    let mut remote = Remote::lay_out(&stage.installation, "cp-2", 24310, Ways::default())?;
    enrol(&stage, &remote, &invite(&stage, "cp-2")?)?;
    remote.start(&stage.installation, "")?;
    remote.wait_ready()?;
    let service = stage.process(Program::KeyService)?.id();
    let before = Usage::of(service)?;

    let start = Instant::now();
    let crowd = Crowd::gather(&stage, &clock, &remote)?;
    let served = serve_through(&mut stage, &clock, &mut remote, start + FLOOD);
    let during = Usage::of(service)?;
    let refused = crowd.disperse();
    let took = start.elapsed();
    let (served, refused) = (served?, refused?);
    println!(
        "report: floods: {served} rounds of calls were served, {refused} were refused, in {took:.0?}"
    );

    check_records(&stage, refused, took)?;
    check_counters(&stage)?;
    wait(LIMIT, "connections of the floods are closed", || {
        Ok(Usage::of(service)?.descriptors <= before.descriptors + 8)
    })?;
    let after = Usage::of(service)?;
    println!("report: floods: before {before:?}, during {during:?}, after {after:?}");
    ensure!(during.descriptors < before.descriptors + hostile::HELD_MAX);
    ensure!(after.mib <= before.mib + GROWTH_MIB);
    stage.check_seeds()?;
    remote.kill();
    clean_up(stage, &clock)
}

/// Calls as API servers and administrators do; each must be answered well. Plugins keep deadlines of their own, within those
/// of kube-apiserver, and answer with an error when one has passed.
fn serve_through(
    stage: &mut Stage,
    clock: &StoryClock,
    remote: &mut Remote,
    end: Instant,
) -> Result<usize> {
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < end || rounds < ROUNDS {
        if rounds == ROUNDS / 2 {
            // Connections that were there before are not all that works.
            stage.start(Program::KmsPlugin, "")?;
            stage.wait_ready(Program::KmsPlugin)?;
            remote.start(&stage.installation, "")?;
            remote.wait_ready()?;
        }
        for plugin in [&stage.plugin, &remote.plugin] {
            let start = Instant::now();
            plugin.status().context("Status")?;
            let sealed = plugin.encrypt(&[7; 32]).context("Encrypt")?;
            ensure!(plugin.decrypt(&sealed).context("Decrypt")? == [7; 32]);
            slowest = slowest.max(start.elapsed());
        }
        describe(stage, clock).context("an administrator")?;
        rounds += 1;
        thread::sleep(Duration::from_millis(100));
    }
    println!("report: floods: the slowest Status, Encrypt and Decrypt took {slowest:.0?} together");
    Ok(rounds)
}

/// Every refused call of somebody who is known is accounted for, in few records; anonymous ones are in none.
fn check_records(stage: &Stage, refused: u64, took: Duration) -> Result<()> {
    let caller = format!("certificate:{TENANT}#");
    let accounted = || {
        let (mut records, mut calls) = (0, 0);
        for line in read_audit(stage)?.lines() {
            let Ok(record) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if !record["caller"]
                .as_str()
                .unwrap_or_default()
                .starts_with(&caller)
            {
                continue;
            }
            records += 1;
            calls += record["folded"]["count"].as_u64().unwrap_or(1);
        }
        anyhow::Ok((records, calls))
    };
    wait(LIMIT, "every refusal is accounted for", || {
        let (_, calls) = accounted()?;
        ensure!(calls == refused, "{calls} of {refused}");
        Ok(true)
    })?;
    let (records, _) = accounted()?;
    println!("report: floods: {refused} refusals of one caller are {records} records");
    ensure!(
        records <= RECORDS_PER_SECOND * (took.as_secs() + 2),
        "{records}"
    );
    ensure!(refused > 2 * records, "{refused} refusals were no flood");
    Ok(())
}

/// Whoever was turned away before he was known is a number.
fn check_counters(stage: &Stage) -> Result<()> {
    let metrics = stage
        .installation
        .probe(Program::KeyService, "/metrics")?
        .body;
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let count = line.and_then(|count| count.trim().parse::<u64>().ok());
        count.with_context(|| format!("no {name}"))
    };
    for name in [
        "strongroom_tls_connections_refused_total{reason=\"handshake\"}",
        "strongroom_tls_connections_refused_total{reason=\"handshakes\"}",
        "strongroom_tls_connections_refused_total{reason=\"certificate\"}",
        "strongroom_plugins_connections_refused_total{reason=\"rate\"}",
        "strongroom_plugins_connections_refused_total{reason=\"handshake\"}",
        "strongroom_plugins_connections_refused_total{reason=\"certificate\"}",
        "strongroom_kms_socket_peers_refused",
    ] {
        ensure!(count(name)? > 0, "{name} is 0");
    }
    Ok(())
}
