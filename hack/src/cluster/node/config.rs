//! The files that containerd, the CNI plugins and the kubelet of a node read. JSON is YAML, and serde writes it
//! with every path quoted.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::super::control_plane;
use super::super::layout::Layout;
use super::super::network::{DNS_SERVICE, pod_range};
use super::images::PAUSE;
use super::{Node, cgroup};

/// Where containerd serves on every node, as its own default has it.
pub(super) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the kubelet finds static pods.
const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// The users that programs of a node have, by the names of their certificates.
const USERS: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "kube-proxy"];

/// Writes the files of a new node.
pub(super) fn write(node: &Node<'_>) -> Result<()> {
    let layout = node.layout();
    let name = node.name();
    let address = node.api_address();
    fs::write(
        node.disk().path("etc/cni/net.d/10-pods.conflist"),
        network(node.number),
    )?;
    fs::write(layout.node(name, "containerd.toml"), containerd())?;
    fs::write(layout.node(name, "kubelet.yaml"), kubelet(node))?;
    for user in USERS {
        let text = control_plane::kubeconfig(layout, &address, user);
        fs::write(layout.node(name, &format!("{user}.kubeconfig")), text)?;
    }
    let text = control_plane::kubeconfig(layout, &address, &kubelet_certificate(node));
    fs::write(layout.node(name, "kubelet.kubeconfig"), text)?;
    Ok(())
}

fn kubelet_certificate(node: &Node<'_>) -> String {
    format!("kubelet-{}", node.name())
}

/// Each pod has a wire of its own to the node, so that answers of one pod to another pass the address translation
/// of services. Nothing hides pods' addresses: every node has a route to them.
fn network(number: usize) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": pod_range(number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
    .to_string()
}

/// The machine may forbid to lower a process's score for running out of memory, hence the restriction.
fn containerd() -> String {
    format!(
        "\
version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
[grpc]
  address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '/etc/cni/net.d'
"
    )
}

fn kubelet(node: &Node<'_>) -> String {
    let layout: &Layout = node.layout();
    let certificate = kubelet_certificate(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::root(layout.name(), node.name()),
        "failSwapOn": false,
        "staticPodPath": MANIFESTS,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("kubernetes-ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "tlsCertFile": layout.pki(&format!("{certificate}.crt")),
        "tlsPrivateKeyFile": layout.pki(&format!("{certificate}.key")),
        "evictionHard": {"memory.available": "100Mi"},
        // Images come from files; what the kubelet removed to save space nobody could pull again.
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "/etc/resolv.conf",
        // Stories that end programs again and again would wait for minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    })
    .to_string()
}
