//! What pods of a cluster with nodes find there: names that resolve, and volumes. CoreDNS is a process in the
//! cluster's own namespace, so it answers whichever nodes are on.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::member::Member;
use super::network::{CLUSTER, DNS_SERVICE};
use super::{Cluster, control_plane};

/// The member that resolves names.
pub(super) const COREDNS: &str = "coredns";

/// How many local volumes a node has.
const VOLUMES: usize = 8;

/// The class of local volumes, which is the default.
pub const STORAGE_CLASS: &str = "local";

impl Cluster {
    /// Makes what pods need beside nodes: the service of names, and the local volumes.
    pub(super) fn install_addons(&self) -> Result<()> {
        let mut objects = dns_objects();
        objects.push(storage_class());
        for node in self.nodes() {
            for number in 0..VOLUMES {
                let folder = format!("/var/lib/volumes/{number}");
                fs::create_dir_all(node.on_disk(&folder))?;
                objects.push(volume(node.name().as_ref(), number, &folder));
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &list)?;
        self.start_dns()
    }

    pub(super) fn start_dns(&self) -> Result<()> {
        let address = self
            .control_planes()
            .first()
            .map_or_else(|| CLUSTER.to_owned(), |node| node.address().to_string());
        let kubeconfig = self.layout.root().join("coredns.kubeconfig");
        let text = control_plane::kubeconfig(&self.layout, &address, COREDNS);
        fs::write(&kubeconfig, text)?;
        let corefile = self.layout.root().join("Corefile");
        fs::write(&corefile, corefile_text(&kubeconfig.display().to_string()))?;
        let program = self.node_tools.coredns.join(COREDNS);
        let member = Member::new(COREDNS, program)
            .argument("-conf")
            .argument(corefile)
            .kept_running();
        self.start_member(&member).map(drop)
    }
}

fn corefile_text(kubeconfig: &str) -> String {
    format!(
        "\
.:53 {{
    bind {CLUSTER}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
"
    )
}

fn dns_objects() -> Vec<Value> {
    let port = |protocol: &str| json!({"name": format!("dns-{}", protocol.to_lowercase()), "port": 53, "protocol": protocol});
    let ports = [port("UDP"), port("TCP")];
    let rule = |groups: &[&str], resources: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": ["list", "watch"]});
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [CLUSTER], "conditions": {"ready": true}}],
            "ports": ports,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": COREDNS},
            "rules": [
                rule(&[""], &["services", "pods", "namespaces"]),
                rule(&["discovery.k8s.io"], &["endpointslices"]),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": COREDNS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": COREDNS},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": COREDNS}],
        }),
    ]
}

/// A claim is bound when its pod has a node, since a local volume is on one.
fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(node: &str, number: usize, folder: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": format!("{node}-{number}")},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": [node],
            }]}]}},
        },
    })
}
