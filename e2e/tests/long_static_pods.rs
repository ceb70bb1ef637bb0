//! The programs as static pods: killed again and again, under a kubelet and a containerd that restart, and late at boot,
//! like the disks that they need.
#![forbid(unsafe_code)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    control_plane::ControlPlane,
    late::{BEFORE, LateDisk, LatePod, Made, Named, PROGRAMS, STATE, wait_all_ready, wait_ready},
    world::wait,
};
use strongroom_hack::cluster::{Health, Process};

const KILLS: usize = 20;
const RESTARTS: usize = 5;
/// How long what was killed may take to be well again, on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(120);
const PLUGIN_LATE: Duration = Duration::from_secs(120);
const SERVED_AFTER_PLUGIN: Duration = Duration::from_secs(15);
/// kube-apiserver's gRPC client tries to connect ever more rarely while nobody listens, in the end every 120 s ± 20 %, and
/// asks for the status every 10 s.
const SERVED_AFTER_SOCKET: Duration = Duration::from_secs(160);
/// Its informers try to list what they could not every 30 to 60 s.
const READY_AFTER_SOCKET: Duration = Duration::from_secs(240);
/// How long the others are late: many looks, and many times the pause with which a kubelet restarts what has ended.
const LATE: Duration = Duration::from_secs(20);

#[test]
fn killed_pods_and_restarted_kubelets_lose_no_write() -> Result<()> {
    let control_plane = ControlPlane::bootstrapped("e2e-pods", &[])?;
    let mut story = Kills {
        control_plane: &control_plane,
        written: Vec::new(),
    };
    for program in PROGRAMS {
        story.kill(program)?;
    }
    story.restart_kubelet_and_containerd()?;
    println!(
        "report: static pods: {} Secrets were written meanwhile, and all are read",
        story.written.len()
    );
    Ok(())
}

struct Kills<'a> {
    control_plane: &'a ControlPlane,
    written: Vec<String>,
}

impl Kills<'_> {
    fn kill(&mut self, program: &str) -> Result<()> {
        let start = Instant::now();
        for _ in 0..KILLS {
            let killed = self.control_plane.process(program)?;
            killed.kill()?;
            self.write(program)?;
            wait(LIMIT, &format!("{program} runs again"), || {
                Ok(self.control_plane.process(program)? != killed)
            })?;
        }
        wait_all_ready(self.control_plane)?;
        println!(
            "report: static pods: {program}: {KILLS} kills under a kubelet, all well after {:.0} s",
            start.elapsed().as_secs_f64()
        );
        self.check()
    }

    fn restart_kubelet_and_containerd(&mut self) -> Result<()> {
        let node = self.control_plane.node()?;
        for _ in 0..RESTARTS {
            node.restart_kubelet()?;
            self.write("kubelet")?;
            node.restart_containerd()?;
            self.write("containerd")?;
        }
        wait_all_ready(self.control_plane)?;
        self.check()
    }

    fn write(&mut self, what: &str) -> Result<()> {
        let name = format!("{what}-{}", self.written.len());
        self.control_plane.create_secret(&name)?;
        self.written.push(name);
        Ok(())
    }

    /// With nothing left in its memory, the API server reads all that was written through sockets that are in use.
    fn check(&self) -> Result<()> {
        let node = self.control_plane.node()?;
        node.restart_api_server(Health::Ready)?;
        for name in &self.written {
            self.control_plane.check_secret(name)?;
        }
        for folder in ["hsm", "kms", "key-service", "apiserver"] {
            let folder = node.on_disk(&format!("{STATE}/sockets/{folder}"));
            let sockets = fs::read_dir(&folder)?.count();
            ensure!(sockets == 1, "{sockets} files in {}", folder.display());
        }
        Ok(())
    }
}

#[test]
fn late_pods_are_waited_for_by_name_and_nothing_is_made_anew() -> Result<()> {
    let control_plane = ControlPlane::bootstrapped("e2e-late-pods", &[])?;
    let made = Made::begin(&control_plane)?;
    for (program, named) in [
        (
            "key-service",
            Named::of("kms-plugin", "key-service: ", "the key service"),
        ),
        (
            "hsm-agent",
            Named::of("key-service", "hsm: ", "nobody answers on"),
        ),
    ] {
        pod_is_late(&control_plane, program, &named)?;
        made.check(&control_plane)?;
    }
    Ok(())
}

#[test]
fn late_disks_are_waited_for_by_name_and_nothing_is_made_anew() -> Result<()> {
    let control_plane = ControlPlane::bootstrapped("e2e-late-disks", &[])?;
    let made = Made::begin(&control_plane)?;
    for (folder, named) in [
        (
            "audit",
            Named::of(
                "key-service",
                "audit: ",
                "holds no audit log: mount its disk",
            ),
        ),
        (
            "key-service",
            Named::of("key-service", "store: ", "holds nothing of an instance"),
        ),
        (
            "hsm-agent",
            Named::of("hsm-agent", "token: ", "the folder of tokens"),
        ),
    ] {
        disk_is_late(&control_plane, folder, &named)?;
        made.check(&control_plane)?;
    }
    Ok(())
}

#[test]
fn api_server_lives_without_a_plugin_and_serves_secrets_soon_after_it() -> Result<()> {
    let control_plane = ControlPlane::bootstrapped("e2e-late-plugin", &[])?;
    let made = Made::begin(&control_plane)?;
    plugin_is_late(&control_plane)?;
    made.check(&control_plane)?;
    socket_is_late(&control_plane)?;
    made.check(&control_plane)
}

/// The plugin listens, and cannot serve for two minutes.
fn plugin_is_late(control_plane: &ControlPlane) -> Result<()> {
    let disk = LateDisk::boot_without(control_plane, "kms-plugin")?;
    let named = Named::of("kms-plugin", "state: ", "mount the volume of the state");
    let waiting = Waiting::begin(control_plane, PROGRAMS, &named)?;
    let api_server = waiting_api_server(control_plane)?;
    disk.mount(control_plane)?;
    let served = until_served(control_plane, api_server, "a plugin that listened")?;
    ensure!(served < SERVED_AFTER_PLUGIN, "after {served:?} only");
    waiting.end(control_plane)?;
    disk.put_back(control_plane)?;
    wait_all_ready(control_plane)
}

/// Nobody listens for two minutes.
fn socket_is_late(control_plane: &ControlPlane) -> Result<()> {
    let pod = LatePod::boot_without(control_plane, "kms-plugin")?;
    let api_server = waiting_api_server(control_plane)?;
    pod.arrive()?;
    let served = until_served(control_plane, api_server, "a plugin that did not run")?;
    ensure!(served < SERVED_AFTER_SOCKET, "after {served:?} only");
    Ok(())
}

/// The API server, which lives for as long as the plugin is late and is not ready.
fn waiting_api_server(control_plane: &ControlPlane) -> Result<Process> {
    let node = control_plane.node()?;
    let api_server = node.member("kube-apiserver")?.context("no API server")?;
    thread::sleep(PLUGIN_LATE);
    ensure!(api_server.is_alive(), "the API server ended");
    ensure!(node.get("/readyz").is_err(), "it was ready");
    Ok(api_server)
}

/// Tells how long it takes from a plugin that is ready until the same API server reads and writes Secrets. Its `/readyz` comes
/// later: its informers, which could not list Secrets, try again at their own pace.
fn until_served(
    control_plane: &ControlPlane,
    api_server: Process,
    plugin: &str,
) -> Result<Duration> {
    let node = control_plane.node()?;
    wait_ready(control_plane, "kms-plugin")?;
    let start = Instant::now();
    wait(
        SERVED_AFTER_SOCKET,
        "the API server uses the plugin",
        || node.get("/readyz/kms-providers").map(|_| true),
    )?;
    control_plane.check_secret(BEFORE)?;
    let served = start.elapsed();
    control_plane.create_secret(&format!("after-{}", api_server.id()))?;
    let mut missing = String::new();
    while let Err(error) = node.get("/readyz?verbose") {
        ensure!(start.elapsed() < READY_AFTER_SOCKET, "{error:#}");
        missing = failed_checks(&format!("{error:#}"));
        thread::sleep(Duration::from_millis(500));
    }
    println!(
        "report: late: after {plugin} for {PLUGIN_LATE:?} the API server served Secrets in {:.1} s and was ready in {:.1} s \
         (last: {missing})",
        served.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    ensure!(api_server.is_alive(), "the API server ended");
    Ok(served)
}

fn failed_checks(verbose: &str) -> String {
    let failed = verbose.split("[-]").skip(1);
    let names: Vec<&str> = failed.filter_map(|rest| rest.split(' ').next()).collect();
    names.join(", ")
}

fn pod_is_late(control_plane: &ControlPlane, program: &str, named: &Named) -> Result<()> {
    let pod = LatePod::boot_without(control_plane, program)?;
    let others = PROGRAMS.into_iter().filter(|other| *other != program);
    let waiting = Waiting::begin(control_plane, others, named)
        .with_context(|| format!("{program} is late"))?;
    let start = Instant::now();
    pod.arrive()?;
    waiting.end(control_plane)?;
    println!(
        "report: late: all were ready {:.1} s after the manifest of {program}, which was late",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The disk of a folder of ours is mounted after everything runs.
fn disk_is_late(control_plane: &ControlPlane, folder: &str, named: &Named) -> Result<()> {
    let disk = LateDisk::boot_without(control_plane, folder)?;
    let waiting = Waiting::begin(control_plane, PROGRAMS, named)
        .with_context(|| format!("the disk of {folder} is late"))?;
    let start = Instant::now();
    disk.mount(control_plane)?;
    waiting.end(control_plane)?;
    println!(
        "report: late: all were ready {:.1} s after the disk of {folder}, which was late",
        start.elapsed().as_secs_f64()
    );
    disk.put_back(control_plane)?;
    wait_all_ready(control_plane)
}

/// The processes that wait; none of them may end.
struct Waiting(Vec<(&'static str, Process)>);

impl Waiting {
    /// Waits until what is late is named, and a while longer.
    fn begin(
        control_plane: &ControlPlane,
        programs: impl IntoIterator<Item = &'static str>,
        named: &Named,
    ) -> Result<Self> {
        wait(LIMIT, "what is late is named", || {
            named.is_said(control_plane)
        })?;
        let processes: Result<Vec<_>> = programs
            .into_iter()
            .map(|program| Ok((program, control_plane.process(program)?)))
            .collect();
        let waiting = Self(processes?);
        thread::sleep(LATE);
        waiting.check(control_plane)?;
        named.is_said(control_plane)?;
        Ok(waiting)
    }

    /// What was late is here: everything becomes ready, and without another start.
    fn end(self, control_plane: &ControlPlane) -> Result<()> {
        wait_all_ready(control_plane)?;
        self.check(control_plane)
    }

    fn check(&self, control_plane: &ControlPlane) -> Result<()> {
        for (program, process) in &self.0 {
            let now = control_plane.process(program)?;
            ensure!(now == *process, "{program} was restarted");
        }
        Ok(())
    }
}
