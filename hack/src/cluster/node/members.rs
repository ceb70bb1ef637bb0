//! The programs that run on a node, with their flags.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::super::control_plane::{ApiServer, ETCD_NODES_URL};
use super::super::member::Member;
use super::Node;
use crate::tools::{self, Module};

pub(super) const CONTAINERD: &str = "containerd";
pub(super) const KUBELET: &str = "kubelet";
pub(super) const PROXY: &str = "kube-proxy";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";

/// The binaries of nodes.
#[derive(Debug)]
pub(in super::super) struct Tools {
    pub(super) kubernetes: PathBuf,
    containerd: PathBuf,
    pub(in super::super) coredns: PathBuf,
}

/// What is built for nodes, quickest first.
const MODULES: [Module; 3] = [Module::Containerd, Module::CoreDns, Module::KubernetesNode];

impl Tools {
    /// Returns where the binaries are, whether they were built or not.
    pub(in super::super) fn find() -> Result<Self> {
        Ok(Self {
            kubernetes: Module::KubernetesNode.target()?,
            containerd: Module::Containerd.target()?,
            coredns: Module::CoreDns.target()?,
        })
    }

    /// Returns the folder of containerd, its shim and `ctr`.
    pub(in super::super) fn containerd(&self) -> &Path {
        &self.containerd
    }

    /// Builds them, which takes minutes, once.
    pub(in super::super) fn ensure_built() -> Result<()> {
        MODULES
            .into_iter()
            .try_for_each(|module| tools::ensure_built(module).map(drop))
    }
}

impl Node<'_> {
    pub(super) fn containerd(&self) -> Member {
        Member::new(CONTAINERD, self.tools().containerd().join(CONTAINERD))
            .flag("config", self.file("containerd.toml"))
            // containerd looks for its shim and for runc there.
            .variable("PATH", self.search_path())
    }

    pub(super) fn kubelet(&self) -> Member {
        Member::new(KUBELET, self.tools().kubernetes.join(KUBELET))
            .flag("config", self.file("kubelet.yaml"))
            .flag("kubeconfig", self.file("kubelet.kubeconfig"))
            .flag("hostname-override", self.name().to_string())
            .flag("node-ip", self.address().to_string())
    }

    pub(super) fn proxy(&self) -> Member {
        Member::new(PROXY, self.tools().kubernetes.join(PROXY))
            .flag("kubeconfig", self.file("kube-proxy.kubeconfig"))
            .flag("proxy-mode", "nftables")
            .flag("hostname-override", self.name().to_string())
            .flag("bind-address", self.address().to_string())
            // These are the machine's, and it may not change them.
            .flag("conntrack-max-per-core", "0")
            .flag("conntrack-min", "0")
            .flag("conntrack-tcp-timeout-established", "0")
            .flag("conntrack-tcp-timeout-close-wait", "0")
            .kept_running()
    }

    pub(super) fn controller_manager(&self) -> Member {
        let layout = self.layout();
        self.elected(CONTROLLER_MANAGER)
            .flag(
                "service-account-private-key-file",
                layout.pki("service-accounts.key"),
            )
            .flag("root-ca-file", layout.pki("kubernetes-ca.crt"))
            .flag("use-service-account-credentials", "true")
    }

    pub(super) fn scheduler(&self) -> Member {
        self.elected(SCHEDULER)
    }

    /// Several of them choose a leader, and each ends when it is no longer the leader.
    fn elected(&self, program: &str) -> Member {
        let several = self.cluster.control_planes().len() > 1;
        Member::new(program, self.tools().kubernetes.join(program))
            .flag("kubeconfig", self.file(&format!("{program}.kubeconfig")))
            .flag("leader-elect", several.to_string())
            .kept_running()
    }

    pub(super) fn api_server(&self) -> Result<Member> {
        let server = ApiServer {
            address: self.address().to_string(),
            etcd: ETCD_NODES_URL,
            encryption: self.encryption()?,
            audit_log: self.audit_log(),
        };
        Ok(server.member(self.layout(), &self.cluster.tools))
    }
}
