//! A Kubernetes that really runs, in network and mount namespaces of its own and without a way out: a control
//! plane, and nodes when they are asked for. It outlives the process that started it: everything needed to use or
//! end it is in its folder.
//!
//! Clusters of different names share nothing, so they run side by side with the same addresses.

mod addons;
mod client;
mod control_plane;
mod layout;
mod member;
mod namespace;
mod network;
mod node;
mod options;
mod pki;
mod process;
mod records;
mod scoped;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use addons::STORAGE_CLASS;
pub use client::EtcdEntry;
pub use layout::{Layout, Name};
pub use member::Member;
pub use namespace::Namespace;
pub use node::{BUSYBOX, Node, PAUSE};
pub use options::{NodeOptions, Options, Release};
pub use process::Process;
pub use records::Records;
pub use scoped::ScopedCluster;

use crate::tools::{self, Module};
use crate::{packages, progress};
use control_plane::{API_SERVER, ApiServer, ETCD};

/// How far the API server must have come before a command returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers; its encryption plugin may be away.
    Live,
    /// Each of its checks is well, those of its encryption plugins among them.
    Ready,
}

impl Health {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

/// How long members may take to start on a machine that also compiles.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    options: Options,
    namespace: Namespace,
    tools: control_plane::Tools,
    node_tools: node::Tools,
}

impl Cluster {
    /// Starts a cluster and waits until its API server is ready.
    ///
    /// # Errors
    /// Fails when one of that name runs already, or when a member ends or is not ready in time; the error
    /// names the log and shows its end, the processes are gone, and the folder stays for a look.
    pub fn up(options: Options) -> Result<Self> {
        Self::up_until(options, Health::Ready)
    }

    /// Starts a cluster and waits until its API server is as healthy as asked for; nodes as with
    /// [`Cluster::complete`].
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up_until(options: Options, health: Health) -> Result<Self> {
        Self::start(options, |cluster| {
            if cluster.options.nodes.is_empty() {
                return cluster.start_api_server(health);
            }
            cluster.start_nodes()?;
            cluster.complete(health)
        })
    }

    /// Starts the nodes of a cluster that has no API server yet, so that something can be installed on them that
    /// its first request needs. [`Cluster::complete`] does the rest.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up_without_api_servers(options: Options) -> Result<Self> {
        Self::start(options, Self::start_nodes)
    }

    /// Starts the API servers that do not run and waits until they are as healthy as asked for. With
    /// [`Health::Ready`] it also waits until the nodes are ready, and makes names and volumes for their pods.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn complete(&self, health: Health) -> Result<()> {
        for node in self.control_planes() {
            if node.member(API_SERVER)?.is_none() {
                node.start_api_server()?;
            }
        }
        let name = self.name();
        progress::step(&format!("cluster {name}: API servers"), || {
            let mut nodes = self.control_planes().into_iter();
            nodes.try_for_each(|node| node.wait_for_api_server(health))
        })?;
        if health == Health::Live {
            return Ok(());
        }
        self.install_addons()?;
        progress::step(&format!("cluster {name}: nodes"), || self.wait_for_nodes())
    }

    fn start(options: Options, rest: impl FnOnce(&Self) -> Result<()>) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a cluster needs root, to make a network namespace; run this command as root"
        );
        ensure_nodes_can_run(&options)?;
        let tools = control_plane::Tools::ensure_built(options.kubernetes)?;
        let layout = Layout::new(&options.name);
        clear_leftovers(&layout)?;
        layout.create()?;
        let cluster = Self::start_etcd_in(layout.clone(), options, tools).and_then(|cluster| {
            rest(&cluster)?;
            Ok(cluster)
        });
        if cluster.is_err() {
            layout.stop_processes()?;
        }
        cluster
    }

    fn start_etcd_in(
        layout: Layout,
        options: Options,
        tools: control_plane::Tools,
    ) -> Result<Self> {
        fs::write(layout.options(), serde_json::to_vec_pretty(&options)?)?;
        fs::write(layout.encryption(), &options.encryption)?;
        control_plane::write_files(&layout, &options.nodes)?;
        let namespace = Namespace::create(&layout)?;
        network::configure(&namespace, options.nodes.len())?;
        let cluster = Self {
            layout,
            options,
            namespace,
            tools,
            node_tools: node::Tools::find()?,
        };
        cluster.start_etcd()?;
        Ok(cluster)
    }

    fn start_etcd(&self) -> Result<()> {
        progress::step(&format!("cluster {}: etcd", self.name()), || {
            self.start_member(&self.etcd())?;
            self.wait_for(ETCD, || self.etcd_health())
        })
    }

    fn start_nodes(&self) -> Result<()> {
        node::images::write(&self.layout)?;
        self.nodes().into_iter().try_for_each(|node| {
            node.install()?;
            node.power_on_without_api_server()
        })
    }

    fn wait_for_nodes(&self) -> Result<()> {
        let mut nodes = self.nodes().into_iter();
        nodes.try_for_each(|node| node.wait_until_ready())?;
        self.label_control_planes()?;
        // A controller makes it; without it no pod is admitted.
        let account = ["get", "serviceaccount", "default"];
        self.wait_for(ETCD, || self.kubectl(&account).map(drop))
    }

    /// Gives control-plane nodes the label by which pods find them. A kubelet may not give it to itself.
    fn label_control_planes(&self) -> Result<()> {
        for node in self.control_planes() {
            let label = "node-role.kubernetes.io/control-plane=";
            self.kubectl(&["label", "node", node.name().as_ref(), label])?;
        }
        Ok(())
    }

    /// Opens a cluster that another process started.
    ///
    /// # Errors
    /// Fails when no cluster of that name runs.
    pub fn open(name: &Name) -> Result<Self> {
        let layout = Layout::new(name);
        let bytes = fs::read(layout.options()).with_context(|| {
            format!("no cluster named {name}; start it with `cargo xtask cluster up`")
        })?;
        let options: Options = serde_json::from_slice(&bytes)?;
        let namespace = Namespace::open(&layout)?;
        let tools = control_plane::Tools::ensure_built(options.kubernetes)?;
        ensure_nodes_can_run(&options)?;
        Ok(Self {
            layout,
            options,
            namespace,
            tools,
            node_tools: node::Tools::find()?,
        })
    }

    /// Ends every process of the cluster and removes its folder.
    ///
    /// # Errors
    /// Fails when a process or file cannot be removed.
    pub fn down(self) -> Result<()> {
        down(&self.options.name)
    }

    /// Cuts the power of the whole cluster: every process of it ends at once, and what is on disk stays.
    ///
    /// # Errors
    /// Fails when a process outlives SIGKILL.
    pub fn power_off(&self) -> Result<()> {
        for node in self.nodes() {
            if node.is_on()? {
                node.power_off()?;
            }
        }
        for member in [API_SERVER, addons::COREDNS, ETCD] {
            self.layout.kill_process(member)?;
        }
        Ok(())
    }

    /// Starts etcd and then what [`Cluster::power_off`] ended. It waits for no API server and no node.
    ///
    /// # Errors
    /// Fails when a member cannot be started.
    pub fn power_on(&self) -> Result<()> {
        self.start_etcd()?;
        if self.options.nodes.is_empty() {
            return self.start_member(&self.api_server()).map(drop);
        }
        self.nodes()
            .into_iter()
            .try_for_each(|node| node.power_on())?;
        self.start_dns()
    }

    /// Returns the cluster's name.
    pub fn name(&self) -> &Name {
        &self.options.name
    }

    /// Returns where the cluster's files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the namespace in which the members run.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts a process that belongs to the cluster and ends with it.
    ///
    /// # Errors
    /// Fails when one of that name runs already or the program cannot be started.
    pub fn start_member(&self, member: &Member) -> Result<Process> {
        member.start(&self.layout, &self.namespace)
    }

    /// Ends one process of the cluster; does nothing when it is gone already.
    ///
    /// # Errors
    /// Fails when the process outlives SIGKILL.
    pub fn stop_member(&self, name: &str) -> Result<()> {
        self.layout.stop_process(name)
    }

    /// Returns the folders of `kubectl` and `etcdctl`, whose versions fit, and of `ctr` when there are nodes.
    pub fn client_folders(&self) -> Vec<&Path> {
        let clients = [&self.tools.kubectl, &self.tools.etcdctl];
        let mut folders: Vec<&Path> = clients
            .iter()
            .filter_map(|client| client.parent())
            .collect();
        if !self.options.nodes.is_empty() {
            folders.push(self.node_tools.containerd());
        }
        folders
    }

    /// Ends the API server, or one after the other, and starts it anew with the same flags.
    ///
    /// # Errors
    /// Fails when it is not as healthy as asked for in time.
    pub fn restart_api_server(&self, health: Health) -> Result<()> {
        if !self.options.nodes.is_empty() {
            let mut nodes = self.control_planes().into_iter();
            return nodes.try_for_each(|node| node.restart_api_server(health));
        }
        self.stop_member(API_SERVER)?;
        self.start_api_server(health)
    }

    /// Replaces the encryption configuration in one step. A running API server reads it within a minute.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn replace_encryption(&self, text: &str) -> Result<()> {
        let next = self.layout.encryption().with_extension("next");
        fs::write(&next, text)?;
        fs::rename(&next, self.layout.encryption())?;
        Ok(())
    }

    /// Replaces what the API servers write into their audit logs, from their next start on.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn replace_audit_policy(&self, text: &str) -> Result<()> {
        fs::write(self.layout.audit_policy(), text)?;
        Ok(())
    }

    fn start_api_server(&self, health: Health) -> Result<()> {
        let version = self.options.kubernetes.module().version()?;
        progress::step(
            &format!("cluster {}: kube-apiserver {version}", self.name()),
            || {
                self.start_member(&self.api_server())?;
                self.wait_for(API_SERVER, || self.get(health.path()).map(drop))
            },
        )
    }

    fn etcd(&self) -> Member {
        control_plane::etcd(&self.layout, &self.tools)
    }

    fn api_server(&self) -> Member {
        ApiServer::alone(&self.layout).member(&self.layout, &self.tools)
    }

    fn wait_for(&self, member: &str, check: impl Fn() -> Result<()>) -> Result<()> {
        member::wait_until_well(&self.layout, member, START_LIMIT, check)
    }
}

/// Ends a cluster by its name. A cluster that is not there is fine: the wish is fulfilled.
///
/// # Errors
/// Fails when a process or file cannot be removed.
pub fn down(name: &Name) -> Result<()> {
    let layout = Layout::new(name);
    if !layout.root().exists() {
        return Ok(());
    }
    layout.stop_processes()?;
    layout.remove()
}

/// Returns the names of all clusters of this user, running or left behind.
///
/// # Errors
/// Fails when the folder of clusters cannot be read.
pub fn names() -> Result<Vec<Name>> {
    layout::names()
}

/// Installs and builds what nodes need, if there are any.
fn ensure_nodes_can_run(options: &Options) -> Result<()> {
    if options.nodes.is_empty() {
        return Ok(());
    }
    options.check_nodes()?;
    packages::ensure_installed_for_nodes()?;
    node::Tools::ensure_built()
}

/// Removes what a crashed start left, and refuses when the cluster is alive.
fn clear_leftovers(layout: &Layout) -> Result<()> {
    if !layout.root().exists() {
        return Ok(());
    }
    if let Some(name) = layout.living_process()? {
        bail!(
            "a cluster runs in {} ({name} is alive); end it with `cargo xtask cluster down --name {}`",
            layout.root().display(),
            layout.name()
        );
    }
    layout.stop_processes()?;
    layout.remove()
}

/// Builds what a cluster of this release needs, so that starting one later takes seconds.
///
/// # Errors
/// Fails when a build fails.
pub fn prepare(release: Release) -> Result<()> {
    tools::ensure_built(Module::Etcd)?;
    tools::ensure_built(Module::Kubernetes)?;
    tools::ensure_built(release.module()).map(drop)
}
