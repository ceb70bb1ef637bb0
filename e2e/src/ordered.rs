//! A node whose kubelet runs the API server too, as kubeadm has it, with what `bootstrap` says that its pod needs: it starts
//! when the plugin can be used.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_hack::cluster::Process;

use crate::{control_plane::ControlPlane, world::wait};

/// What kubeadm would add to the pod of the API server.
const PATCH: &str = "/etc/strongroom/kubeadm/kube-apiserver+strategic.yaml";
/// How long containers may take to come back on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(120);

/// The node, set up.
pub struct Ordered {
    /// Its cluster and what is on it.
    pub control_plane: ControlPlane,
    manifest: String,
}

impl Ordered {
    /// Sets a node up, and gives its API server to the kubelet.
    ///
    /// # Errors
    /// As bootstrap, or when the API server does not come.
    pub fn begin(name: &str) -> Result<Self> {
        let control_plane = ControlPlane::bootstrapped(name, &[])?;
        let manifest = manifest(&control_plane)?;
        let node = control_plane.node()?;
        node.leave_api_server_to_kubelet()?;
        node.run_api_server_pod(&manifest)?;
        let ordered = Self {
            control_plane,
            manifest,
        };
        ordered.wait_until_ready()?;
        Ok(ordered)
    }

    /// Has the API server wait for another time before it starts all the same.
    ///
    /// # Errors
    /// When the manifest has no such time.
    pub fn set_patience(&self, patience: &str) -> Result<()> {
        let (before, after) = ("--timeout=5m", format!("--timeout={patience}"));
        ensure!(self.manifest.contains(before), "{}", self.manifest);
        let manifest = self.manifest.replace(before, &after);
        self.control_plane.node()?.run_api_server_pod(&manifest)
    }

    /// Waits until the API server is ready. It is one process all the time.
    ///
    /// # Errors
    /// When it is not in time, or ended in between.
    pub fn wait_until_ready(&self) -> Result<Duration> {
        let (start, mut seen) = (Instant::now(), BTreeSet::new());
        loop {
            seen.extend(self.processes()?.iter().map(|process| process.id()));
            ensure!(
                seen.len() <= 1,
                "the API server was started again: {seen:?}"
            );
            let Err(error) = self.control_plane.node()?.get("/readyz") else {
                return Ok(start.elapsed());
            };
            if start.elapsed() > LIMIT {
                return Err(error).with_context(|| self.said().unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The API server's processes: one or none.
    ///
    /// # Errors
    /// As the node.
    pub fn processes(&self) -> Result<Vec<Process>> {
        self.control_plane.node()?.processes("kube-apiserver")
    }

    /// Waits until what the API server waits for is named. The API server itself does not run.
    ///
    /// # Errors
    /// When it is not named in time, or runs.
    pub fn wait_until_named(&self, sentence: &str) -> Result<()> {
        wait(LIMIT, sentence, || Ok(self.said()?.contains(sentence)))?;
        self.check_waits()
    }

    /// The API server does not run.
    ///
    /// # Errors
    /// When it runs.
    pub fn check_waits(&self) -> Result<()> {
        let processes = self.processes()?;
        ensure!(processes.is_empty(), "the API server runs: {processes:?}");
        Ok(())
    }

    /// What its init container said since the last boot. No API server shows it.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub fn said(&self) -> Result<String> {
        let logs = self.control_plane.node()?.on_disk("/var/log/pods");
        let mut said = Vec::new();
        for pod in fs::read_dir(logs)? {
            let pod = pod?.path();
            let name = pod.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("kube-system_kube-apiserver-") {
                said.extend(newest(&pod.join("strongroom-kms-plugin"))?);
            }
        }
        let last = said.into_iter().max();
        Ok(last.map_or_else(String::new, |(_, text)| text))
    }
}

/// The newest log in a folder, with its time.
fn newest(folder: &Path) -> Result<Option<(std::time::SystemTime, String)>> {
    let mut logs = Vec::new();
    for log in fs::read_dir(folder)? {
        let log = log?.path();
        logs.push((fs::metadata(&log)?.modified()?, log));
    }
    let last = logs.into_iter().max();
    last.map(|(time, path)| Ok((time, fs::read_to_string(path)?)))
        .transpose()
}

/// The pod of the API server with what bootstrap wrote for kubeadm, merged as kubeadm does.
fn manifest(control_plane: &ControlPlane) -> Result<String> {
    let node = control_plane.node()?;
    let bare = control_plane.shared().join("kube-apiserver.json");
    fs::write(&bare, node.api_server_manifest()?)?;
    let (bare, patch) = (bare.display().to_string(), node.on_disk(PATCH));
    control_plane.cluster.kubectl(&[
        "patch",
        "--local",
        "--filename",
        &bare,
        "--type=strategic",
        "--patch-file",
        &patch.display().to_string(),
        "--output=yaml",
    ])
}
