//! What the API server sees when a part is away for long: readiness tells at once, cached reads go on, writes stop within
//! minutes, and everything comes back by itself under the same key id.
#![forbid(unsafe_code)]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{ChangeVersionRequest, DescribeInstanceRequest};
use strongroom_e2e::{
    envelope,
    native::Native,
    world::{World, wait},
};
use strongroom_hack::{cluster::Release, installation::Program};

const NOT_READY_LIMIT: Duration = Duration::from_secs(30);
const WRITES_STOP_LIMIT: Duration = Duration::from_secs(240);
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn key_service_is_away() -> Result<()> {
    let mut world = encrypted("outage-service", 26000, "12h")?;
    world.installation.stop(Program::KeyService)?;
    outage(&world, "service")?;
    world.installation.start(Program::KeyService, &[])?;
    recovery(&world, "service")?;
    world.clean_up()
}

#[test]
fn key_is_disabled() -> Result<()> {
    let world = encrypted("outage-disabled", 26020, "12h")?;
    set_enabled(&world, Key::Disabled)?;
    outage(&world, "disabled")?;
    set_enabled(&world, Key::Enabled)?;
    recovery(&world, "disabled")?;
    world.clean_up()
}

#[test]
fn agent_is_away_for_longer_than_the_bound() -> Result<()> {
    let mut world = encrypted("outage-agent", 26040, "1m")?;
    world.installation.stop(Program::HsmAgent)?;
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(40) {
        ensure!(
            is_ready(&world),
            "within the bound nothing fails: {:?}",
            stopped.elapsed()
        );
        world.create_secret(&format!("within-{}", stopped.elapsed().as_millis()), "x")?;
        thread::sleep(Duration::from_secs(5));
    }
    thread::sleep(Duration::from_secs(61).saturating_sub(stopped.elapsed()));
    outage(&world, "agent")?;
    world.installation.start(Program::HsmAgent, &[])?;
    recovery(&world, "agent")?;
    world.clean_up()
}

fn encrypted(name: &str, port: u16, kek_cache_ttl: &str) -> Result<World> {
    let world = World::start_with(name, port, Release::Newest, |settings| {
        settings.kek_cache_ttl = kek_cache_ttl.to_owned();
    })?;
    world.encrypt_secrets()?;
    world.create_secret("cached", "still-here")?;
    Ok(world)
}

fn is_ready(world: &World) -> bool {
    world.cluster.get("/readyz/kms-providers").is_ok()
}

fn outage(world: &World, what: &str) -> Result<()> {
    let start = Instant::now();
    wait(NOT_READY_LIMIT, "readiness tells of the outage", || {
        Ok(!is_ready(world))
    })?;
    println!(
        "report: {what}: not ready after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    wait(WRITES_STOP_LIMIT, "writes stop", || {
        ensure!(
            world.secret("cached")? == "still-here",
            "a cached read failed"
        );
        let name = format!("late-{}", start.elapsed().as_millis());
        Ok(world.create_secret(&name, "x").is_err())
    })?;
    println!(
        "report: {what}: writes stopped after {:.0} s",
        start.elapsed().as_secs_f64()
    );
    ensure!(
        world.secret("cached")? == "still-here",
        "cached reads go on after writes have stopped"
    );
    ensure!(
        world.cluster.get("/livez").is_ok(),
        "the API server stays alive"
    );
    Ok(())
}

fn recovery(world: &World, what: &str) -> Result<()> {
    let before = envelope::parse(&world.raw_secret("cached")?)?.key_id;
    let start = Instant::now();
    wait(RECOVERY_LIMIT, "everything is back", || {
        let name = format!("back-{}", start.elapsed().as_millis());
        world.create_secret(&name, "x")?;
        let after = envelope::parse(&world.raw_secret(&name)?)?.key_id;
        ensure!(after == before, "another key id after the outage");
        Ok(is_ready(world))
    })?;
    println!(
        "report: {what}: back after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

enum Key {
    Enabled,
    Disabled,
}

fn set_enabled(world: &World, key: Key) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let native = Native::connect(&world.installation, "administrator").await?;
        let instance = native
            .instance()
            .describe(DescribeInstanceRequest {})
            .await?
            .into_inner();
        let request = ChangeVersionRequest {
            ring_id: instance.system_ring_id,
            key: instance.etcd_key_id,
            etag: String::new(),
            version: "1.1".to_owned(),
        };
        match key {
            Key::Enabled => native.keys().enable_version(request).await?,
            Key::Disabled => native.keys().disable_version(request).await?,
        };
        Ok(())
    })
}
