//! The key service's own access to the cluster, as bootstrap writes it: the API server knows its user, and gives it what it
//! is for and nothing else. No program of ours uses it yet.

use std::fs;

use anyhow::{Result, ensure};
use strongroom_hack::cluster::Node;

use super::trio::Trio;

const KUBECONFIG: &str = "/etc/strongroom/kubeconfig";
const RIGHTS: &str = "/etc/strongroom/rbac.yaml";
const KEYS: &str = "/openid/v1/jwks";

pub(crate) fn is_accepted(trio: &Trio) -> Result<()> {
    let node = trio.first()?;
    let user = run(
        node,
        &[
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
        ],
    );
    ensure!(
        user.as_deref().ok() == Some("strongroom:key-service"),
        "{user:?}"
    );
    refused(node, &["get", "--raw", KEYS])?;

    node.output("kubectl", &["apply", "-f", RIGHTS])?;
    let keys = run(node, &["get", "--raw", KEYS])?;
    ensure!(keys.contains("\"keys\""), "{keys}");
    let issuer = run(node, &["get", "--raw", "/.well-known/openid-configuration"])?;
    ensure!(issuer.contains("kubernetes.default.svc"), "{issuer}");
    may_read_a_certificate_request(trio)?;
    may_change_its_own_maps(node)
}

/// `kubectl` on the node as the key service.
fn run(node: Node<'_>, arguments: &[&str]) -> Result<String> {
    node.output(
        "kubectl",
        &[&["--kubeconfig", KUBECONFIG], arguments].concat(),
    )
}

fn refused(node: Node<'_>, arguments: &[&str]) -> Result<()> {
    let error = run(node, arguments).err().map(|error| format!("{error:#}"));
    let is_forbidden = error.as_ref().is_some_and(|text| text.contains("orbidden"));
    ensure!(is_forbidden, "{arguments:?}: {error:?}");
    Ok(())
}

/// As `kubectl strongroom login` will need it.
fn may_read_a_certificate_request(trio: &Trio) -> Result<()> {
    let node = trio.first()?;
    let key = rcgen::KeyPair::generate()?;
    let pem = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let request = serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "story"},
        "spec": {
            "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem),
            "signerName": "strongroom.dev/user",
            "usages": ["client auth"],
        },
    });
    let file = trio.control_plane.shared().join("request.json");
    fs::write(&file, request.to_string())?;
    node.kubectl(&["create", "-f", &file.display().to_string()])?;
    let name = run(node, &["get", "csr", "story", "-o", "name"])?;
    ensure!(name.contains("story"), "{name}");
    refused(node, &["get", "csr"])?;
    refused(node, &["delete", "csr", "story"])
}

fn may_change_its_own_maps(node: Node<'_>) -> Result<()> {
    let in_namespace = |words: &[&str]| run(node, &[&["--namespace=strongroom"], words].concat());
    for name in ["strongroom-ca", "strongroom-witness"] {
        node.kubectl(&["create", "configmap", name, "--namespace=strongroom"])?;
        in_namespace(&[
            "patch",
            "configmap",
            name,
            "-p",
            r#"{"data": {"story": "told"}}"#,
        ])?;
        let read = in_namespace(&["get", "configmap", name, "-o", "jsonpath={.data.story}"])?;
        ensure!(read == "told", "{read}");
    }
    for words in [
        &[
            "get",
            "configmap",
            "kube-root-ca.crt",
            "--namespace=strongroom",
        ][..],
        &[
            "delete",
            "configmap",
            "strongroom-ca",
            "--namespace=strongroom",
        ],
        &["get", "secrets", "--namespace=strongroom"],
        &["get", "secrets", "--namespace=default"],
    ] {
        refused(node, words)?;
    }
    Ok(())
}
