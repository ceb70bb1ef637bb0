//! Namespaces kept open by a process that sleeps. Mounts made outside appear inside, never the other way round,
//! and nothing inside can reach the machine's network. A node's namespaces hold its processes too: when their
//! first process is killed the kernel kills all others, containers among them, which is a power cut.

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

/// The end of the names under which the first processes of nodes are recorded.
pub(super) const NODE_HOLDER: &str = ".namespace";

/// The first process of a node. It reaps what loses its parent, as the first process of a machine does.
const FIRST_PROCESS: &str = "while :; do sleep 1000000 & wait; done";

/// Whose namespaces they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Network and mounts.
    Cluster,
    /// Network, mounts, host name and process ids.
    Node,
}

/// The namespaces of one cluster, or of one of its nodes.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    holder: Process,
    owner: Owner,
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
        wait_until_running(holder, "sleep")
            .with_context(|| format!("cannot make a namespace; see {:?}", layout.log(HOLDER)))?;
        Ok(Self {
            holder,
            owner: Owner::Cluster,
        })
    }

    pub(super) fn open(layout: &Layout) -> Result<Self> {
        let holder = layout.process(HOLDER)?.with_context(|| {
            format!(
                "cluster {0} does not run; `cargo xtask cluster up --name {0}`",
                layout.name()
            )
        })?;
        Ok(Self {
            holder,
            owner: Owner::Cluster,
        })
    }

    /// Makes the namespaces of a node, with mounts that its containers see and the machine does not.
    pub(super) fn create_for_node(layout: &Layout, node: &str) -> Result<Self> {
        let name = node_holder(node);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(layout.log(&name))?;
        let parent = Process::spawn(
            Command::new("setsid")
                .args(["unshare", "--net", "--mount", "--propagation", "slave"])
                .args(["--uts", "--pid", "--fork", "--mount-proc"])
                .args(["sh", "-c", FIRST_PROCESS])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        )?;
        let make = || -> Result<Process> {
            let holder = parent.wait_for_child()?;
            layout.record_process(&name, holder)?;
            wait_until_running(holder, "sh")?;
            Ok(holder)
        };
        let holder = make()
            .with_context(|| format!("cannot make a namespace; see {:?}", layout.log(&name)))?;
        Ok(Self {
            holder,
            owner: Owner::Node,
        })
    }

    /// Returns the namespaces of a node, when it is on.
    pub(super) fn open_for_node(layout: &Layout, node: &str) -> Result<Option<Self>> {
        let holder = layout.process(&node_holder(node))?;
        Ok(holder.map(|holder| Self {
            holder,
            owner: Owner::Node,
        }))
    }

    /// Returns the process that keeps the namespaces open.
    pub fn holder(&self) -> Process {
        self.holder
    }

    /// Starts a command that [`Namespace::member_command`] made, and returns the process inside.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Process> {
        let process = Process::spawn(command)?;
        match self.owner {
            Owner::Cluster => Ok(process),
            // Nobody can move into other process ids, so `nsenter` stays outside and waits for its child.
            Owner::Node => process.wait_for_child(),
        }
    }

    /// Returns a command for a process that lives inside the namespaces.
    pub fn member_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(self.member_flags(), program.as_ref())
    }

    fn member_flags(&self) -> &'static [&'static str] {
        match self.owner {
            Owner::Cluster => &["--net", "--mount", "--wd=/"],
            Owner::Node => &["--net", "--mount", "--uts", "--pid"],
        }
    }

    /// Returns a command that uses the cluster's network and sees our files and working folder.
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&["--net"], program.as_ref())
    }

    /// Returns the words that, put before a command, run it in the cluster's network, or inside the node.
    pub fn enter_words(&self) -> String {
        let flags = match self.owner {
            Owner::Cluster => "--net".to_owned(),
            Owner::Node => self.member_flags().join(" "),
        };
        format!("nsenter --target {} {flags} --", self.holder.id())
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

/// Returns the name under which a node's first process is recorded.
fn node_holder(node: &str) -> String {
    format!("{node}{NODE_HOLDER}")
}

/// `unshare` runs the program only after it has made the namespaces and set the propagation of mounts.
fn wait_until_running(holder: Process, program: &str) -> Result<()> {
    let start = Instant::now();
    let comm = format!("/proc/{}/comm", holder.id());
    while fs::read_to_string(&comm).unwrap_or_default().trim() != program {
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
