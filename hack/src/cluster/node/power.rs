//! Switching a node on and off. Off is a power cut: the kernel ends everything on it at once, and what lay on its
//! disk is there when it is switched on again.

use anyhow::{Context, Result, ensure};

use super::super::control_plane::API_SERVER;
use super::super::member::{Member, wait_until_well};
use super::super::namespace::Namespace;
use super::super::{Health, START_LIMIT, network};
use super::members::{CONTAINERD, KUBELET};
use super::{Node, cgroup, config, images};
use crate::progress;

impl Node<'_> {
    /// Lays out the node's disk and the files of its programs.
    pub(in super::super) fn install(&self) -> Result<()> {
        self.disk().format(self.name())?;
        config::write(self)
    }

    /// Tells whether the node is on.
    ///
    /// # Errors
    /// Fails when the record of its first process cannot be read.
    pub fn is_on(&self) -> Result<bool> {
        Ok(Namespace::open_for_node(self.layout(), self.name().as_ref())?.is_some())
    }

    /// Switches the node on and starts its programs: containerd, the kubelet and, on a control-plane node, the
    /// API server, unless the kubelet runs that, and its companions. It waits for containerd only; see [`Node::wait_until_ready`] and
    /// [`Node::wait_for_api_server`].
    ///
    /// # Errors
    /// Fails when the node is on, or containerd does not start.
    pub fn power_on(&self) -> Result<()> {
        self.power_on_without_api_server()?;
        if self.is_control_plane() && !self.api_server_is_a_pod() {
            self.start_api_server()?;
        }
        Ok(())
    }

    /// As [`Node::power_on`], but an API server has to be started by the caller. Its companions wait for it.
    pub(in super::super) fn power_on_without_api_server(&self) -> Result<()> {
        ensure!(!self.is_on()?, "node {} is on", self.name());
        let cluster = self.layout().name();
        cgroup::create(cluster, self.name())?;
        let namespace = Namespace::create_for_node(self.layout(), self.name().as_ref())?;
        self.disk().mount(&namespace, self.name())?;
        self.join_network(&namespace)?;
        progress::step(
            &format!("cluster {cluster}: {}: containerd", self.name()),
            || self.start_containerd(),
        )?;
        images::load(self)?;
        self.start_member(&self.kubelet())?;
        self.start_member(&self.proxy())?;
        if self.is_control_plane() {
            self.start_member(&self.controller_manager())?;
            self.start_member(&self.scheduler())?;
        }
        Ok(())
    }

    /// Cuts the node's power: each process on it, in containers too, ends at once.
    ///
    /// # Errors
    /// Fails when the node is off, or a process outlives SIGKILL.
    pub fn power_off(&self) -> Result<()> {
        let namespace = self.namespace()?;
        namespace.holder().kill()?;
        network::leave(&self.cluster.namespace, self.number)?;
        cgroup::remove(self.layout().name(), self.name())
    }

    /// Ends containerd as a service manager would and starts it anew. Containers go on running.
    ///
    /// # Errors
    /// Fails when it does not answer in time.
    pub fn restart_containerd(&self) -> Result<()> {
        self.stop_member(CONTAINERD)?;
        self.start_containerd()
    }

    /// Ends the kubelet and starts it anew. Containers go on running.
    ///
    /// # Errors
    /// Fails when it does not answer in time.
    pub fn restart_kubelet(&self) -> Result<()> {
        self.stop_member(KUBELET)?;
        self.start_member(&self.kubelet())?;
        self.wait_for_kubelet()
    }

    /// Ends the API server and starts it anew.
    ///
    /// # Errors
    /// Fails when it is not as healthy as asked for in time.
    pub fn restart_api_server(&self, health: Health) -> Result<()> {
        self.stop_api_server()?;
        self.start_api_server()?;
        self.wait_for_api_server(health)
    }

    /// Ends the API server.
    ///
    /// # Errors
    /// Fails when it outlives SIGKILL.
    pub fn stop_api_server(&self) -> Result<()> {
        self.stop_member(API_SERVER)
    }

    /// Starts the API server and does not wait for it.
    ///
    /// # Errors
    /// Fails when it runs already or cannot be started.
    pub fn start_api_server(&self) -> Result<()> {
        self.start_member(&self.api_server()?).map(drop)
    }

    /// Waits until this node's own API server is as healthy as asked for.
    ///
    /// # Errors
    /// Fails when it ends, or is not so in time; the error shows the end of its log.
    pub fn wait_for_api_server(&self, health: Health) -> Result<()> {
        self.wait_for(API_SERVER, || self.get(health.path()).map(drop))
    }

    /// Waits until the kubelet answers.
    ///
    /// # Errors
    /// Fails when it ends, or does not answer in time; the error shows the end of its log.
    pub fn wait_for_kubelet(&self) -> Result<()> {
        self.wait_for(KUBELET, || {
            self.output("curl", &["--silent", "--fail", KUBELET_HEALTH])
                .map(drop)
        })
    }

    /// Waits until the kubelet answers and the API server says that the node is ready.
    ///
    /// # Errors
    /// Fails when the kubelet ends, or the node is not ready in time; the error shows the end of its log.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.wait_for_kubelet()?;
        self.wait_for(KUBELET, || {
            let status =
                self.cluster
                    .kubectl(&["get", "node", self.name().as_ref(), "-o", READY])?;
            ensure!(status == "True", "node {} is not ready", self.name());
            Ok(())
        })
    }

    fn start_containerd(&self) -> Result<()> {
        self.start_member(&self.containerd())?;
        self.wait_for(CONTAINERD, || self.ctr(&["version"]).map(drop))
    }

    fn join_network(&self, namespace: &Namespace) -> Result<()> {
        // The end of an earlier namespace may still be under way.
        network::leave(&self.cluster.namespace, self.number)?;
        let nodes = self.cluster.options.nodes.len();
        network::join(&self.cluster.namespace, namespace, self.number, nodes)
            .with_context(|| format!("cannot join {} to the network", self.name()))
    }

    fn wait_for(&self, member: &str, check: impl Fn() -> Result<()>) -> Result<()> {
        let name = Member::name_on(self.name().as_ref(), member);
        wait_until_well(self.layout(), &name, START_LIMIT, check)
    }
}

/// Where the kubelet says that it is well.
const KUBELET_HEALTH: &str = "http://127.0.0.1:10248/healthz";

/// What is asked of a node's status.
const READY: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
