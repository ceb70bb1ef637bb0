//! The API server as a static pod of the node's kubelet, as kubeadm runs it, instead of a process beside it. An installer finds
//! its manifest where it looks for one, and the kubelet decides when it starts.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use super::super::control_plane::API_SERVER;
use super::{Node, images};

/// The file that says so.
const NOTE: &str = "api-server-is-a-pod";

/// Where the kubelet finds the manifest.
const API_SERVER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

impl Node<'_> {
    /// Ends the API server; from now on only a static pod runs it, after the node was off as well. Its image is loaded, and
    /// [`Node::run_api_server_pod`] starts it.
    ///
    /// # Errors
    /// Fails when the image cannot be made or loaded, or the process outlives SIGKILL.
    pub fn leave_api_server_to_kubelet(&self) -> Result<()> {
        images::load_api_server(self)?;
        fs::write(self.file(NOTE), "")?;
        self.stop_api_server()
    }

    /// The manifest of its pod: that of kubeadm, as far as it matters here, with the flags that the process has. JSON is YAML.
    ///
    /// # Errors
    /// Fails when a flag is not UTF-8.
    pub fn api_server_manifest(&self) -> Result<String> {
        let mut command = vec![format!("/{API_SERVER}")];
        command.extend(self.api_server()?.words()?);
        let probe = |path: &str, failures: u32| {
            json!({
                "httpGet": {
                    "host": self.address().to_string(),
                    "path": path,
                    "port": 6443,
                    "scheme": "HTTPS",
                },
                "periodSeconds": 10,
                "timeoutSeconds": 15,
                "failureThreshold": failures,
            })
        };
        let folder = self.layout().root().to_str().context("a path in UTF-8")?;
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": API_SERVER,
                "namespace": "kube-system",
                "labels": {"component": API_SERVER, "tier": "control-plane"},
            },
            "spec": {
                "hostNetwork": true,
                "priorityClassName": "system-node-critical",
                "priority": 2_000_001_000,
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": API_SERVER,
                    "image": images::api_server()?,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "livenessProbe": probe("/livez", 8),
                    "readinessProbe": probe("/readyz", 3),
                    "startupProbe": probe("/livez", 24),
                    "volumeMounts": [{"name": "cluster", "mountPath": folder}],
                }],
                "volumes": [
                    {"name": "cluster", "hostPath": {"path": folder, "type": "Directory"}},
                ],
            },
        });
        Ok(manifest.to_string())
    }

    /// Gives the kubelet a manifest of the API server, in one step.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn run_api_server_pod(&self, manifest: &str) -> Result<()> {
        let next = self.on_disk("/etc/kubernetes/kube-apiserver.next");
        fs::write(&next, manifest)?;
        fs::rename(next, self.on_disk(API_SERVER_MANIFEST))?;
        Ok(())
    }

    pub(super) fn api_server_is_a_pod(&self) -> bool {
        self.file(NOTE).exists()
    }
}
