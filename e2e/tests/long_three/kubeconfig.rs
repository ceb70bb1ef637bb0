//! The key service's own access to the cluster, as bootstrap writes it: the API server knows its user, and gives it what it
//! is for and nothing else; the key service learns keys with it and shows its root and its instance.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use strongroom_e2e::{control_plane::succeeded, world::wait};
use strongroom_hack::cluster::Node;

use super::trio::Trio;

const KUBECONFIG: &str = "/etc/strongroom/kubeconfig";
const RIGHTS: &str = "/etc/strongroom/rbac.yaml";
const LIMIT: Duration = Duration::from_secs(120);
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
    shows_root_and_instance(trio)?;
    may_touch_nothing_else(node)
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

/// The key service makes its ConfigMaps by itself, however late its rights come.
fn shows_root_and_instance(trio: &Trio) -> Result<()> {
    let node = trio.first()?;
    let read = |name: &str, key: &str| {
        let path = format!("jsonpath={{.data.{key}}}");
        let namespace = "--namespace=strongroom-system";
        node.kubectl(&["get", "configmap", name, namespace, "-o", &path])
    };
    let root = fs::read_to_string(node.on_disk("/etc/strongroom/administrator/ca.pem"))?;
    wait(LIMIT, "the root is shown", || {
        let shown = read("strongroom-ca", r"ca\.crt")?;
        Ok(shown.trim() == root.trim())
    })?;
    let values = trio
        .control_plane
        .strongroom_on(node, &["bootstrap", "values"])?;
    let values = succeeded(values)?;
    ensure!(
        values.contains(&format!("- {}:8445", node.address())) && values.contains("mode: External"),
        "{values}"
    );
    let status = ["status", "--output=json"];
    let said = succeeded(trio.control_plane.strongroom_on(node, &status)?)?;
    wait(LIMIT, "the witness names the instance", || {
        let named = read("strongroom-witness", "instanceId")?;
        Ok(named.len() == 32 && said.contains(&named))
    })?;
    let metrics = node.output("curl", &["-sS", "http://127.0.0.1:8080/metrics"])?;
    ensure!(metrics.contains("strongroom_kubernetes_up{duty=\"keys\"} 1"));
    Ok(())
}

fn may_touch_nothing_else(node: Node<'_>) -> Result<()> {
    let namespace = "--namespace=strongroom-system";
    for words in [
        &["get", "configmap", "kube-root-ca.crt", namespace][..],
        &["create", "configmap", "other", namespace],
        &["delete", "configmap", "strongroom-ca", namespace],
        &["get", "secrets", namespace],
        &["get", "secrets", "--namespace=default"],
    ] {
        refused(node, words)?;
    }
    Ok(())
}
