//! A network and a mount namespace, kept open by a process that sleeps. Mounts made outside appear inside,
//! never the other way round, and nothing inside can reach the machine's network.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use super::process::Process;

/// The name under which the sleeping process is recorded.
pub(super) const HOLDER: &str = "namespace";

/// The namespaces of one cluster.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    pub(super) fn create(layout: &Layout) -> Result<Self> {
        let log = fs::File::create(layout.log(HOLDER))?;
        let holder = Process::spawn(
            Command::new("setsid")
                .args(["unshare", "--net", "--mount", "--propagation", "slave"])
                .args(["sleep", "infinity"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        )?;
        layout.record_process(HOLDER, holder)?;
        wait_until_sleeping(holder)
            .with_context(|| format!("cannot make a namespace; see {:?}", layout.log(HOLDER)))?;
        Ok(Self { holder })
    }

    pub(super) fn open(layout: &Layout) -> Result<Self> {
        let holder = layout.process(HOLDER)?.with_context(|| {
            format!(
                "cluster {0} does not run; `cargo xtask cluster up --name {0}`",
                layout.name()
            )
        })?;
        Ok(Self { holder })
    }

    /// Returns a command for a process that lives inside both namespaces.
    pub fn member_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&["--net", "--mount", "--wd=/"], program.as_ref())
    }

    /// Returns a command that uses the cluster's network and sees our files and working folder.
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&["--net"], program.as_ref())
    }

    /// Returns the words that, put before a command, run it in the cluster's network.
    pub fn enter_words(&self) -> String {
        format!("nsenter --target {} --net --", self.holder.id())
    }

    fn enter(&self, flags: &[&str], program: &OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.holder.id().to_string())
            .args(flags)
            .arg("--")
            .arg(program);
        command
    }
}

/// `unshare` runs `sleep` only after it has made the namespaces and set the propagation of mounts.
fn wait_until_sleeping(holder: Process) -> Result<()> {
    let start = Instant::now();
    let comm = format!("/proc/{}/comm", holder.id());
    while fs::read_to_string(&comm).unwrap_or_default().trim() != "sleep" {
        ensure!(holder.is_alive(), "`unshare` ended");
        ensure!(start.elapsed() < Duration::from_secs(10), "`unshare` hangs");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Returns every process but the holder that is in the holder's network namespace.
pub(super) fn inhabitants(holder: Process) -> Result<Vec<Process>> {
    let network = |id: &str| fs::read_link(format!("/proc/{id}/ns/net")).ok();
    let Some(ours) = network(&holder.id().to_string()) else {
        return Ok(Vec::new());
    };
    ensure!(
        Some(&ours) != network("self").as_ref(),
        "the holder is not in a namespace of its own"
    );
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path: PathBuf = entry?.path();
        let Some(id) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        if network(id).as_ref() == Some(&ours) {
            found.extend(id.parse().ok().and_then(Process::with_id));
        }
    }
    found.retain(|process| *process != holder);
    Ok(found)
}
