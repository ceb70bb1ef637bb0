//! A node: a kubelet, a container runtime and, on a control-plane node, an API server, in namespaces of their own on
//! this machine. Inside, `/etc`, `/var` and `/run` are the node's, so whatever a program writes there is seen on that
//! node only; everything else is the machine's.

pub(super) mod cgroup;
mod config;
mod disk;
pub(super) mod images;
mod members;
mod pod;
mod power;

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::layout::{Layout, Name};
use super::member::Member;
use super::namespace::Namespace;
use super::process::Process;
use super::{Cluster, NodeOptions, network};
use disk::Disk;
pub(super) use members::Tools;

pub use images::{BUSYBOX, PAUSE};

/// A node of a cluster, on or off.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    options: &'a NodeOptions,
    number: usize,
}

impl Cluster {
    /// Returns all nodes.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let options = self.options.nodes.iter().enumerate();
        options
            .map(|(number, options)| Node {
                cluster: self,
                options,
                number,
            })
            .collect()
    }

    /// Returns the nodes with an API server.
    pub fn control_planes(&self) -> Vec<Node<'_>> {
        let mut nodes = self.nodes();
        nodes.retain(Node::is_control_plane);
        nodes
    }

    /// Returns the node of this name.
    ///
    /// # Errors
    /// Fails when there is none.
    pub fn node(&self, name: &str) -> Result<Node<'_>> {
        let found = self
            .nodes()
            .into_iter()
            .find(|node| node.name().as_ref() == name);
        found.with_context(|| format!("cluster {} has no node {name}", self.name()))
    }

    /// Loads an image archive, as `docker save` writes it, into each node that is on.
    ///
    /// # Errors
    /// Fails when a runtime does not take it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        for node in self.nodes() {
            if node.is_on()? {
                node.load_image(archive)?;
            }
        }
        Ok(())
    }
}

impl<'a> Node<'a> {
    /// Returns the node's name.
    pub fn name(&self) -> &'a Name {
        &self.options.name
    }

    /// Tells whether an API server runs here.
    pub fn is_control_plane(&self) -> bool {
        self.options.control_plane
    }

    /// Returns the node's address in the cluster's network.
    pub fn address(&self) -> Ipv4Addr {
        network::node_address(self.number)
    }

    /// Returns where a file of the node's disk lies on the machine, for a path below `/etc` or `/var`. It can be
    /// read and written whether the node is on or off.
    pub fn on_disk(&self, path: &str) -> PathBuf {
        self.disk().path(path)
    }

    /// Returns a path of the node as this machine sees it while the node is on, below `/run` for example. Links on
    /// the way there are followed on the machine.
    ///
    /// # Errors
    /// Fails when the node is off.
    pub fn seen_from_outside(&self, path: &str) -> Result<PathBuf> {
        let root = format!("/proc/{}/root", self.namespace()?.holder().id());
        Ok(Path::new(&root).join(path.trim_start_matches('/')))
    }

    /// Returns a command that runs on the node, as root and with the administrator's kubeconfig.
    ///
    /// # Errors
    /// Fails when the node is off.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = self.namespace()?.member_command(program);
        command
            .env("PATH", self.search_path())
            .env("KUBECONFIG", self.layout().kubeconfig());
        Ok(command)
    }

    /// Runs a command on the node and returns what it prints.
    ///
    /// # Errors
    /// Fails when the node is off or the command fails, with what it said.
    pub fn output<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String> {
        let output = self
            .command(program)?
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        super::client::text_of(program, arguments, &output)
    }

    /// Returns the words that, put before a command, run it on the node.
    ///
    /// # Errors
    /// Fails when the node is off.
    pub fn enter_words(&self) -> Result<String> {
        Ok(self.namespace()?.enter_words())
    }

    /// Starts a process that belongs to the node and ends with its power.
    ///
    /// # Errors
    /// Fails when the node is off, one of that name runs already, or the program cannot be started.
    pub fn start_member(&self, member: &Member) -> Result<Process> {
        let member = member.clone().of_node(self.name().as_ref());
        member.start(self.layout(), &self.namespace()?)
    }

    /// Ends one process of the node; does nothing when it is gone already.
    ///
    /// # Errors
    /// Fails when the process outlives SIGKILL.
    pub fn stop_member(&self, name: &str) -> Result<()> {
        self.layout().stop_process(&self.member_name(name))
    }

    /// Kills one process of the node; does nothing when it is gone already.
    ///
    /// # Errors
    /// Fails when the process outlives SIGKILL.
    pub fn kill_member(&self, name: &str) -> Result<()> {
        self.layout().kill_process(&self.member_name(name))
    }

    /// Returns the process of a member, such as `kubelet`, when it is alive.
    ///
    /// # Errors
    /// Fails when its record cannot be read.
    pub fn member(&self, name: &str) -> Result<Option<Process>> {
        self.layout().process(&self.member_name(name))
    }

    /// Returns the processes in the node's pods that run the program of this file name, as this machine sees them.
    ///
    /// # Errors
    /// Fails when `/proc` cannot be read.
    pub fn processes(&self, program: &str) -> Result<Vec<Process>> {
        let mut ids = cgroup::processes(self.layout().name(), self.name())?;
        ids.retain(|id| {
            fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|path| path.ends_with(program))
        });
        Ok(ids.into_iter().filter_map(Process::with_id).collect())
    }

    /// Returns the output of a member.
    pub fn log(&self, member: &str) -> PathBuf {
        self.layout().log(&self.member_name(member))
    }

    /// Returns the audit log of the node's API server, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.layout().log(&self.member_name("api-audit"))
    }

    /// Returns `kubectl` as the administrator, for the API server of this node.
    ///
    /// # Errors
    /// Fails when the node has none.
    pub fn kubectl_command(&self) -> Result<Command> {
        ensure!(
            self.is_control_plane(),
            "node {} has no API server",
            self.name()
        );
        let mut command = self.cluster.kubectl_command();
        command.arg(format!("--server=https://{}:6443", self.address()));
        Ok(command)
    }

    /// Runs `kubectl` with the API server of this node and returns what it prints.
    ///
    /// # Errors
    /// Fails when it fails, with what it said.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self
            .kubectl_command()?
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        super::client::text_of("kubectl", arguments, &output)
    }

    /// Fetches a path of this node's API server, such as `/readyz`.
    ///
    /// # Errors
    /// Fails when the answer is not a success; the error contains the answer.
    pub fn get(&self, path: &str) -> Result<String> {
        self.kubectl(&["get", "--raw", path])
    }

    /// Returns the `EncryptionConfiguration` that the node's API server reads at its next start.
    ///
    /// # Errors
    /// Fails when the note of it cannot be read.
    pub fn encryption(&self) -> Result<PathBuf> {
        let note = self.file(ENCRYPTION_NOTE);
        match fs::read_to_string(&note) {
            Ok(text) => Ok(PathBuf::from(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(self.layout().encryption())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {note:?}")),
        }
    }

    /// Has the node's API server read another `EncryptionConfiguration` from its next start on. The path is one on
    /// the node, such as a file that an installer wrote below `/etc`.
    ///
    /// # Errors
    /// Fails when the note of it cannot be written.
    pub fn set_encryption(&self, path: &str) -> Result<()> {
        fs::write(self.file(ENCRYPTION_NOTE), path)?;
        Ok(())
    }

    /// Loads an image archive, as `docker save` writes it, into the node's runtime.
    ///
    /// # Errors
    /// Fails when the runtime does not take it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("the file's name is not UTF-8")?;
        self.ctr(&["images", "import", archive]).map(drop)
    }

    /// Runs containerd's own client in the namespace of Kubernetes.
    ///
    /// # Errors
    /// Fails when it fails, with what it said.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let words = [&["--namespace", "k8s.io"], arguments].concat();
        self.output("ctr", &words)
    }

    fn namespace(&self) -> Result<Namespace> {
        match Namespace::open_for_node(self.layout(), self.name().as_ref())? {
            Some(namespace) => Ok(namespace),
            None => bail!("node {} is off", self.name()),
        }
    }

    fn layout(&self) -> &'a Layout {
        &self.cluster.layout
    }

    fn tools(&self) -> &'a Tools {
        &self.cluster.node_tools
    }

    fn disk(&self) -> Disk {
        Disk::new(self.file("disk"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.layout().node(self.name(), name)
    }

    fn member_name(&self, member: &str) -> String {
        Member::name_on(self.name().as_ref(), member)
    }

    /// Returns the address of the API server that the node's programs use.
    fn api_address(&self) -> String {
        let own = self.is_control_plane().then_some(*self);
        let first = self.cluster.control_planes().first().copied();
        own.or(first).map_or_else(
            || network::CLUSTER.to_owned(),
            |node| node.address().to_string(),
        )
    }

    /// Our tools first, then what Debian has.
    fn search_path(&self) -> String {
        let folders = self.cluster.client_folders();
        let mut folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        folders.push("/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        folders.join(":")
    }
}

/// The file that names the `EncryptionConfiguration` of a node's API server, when it is not the cluster's.
const ENCRYPTION_NOTE: &str = "encryption-path";
