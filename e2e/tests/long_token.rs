//! A token that is slow or away for long, under load: the API server's questions are answered from memory, nothing piles
//! up, and within the bound nobody notices.
#![forbid(unsafe_code)]

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{plugin::Plugin, stage::Stage, world::wait};
use strongroom_hack::{
    installation::{Installation, Program},
    programs::Build,
    shim::{Call, Shim},
};

/// `CKR_DEVICE_REMOVED`.
const DEVICE_REMOVED: u64 = 0x32;
const CALLERS: usize = 16;
/// Longer than two refreshes of a bound of one minute.
const SLOW_FOR: Duration = Duration::from_secs(40);
const GONE_FOR: Duration = Duration::from_secs(600);
const STATUS_LIMIT: Duration = Duration::from_millis(50);
const RETURN_LIMIT: Duration = Duration::from_secs(5);
const GROWTH_MIB: u64 = 8;
/// The timeout of a KMS call that kube-apiserver's configuration has by default.
const API_SERVER_PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn a_slow_token_is_not_noticed_by_the_api_server() -> Result<()> {
    let (mut stage, shim) = lay_out("token-slow", 27400, "1m")?;
    stage.bring_up()?;
    // Buffers of the first calls are not growth.
    under_load(&stage.installation, Duration::from_secs(5))?;
    let before = Footprint::of(&mut stage)?;
    for delay in [Duration::from_secs(2), Duration::from_secs(5)] {
        let asked = shim.steering.count(Call::Decrypt)?;
        for call in Call::ALL {
            shim.steering.delay(*call, Duration::ZERO)?;
        }
        for call in [Call::Decrypt, Call::Sign, Call::GetTokenInfo] {
            shim.steering.delay(call, delay)?;
        }
        let seen = under_load(&stage.installation, SLOW_FOR)?;
        println!(
            "report: HSM slow by {delay:?}: {} calls, {} failed, Status P50 {:?}, max {:?}",
            seen.calls,
            seen.failed,
            seen.status(50),
            seen.status(100)
        );
        ensure!(
            shim.steering.count(Call::Decrypt)? > asked,
            "nobody asked the slow token"
        );
        ensure!(seen.failed == 0, "{} calls failed", seen.failed);
        ensure!(seen.status(50) < STATUS_LIMIT, "{:?}", seen.status(50));
    }
    let after = Footprint::of(&mut stage)?;
    println!("report: all programs together: before {before:?}, after {after:?}");
    ensure!(after.mib <= before.mib + GROWTH_MIB);
    ensure!(after.threads <= before.threads + 4);
    stage.check_seeds()?;
    stage.clean_up()
}

#[test]
fn a_token_slower_than_every_deadline_holds_nobody_up() -> Result<()> {
    let (mut stage, shim) = lay_out("token-stuck", 27420, "10s")?;
    stage.bring_up()?;
    under_load(&stage.installation, Duration::from_secs(2))?;
    let before = Footprint::of(&mut stage)?;
    shim.steering
        .delay(Call::Decrypt, Duration::from_secs(15))?;
    wait(Duration::from_secs(60), "the bound ends service", || {
        Ok(stage.plugin.encrypt(&[0; 32]).is_err())
    })?;
    let seen = under_load(&stage.installation, Duration::from_secs(30))?;
    let after = Footprint::of(&mut stage)?;
    println!(
        "report: HSM stuck: {} calls, {} failed, the longest took {:?}, Status max {:?}; before {before:?}, after {after:?}",
        seen.calls,
        seen.failed,
        seen.longest,
        seen.status(100)
    );
    ensure!(seen.failed > 0, "somebody gave a KEK");
    ensure!(seen.longest < API_SERVER_PATIENCE, "{:?}", seen.longest);
    ensure!(after.mib <= before.mib + GROWTH_MIB);
    ensure!(after.threads <= before.threads + 4);
    shim.steering.delay(Call::Decrypt, Duration::ZERO)?;
    wait(Duration::from_secs(60), "the plugin serves again", || {
        Ok(stage.plugin.encrypt(&[0; 32]).is_ok())
    })?;
    stage.check_seeds()?;
    stage.clean_up()
}

#[test]
fn within_the_bound_nobody_notices_that_the_token_is_gone() -> Result<()> {
    let (mut stage, shim) = lay_out("token-away", 27410, "12h")?;
    stage.bring_up()?;
    let key_id = stage.plugin.status()?.key_id;
    let gone = Instant::now();
    answer(&shim, DEVICE_REMOVED)?;
    while gone.elapsed() < GONE_FOR {
        stage.seal()?;
        ensure!(stage.plugin.status()?.key_id == key_id);
        thread::sleep(Duration::from_secs(1));
    }
    stage.check_seeds()?;
    wait(RETURN_LIMIT, "the agent names its token", || {
        let answer = stage.installation.probe(Program::HsmAgent, "/readyz")?;
        Ok(answer.status != 200)
    })?;
    answer(&shim, 0)?;
    let returned = Instant::now();
    stage.wait_ready(Program::HsmAgent)?;
    println!(
        "report: the agent was ready {:?} after the return",
        returned.elapsed()
    );
    ensure!(returned.elapsed() < RETURN_LIMIT);
    stage.rotate()?;
    stage.seal()?;
    stage.check_seeds()?;
    stage.clean_up()
}

fn lay_out(name: &str, first_port: u16, bound: &str) -> Result<(Stage, Shim)> {
    let stage = Stage::lay_out(name, first_port, Build::Plain, |settings| {
        settings.module = settings.root.join("etc/pkcs11-shim.so");
        bound.clone_into(&mut settings.kek_cache_ttl);
    })?;
    let shim = Shim::place(&stage.installation.path("etc"))?;
    Ok((stage, shim))
}

fn answer(shim: &Shim, value: u64) -> Result<()> {
    for call in [
        Call::OpenSession,
        Call::Login,
        Call::GetTokenInfo,
        Call::EncryptInit,
        Call::DecryptInit,
        Call::SignInit,
    ] {
        shim.steering.answer(call, value)?;
    }
    Ok(())
}

/// What callers saw.
struct Seen {
    calls: u64,
    failed: u64,
    longest: Duration,
    status: Vec<Duration>,
}

impl Seen {
    fn status(&self, percent: usize) -> Duration {
        self.status[(self.status.len() - 1) * percent / 100]
    }
}

/// Seals and opens with many callers, and asks for the status every 50 ms.
fn under_load(installation: &Installation, span: Duration) -> Result<Seen> {
    let (stop, calls, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let longest = AtomicU64::new(0);
    let mut status = Vec::new();
    thread::scope(|scope| -> Result<()> {
        for _ in 0..CALLERS {
            scope.spawn(|| -> Result<()> {
                let plugin = Plugin::new(installation)?;
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let sealed = plugin.encrypt(&[7; 32]);
                    let took = u64::try_from(asked.elapsed().as_millis())?;
                    longest.fetch_max(took, Ordering::Relaxed);
                    let opened = sealed.and_then(|sealed| plugin.decrypt(&sealed));
                    calls.fetch_add(1, Ordering::Relaxed);
                    if opened.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            });
        }
        let (plugin, start) = (Plugin::new(installation)?, Instant::now());
        while start.elapsed() < span {
            let asked = Instant::now();
            let answered = plugin.status();
            status.push(asked.elapsed());
            if answered.is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    status.sort_unstable();
    Ok(Seen {
        calls: calls.into_inner(),
        failed: failed.into_inner(),
        longest: Duration::from_millis(longest.into_inner()),
        status,
    })
}

/// Memory and threads of the three programs together.
#[derive(Debug)]
struct Footprint {
    mib: u64,
    threads: u64,
}

impl Footprint {
    fn of(stage: &mut Stage) -> Result<Self> {
        let mut footprint = Self { mib: 0, threads: 0 };
        for program in Program::ALL {
            let id = stage.process(program)?.id();
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            footprint.mib += number(&status, "VmRSS:")? / 1024;
            footprint.threads += number(&status, "Threads:")?;
        }
        Ok(footprint)
    }
}

fn number(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.context("the kernel tells it")?.parse()?)
}
