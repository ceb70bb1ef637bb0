//! The plugin's socket under hostile clients and for long: limits hold, the API server is served, nothing grows.
#![forbid(unsafe_code)]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_api::kubernetes::kms::v2::{
    EncryptRequest, StatusRequest, key_management_service_client::KeyManagementServiceClient,
};
use strongroom_e2e::{plugin::Plugin, stage::Stage, usage::Usage, world::World};
use strongroom_hack::{
    cluster::{Health, Release},
    installation::{PLUGIN_UID, Program},
    programs::Build,
    shim::{Call, Shim},
};
use strongroom_runtime::socket;
use tonic::Code;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const FLOOD: Duration = Duration::from_secs(30);
const STREAMS: usize = 1_000;
const SLOW_READERS: usize = 200;
const OVERSIZED: usize = 8 * 1024 * 1024;

const SOAK: Duration = Duration::from_secs(600);
const STATUS_PER_MINUTE: u32 = 10_000;
const SEEDS_PER_MINUTE: u32 = 1_000;
const GROWTH_MIB: u64 = 8;

#[test]
fn hostile_clients_do_not_keep_the_api_server_waiting() -> Result<()> {
    let world = World::start("socket-flood", 27600, Release::Newest)?;
    world.encrypt_secrets()?;
    world.create_secret("before", "flood")?;
    let socket = world.installation.plugin_socket();
    let plugin = world.installation.process(Program::KmsPlugin)?;
    let before = Usage::of(plugin.id())?;
    let end = Instant::now() + FLOOD;
    thread::scope(|scope| -> Result<()> {
        let floods = [
            scope.spawn(|| random_bytes(&socket, end)),
            scope.spawn(|| oversized_messages(&socket, end)),
            scope.spawn(|| many_streams(&socket, end)),
            scope.spawn(|| slow_readers(&socket, end)),
        ];
        let mut written = 0;
        while Instant::now() < end {
            world.create_secret(&format!("during-{written}"), "flood")?;
            ensure!(world.cluster.get("/readyz/kms-providers").is_ok());
            written += 1;
            thread::sleep(Duration::from_millis(200));
        }
        println!("report: flood: {written} Secrets were written during the flood");
        world.cluster.restart_api_server(Health::Ready)?;
        ensure!(world.secret("before")? == "flood");
        for flood in floods {
            flood.join().ok().context("a flood panicked")??;
        }
        Ok(())
    })?;
    // Connections of the flood are gone a moment after their ends.
    thread::sleep(Duration::from_secs(2));
    let after = Usage::of(plugin.id())?;
    println!("report: flood: before {before:?}, after {after:?}");
    ensure!(after.descriptors <= before.descriptors + 8);
    ensure!(after.mib <= before.mib + 4 * GROWTH_MIB);
    world.clean_up()
}

#[test]
fn ten_minutes_of_calls_leave_nothing_behind() -> Result<()> {
    // Latencies are measured, so that it is what users run.
    let mut stage = Stage::lay_out("socket-soak", 27620, Build::Release, |settings| {
        settings.module = settings.root.join("etc/pkcs11-shim.so");
        settings.kek_cache_ttl = "1m".to_owned();
        settings.audit_capacity_mib = 256;
    })?;
    let shim = Shim::place(&stage.installation.path("etc"))?;
    stage.bring_up()?;
    call_for(&stage, Duration::from_secs(30))?;
    let before = usages(&mut stage)?;
    let sessions = shim.steering.count(Call::OpenSession)?;
    let asked = shim.steering.count(Call::Decrypt)?;

    let mut latencies = call_for(&stage, SOAK)?;

    let after = usages(&mut stage)?;
    for ((program, before), (_, after)) in before.iter().zip(&after) {
        println!("report: soak: {}: {before:?} -> {after:?}", program.name());
        ensure!(after.mib <= before.mib + GROWTH_MIB);
        ensure!(after.descriptors <= before.descriptors + 4);
    }
    ensure!(shim.steering.count(Call::OpenSession)? == sessions);
    ensure!(shim.steering.count(Call::Decrypt)? > asked);
    // The aims are 5 ms and 10 ms; what is asserted leaves room for machines that do other things too.
    ensure!(latencies.p99("Status", &[0]) < Duration::from_millis(50));
    ensure!(latencies.p99("Encrypt and Decrypt", &[1, 2]) < Duration::from_millis(100));
    stage.check_seeds()?;
    stage.clean_up()
}

fn random_bytes(socket: &Path, end: Instant) -> Result<()> {
    let mut bytes = vec![0; 4096];
    let mut with_preface = false;
    while Instant::now() < end {
        aws_lc_rs::rand::fill(&mut bytes)?;
        let mut stream = UnixStream::connect(socket)?;
        with_preface = !with_preface;
        let sent = if with_preface {
            [PREFACE, &bytes].concat()
        } else {
            bytes.clone()
        };
        // The plugin may hang up in the middle.
        let _ = stream.write_all(&sent);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    Ok(())
}

fn oversized_messages(socket: &Path, end: Instant) -> Result<()> {
    block_on(async {
        while Instant::now() < end {
            let mut client = KeyManagementServiceClient::new(socket::channel(socket, PLUGIN_UID));
            let request = EncryptRequest {
                plaintext: vec![0; OVERSIZED],
                uid: "flood".to_owned(),
            };
            let refused = client.encrypt(request).await;
            ensure!(refused.is_err(), "8 MiB were taken");
        }
        Ok(())
    })
}

fn many_streams(socket: &Path, end: Instant) -> Result<()> {
    block_on(async {
        while Instant::now() < end {
            let client = KeyManagementServiceClient::new(socket::channel(socket, PLUGIN_UID));
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..STREAMS {
                let mut client = client.clone();
                calls.spawn(async move { client.status(StatusRequest {}).await });
            }
            while let Some(answer) = calls.join_next().await {
                if let Err(error) = answer? {
                    ensure!(error.code() == Code::ResourceExhausted, "{error}");
                }
            }
        }
        Ok(())
    })
}

/// Clients that begin, send what they must, and then neither read nor write.
fn slow_readers(socket: &Path, end: Instant) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..SLOW_READERS {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(&[PREFACE, SETTINGS].concat())?;
        held.push(stream);
    }
    thread::sleep(end.saturating_duration_since(Instant::now()));
    drop(held);
    Ok(())
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// How long the calls took, by kind: Status, Encrypt, Decrypt.
#[derive(Default)]
struct Latencies([Vec<Duration>; 3]);

impl Latencies {
    fn p99(&mut self, what: &str, kinds: &[usize]) -> Duration {
        let mut worst = Duration::ZERO;
        for kind in kinds {
            let sorted = &mut self.0[*kind];
            sorted.sort_unstable();
            let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
            println!(
                "report: soak: {what} ({} calls): P50 {:?}, P99 {:?}",
                sorted.len(),
                at(50),
                at(99)
            );
            worst = worst.max(at(99));
        }
        worst
    }
}

/// Calls as often as the API servers of a big cluster do not.
fn call_for(stage: &Stage, span: Duration) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let plugin = Plugin::new(&stage.installation)?;
    let start = Instant::now();
    let pause = Duration::from_secs(60) / STATUS_PER_MINUTE;
    let seeds_every = STATUS_PER_MINUTE / SEEDS_PER_MINUTE;
    let mut calls = 0;
    while start.elapsed() < span {
        timed(&mut latencies.0[0], || plugin.status().map(drop))?;
        if calls % seeds_every == 0 {
            let mut sealed = None;
            timed(&mut latencies.0[1], || {
                sealed = Some(plugin.encrypt(&[7; 32])?);
                Ok(())
            })?;
            let sealed = sealed.context("it was sealed")?;
            timed(&mut latencies.0[2], || plugin.decrypt(&sealed).map(drop))?;
        }
        calls += 1;
        thread::sleep((pause * calls).saturating_sub(start.elapsed()));
    }
    Ok(latencies)
}

fn timed(into: &mut Vec<Duration>, call: impl FnOnce() -> Result<(), tonic::Status>) -> Result<()> {
    let start = Instant::now();
    call()?;
    into.push(start.elapsed());
    Ok(())
}

fn usages(stage: &mut Stage) -> Result<Vec<(Program, Usage)>> {
    let mut usages = Vec::new();
    for program in Program::ALL {
        let id = stage.process(program)?.id();
        usages.push((program, Usage::of(id)?));
    }
    Ok(usages)
}
