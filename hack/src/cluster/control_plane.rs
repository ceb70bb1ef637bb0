//! etcd and the API server: their flags and files. Nodes add members of their own beside these.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::layout::Layout;
use super::member::Member;
use super::network::{self, CLUSTER, SERVICES};
use super::{NodeOptions, Release, pki};
use crate::tools::{self, Module};

/// The member that stores.
pub(super) const ETCD: &str = "etcd";

/// The member that serves the API.
pub(super) const API_SERVER: &str = "kube-apiserver";

/// Where etcd serves, inside the cluster's namespace.
pub(super) const ETCD_CLIENT_URL: &str = "https://127.0.0.1:2379";

/// Where etcd serves the API servers of nodes.
pub(super) const ETCD_NODES_URL: &str = "https://198.18.0.1:2379";

const ETCD_PEER_URL: &str = "https://127.0.0.1:2380";

/// Secrets are stored as they are. The API server wants a file even so, because it only watches for changes
/// of a file that was there at its start.
pub(super) const IDENTITY_ENCRYPTION: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - identity: {}
";

/// Every request is logged, none with its body: bodies of Secrets would be plaintext on disk.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// The binaries of a cluster.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) etcd: PathBuf,
    pub(super) etcdctl: PathBuf,
    pub(super) api_server: PathBuf,
    pub(super) kubectl: PathBuf,
}

impl Tools {
    pub(super) fn ensure_built(release: Release) -> Result<Self> {
        let etcd = tools::ensure_built(Module::Etcd)?;
        let newest = tools::ensure_built(Module::Kubernetes)?;
        Ok(Self {
            etcd: etcd.join("etcd"),
            etcdctl: etcd.join("etcdctl"),
            api_server: tools::ensure_built(release.module())?.join("kube-apiserver"),
            kubectl: newest.join("kubectl"),
        })
    }
}

pub(super) fn write_files(layout: &Layout, nodes: &[NodeOptions]) -> Result<()> {
    pki::write(layout, nodes)?;
    fs::write(layout.audit_policy(), AUDIT_POLICY)?;
    let text = kubeconfig(layout, &administrators_address(nodes), "admin");
    fs::write(layout.kubeconfig(), text)?;
    Ok(())
}

/// Returns where administrators find an API server: on the first control-plane node, if there are nodes.
fn administrators_address(nodes: &[NodeOptions]) -> String {
    match nodes.iter().position(|node| node.control_plane) {
        Some(number) => network::node_address(number).to_string(),
        None => CLUSTER.to_owned(),
    }
}

/// Returns the kubeconfig of a user with a certificate of ours. JSON is YAML, and serde writes it with every
/// path quoted.
pub(super) fn kubeconfig(layout: &Layout, address: &str, certificate: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{address}:6443"),
            "certificate-authority": layout.pki("kubernetes-ca.crt"),
        }}],
        "users": [{"name": certificate, "user": {
            "client-certificate": layout.pki(&format!("{certificate}.crt")),
            "client-key": layout.pki(&format!("{certificate}.key")),
        }}],
        "contexts": [{"name": certificate, "context": {"cluster": "cluster", "user": certificate}}],
        "current-context": certificate,
    })
    .to_string()
}

pub(super) fn etcd(layout: &Layout, tools: &Tools) -> Member {
    let certificate = layout.pki("etcd-server.crt");
    let key = layout.pki("etcd-server.key");
    let authority = layout.pki("etcd-ca.crt");
    Member::new(ETCD, &tools.etcd)
        .flag("name", "etcd0")
        .flag("data-dir", layout.etcd_data())
        .flag(
            "listen-client-urls",
            format!("{ETCD_CLIENT_URL},{ETCD_NODES_URL}"),
        )
        .flag("advertise-client-urls", ETCD_CLIENT_URL)
        .flag("listen-peer-urls", ETCD_PEER_URL)
        .flag("initial-advertise-peer-urls", ETCD_PEER_URL)
        .flag("initial-cluster", format!("etcd0={ETCD_PEER_URL}"))
        .flag("cert-file", &certificate)
        .flag("key-file", &key)
        .flag("trusted-ca-file", &authority)
        .flag("client-cert-auth", "true")
        .flag("peer-cert-file", &certificate)
        .flag("peer-key-file", &key)
        .flag("peer-trusted-ca-file", &authority)
        .flag("peer-client-cert-auth", "true")
}

/// What differs between the API servers of a cluster.
#[derive(Debug)]
pub(super) struct ApiServer {
    /// Where others reach it.
    pub(super) address: String,
    /// Where it reaches etcd.
    pub(super) etcd: &'static str,
    /// Its `EncryptionConfiguration`.
    pub(super) encryption: PathBuf,
    /// Its audit log.
    pub(super) audit_log: PathBuf,
}

impl ApiServer {
    /// Returns the one that runs when there are no nodes.
    pub(super) fn alone(layout: &Layout) -> Self {
        Self {
            address: CLUSTER.to_owned(),
            etcd: ETCD_CLIENT_URL,
            encryption: layout.encryption(),
            audit_log: layout.audit_log(),
        }
    }

    pub(super) fn member(&self, layout: &Layout, tools: &Tools) -> Member {
        let Self {
            address,
            etcd,
            encryption,
            audit_log,
        } = self;
        Member::new(API_SERVER, &tools.api_server)
            .flag("etcd-servers", etcd)
            .flag("etcd-cafile", layout.pki("etcd-ca.crt"))
            .flag("etcd-certfile", layout.pki("etcd-client.crt"))
            .flag("etcd-keyfile", layout.pki("etcd-client.key"))
            .flag("advertise-address", address)
            .flag("secure-port", "6443")
            .flag("tls-cert-file", layout.pki("api-server.crt"))
            .flag("tls-private-key-file", layout.pki("api-server.key"))
            .flag("client-ca-file", layout.pki("kubernetes-ca.crt"))
            .flag("service-cluster-ip-range", SERVICES)
            .flag("service-account-issuer", "https://kubernetes.default.svc")
            .flag(
                "service-account-key-file",
                layout.pki("service-accounts.pub"),
            )
            .flag(
                "service-account-signing-key-file",
                layout.pki("service-accounts.key"),
            )
            .flag("authorization-mode", "Node,RBAC")
            .flag("enable-admission-plugins", "NodeRestriction")
            .flag("allow-privileged", "true")
            // Names of nodes do not resolve.
            .flag("kubelet-preferred-address-types", "InternalIP")
            .flag(
                "kubelet-certificate-authority",
                layout.pki("kubernetes-ca.crt"),
            )
            .flag(
                "kubelet-client-certificate",
                layout.pki("kubelet-client.crt"),
            )
            .flag("kubelet-client-key", layout.pki("kubelet-client.key"))
            .flag("audit-policy-file", layout.audit_policy())
            .flag("audit-log-path", audit_log)
            .flag("encryption-provider-config", encryption)
            .flag("encryption-provider-config-automatic-reload", "true")
    }
}
