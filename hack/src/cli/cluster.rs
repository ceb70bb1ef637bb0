//! `cargo xtask cluster`.

use std::fs;
use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::cluster::{self, Cluster, Health, Layout, Name, Options, Release};
use crate::progress;

/// Which cluster is meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The cluster's name; clusters of different names run side by side.
    #[arg(long, default_value = "default")]
    name: Name,
}

/// What is switched on or off.
#[derive(Debug, Args)]
pub(super) struct Powered {
    #[command(flatten)]
    which: Which,
    /// The node's name. Without it the whole cluster is meant.
    #[arg(long)]
    node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Starts etcd, an API server and the nodes that are wanted, and waits until they are ready.
    Up {
        #[command(flatten)]
        which: Which,
        /// A file with an EncryptionConfiguration. Without it Secrets are stored as they are.
        #[arg(long, value_name = "FILE")]
        encryption: Option<PathBuf>,
        /// Which supported Kubernetes to run.
        #[arg(long, value_enum, default_value_t = Release::Newest)]
        kubernetes: Release,
        /// How many nodes to run. Without any there is an API server and no pods.
        #[arg(long, default_value_t = 0)]
        nodes: usize,
        /// How many of the nodes have an API server.
        #[arg(long, default_value_t = 1, requires = "nodes")]
        control_planes: usize,
    },
    /// Ends the API server and starts it anew.
    Restart(Which),
    /// Cuts the power of a node, or of the whole cluster. What is on disk stays.
    PowerOff(Powered),
    /// Starts what `power-off` ended.
    PowerOn(Powered),
    /// Ends the cluster and removes its files.
    Down(Which),
    /// Prints shell commands that give access to the cluster.
    Env(Which),
    /// Prints the logs of the cluster's members.
    Logs {
        #[command(flatten)]
        which: Which,
        /// Go on printing what is added.
        #[arg(long, short)]
        follow: bool,
    },
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Up {
            which,
            encryption,
            kubernetes,
            nodes,
            control_planes,
        } => {
            let mut options = Options::new(which.name);
            options.kubernetes = kubernetes;
            if nodes > 0 {
                options = options.with_nodes(nodes, control_planes)?;
            }
            up(options, encryption)
        }
        Command::Restart(which) => Cluster::open(&which.name)?.restart_api_server(Health::Ready),
        Command::PowerOff(Powered { which, node }) => {
            let cluster = Cluster::open(&which.name)?;
            match node {
                Some(name) => cluster.node(&name)?.power_off(),
                None => cluster.power_off(),
            }
        }
        Command::PowerOn(Powered { which, node }) => {
            let cluster = Cluster::open(&which.name)?;
            match node {
                Some(name) => cluster.node(&name)?.power_on(),
                None => cluster.power_on(),
            }
        }
        Command::Down(which) => {
            cluster::down(&which.name)?;
            progress::say(format_args!("cluster {}: nothing is left", which.name));
            Ok(())
        }
        Command::Env(which) => {
            Cluster::open(&which.name)?.print_environment();
            Ok(())
        }
        Command::Logs { which, follow } => logs(&which.name, follow),
    }
}

fn up(mut options: Options, encryption: Option<PathBuf>) -> Result<()> {
    if let Some(file) = encryption {
        options.encryption =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let cluster = Cluster::up(options)?;
    let name = cluster.name();
    progress::say(format_args!(
        "cluster {name} is up in {}",
        cluster.layout().root().display()
    ));
    progress::say(format_args!(
        "use it: eval \"$(cargo xtask cluster env --name {name})\""
    ));
    Ok(())
}

/// Leaves the printing to `tail`, which names each file and follows without polling.
fn logs(name: &Name, follow: bool) -> Result<()> {
    let folder = Layout::new(name).root().join("log");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no logs of cluster {name}"))? {
        files.push(entry?.path());
    }
    files.sort();
    let how = if follow {
        ["--lines=10", "--follow"]
    } else {
        ["--lines=+1", "--verbose"]
    };
    let status = Process::new("tail").args(how).args(files).status()?;
    ensure!(status.success(), "`tail` failed");
    Ok(())
}
