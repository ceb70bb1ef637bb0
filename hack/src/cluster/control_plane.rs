//! etcd and the API server: their flags and files. Nodes add members of their own beside these.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::layout::Layout;
use super::member::Member;
use super::network::{API_SERVER as API_ADDRESS, SERVICES};
use super::{Release, pki};
use crate::tools::{self, Module};

/// The member that stores.
pub(super) const ETCD: &str = "etcd";

/// The member that serves the API.
pub(super) const API_SERVER: &str = "kube-apiserver";

/// Where etcd serves, inside the namespace.
pub(super) const ETCD_CLIENT_URL: &str = "https://127.0.0.1:2379";

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

pub(super) fn write_files(layout: &Layout) -> Result<()> {
    pki::write(layout)?;
    fs::write(layout.audit_policy(), AUDIT_POLICY)?;
    fs::write(layout.kubeconfig(), kubeconfig(layout))?;
    Ok(())
}

/// JSON is YAML, and serde writes it with every path quoted.
fn kubeconfig(layout: &Layout) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{API_ADDRESS}:6443"),
            "certificate-authority": layout.pki("kubernetes-ca.crt"),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate": layout.pki("admin.crt"),
            "client-key": layout.pki("admin.key"),
        }}],
        "contexts": [{"name": "admin", "context": {"cluster": "cluster", "user": "admin"}}],
        "current-context": "admin",
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
        .flag("listen-client-urls", ETCD_CLIENT_URL)
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

pub(super) fn api_server(layout: &Layout, tools: &Tools) -> Member {
    Member::new(API_SERVER, &tools.api_server)
        .flag("etcd-servers", ETCD_CLIENT_URL)
        .flag("etcd-cafile", layout.pki("etcd-ca.crt"))
        .flag("etcd-certfile", layout.pki("etcd-client.crt"))
        .flag("etcd-keyfile", layout.pki("etcd-client.key"))
        .flag("advertise-address", API_ADDRESS)
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
        .flag("audit-policy-file", layout.audit_policy())
        .flag("audit-log-path", layout.audit_log())
        .flag("encryption-provider-config", layout.encryption())
        .flag("encryption-provider-config-automatic-reload", "true")
}
