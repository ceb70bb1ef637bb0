//! A node on which the charts are installed as they are by default, with nothing of ours outside of the cluster, and an
//! administrator of the cluster in front of it who has `kubectl strongroom` and a kubeconfig.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_hack::{
    charts::{self, Chart},
    cluster::{BUSYBOX, Node},
};
use tempfile::TempDir;

use crate::{answer::Answer, control_plane::ControlPlane, refusal::Refusal, world::wait};

/// Where the release is.
pub const SYSTEM: &str = "strongroom-system";
/// Where the driver is.
pub const DRIVERS: &str = "strongroom-csi";
/// kubelet tries a mount again after two minutes at most.
pub const LIMIT: Duration = Duration::from_secs(240);

/// The node, and the administrator's home.
pub struct Installed {
    /// The node and its cluster.
    pub stage: ControlPlane,
    home: TempDir,
}

impl Installed {
    /// Starts a node and installs the charts on it.
    ///
    /// # Errors
    /// As helm, or when the images cannot be built.
    pub fn begin(name: &str) -> Result<Self> {
        Self::on(ControlPlane::start(name, 1)?)
    }

    /// Installs the charts on a node.
    ///
    /// # Errors
    /// As helm.
    pub fn on(stage: ControlPlane) -> Result<Self> {
        let installed = Self {
            stage,
            home: tempfile::tempdir()?,
        };
        installed.kubectl(&["create", "namespace", SYSTEM])?;
        for (release, chart) in [("crds", Chart::Crds), ("strongroom", Chart::Strongroom)] {
            let folder = chart.folder();
            let folder = folder.to_str().context("a path in UTF-8")?;
            let words = ["install", release, folder, "--namespace", SYSTEM];
            let more = ["--wait", "--timeout=3m"];
            charts::run_helm(&installed.stage.cluster, &[&words[..], &more].concat())?;
        }
        wait(LIMIT, "the operator tells how it is", || {
            Ok(installed.kubectl(&["get", "keyservice", "default"]).is_ok())
        })?;
        let ready = ["wait", "--for=condition=Ready", "keyservice/default"];
        installed.kubectl(&[&ready[..], &["--timeout=180s"]].concat())?;
        Ok(installed)
    }

    /// The node.
    ///
    /// # Errors
    /// Never for a cluster of ours.
    pub fn node(&self) -> Result<Node<'_>> {
        self.stage.node()
    }

    /// `kubectl` as the cluster's administrator.
    ///
    /// # Errors
    /// As kubectl.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.stage.cluster.kubectl(words)
    }

    /// The same in a namespace.
    ///
    /// # Errors
    /// As kubectl.
    pub fn within(&self, namespace: &str, words: &[&str]) -> Result<String> {
        self.kubectl(&[&["-n", namespace], words].concat())
    }

    /// Applies a manifest, in which `IMAGE` is an image with a shell.
    ///
    /// # Errors
    /// As kubectl.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let words = ["apply", "--server-side", "-f", "-"];
        let manifest = manifest.replace("IMAGE", BUSYBOX);
        let applied = self.stage.cluster.kubectl_with_input(&words, &manifest);
        applied.map(drop)
    }

    /// Runs a script in the first container of a pod.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, namespace: &str, pod: &str, script: &str) -> Result<String> {
        self.within(namespace, &["exec", pod, "--", "sh", "-c", script])
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        let pod = format!("pod/{pod}");
        let words = ["wait", "--for=condition=Ready", &pod, "--timeout=240s"];
        self.within(namespace, &words).map(drop)
    }

    /// Runs `kubectl strongroom` with the administrator's kubeconfig, and kubectl in its path.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn strongroom(&self, words: &[&str]) -> Result<Answer> {
        self.strongroom_of(self.home(), words)
    }

    /// The same for somebody with another home, so with another certificate.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn strongroom_of(&self, home: &Path, words: &[&str]) -> Result<Answer> {
        let node = self.node()?;
        let mut command = node.command(self.stage.kubectl_strongroom())?;
        command.args(words).env("HOME", home).stdin(Stdio::null());
        Answer::of(&mut command)
    }

    /// The administrator's home. It is seen on the node, too.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What `why` says of a pod: the code with which it ended, and the sentence of the first broken link.
    ///
    /// # Errors
    /// When nothing is broken.
    pub fn why(&self, namespace: &str, pod: &str) -> Result<(i32, String)> {
        let pod = format!("pod/{pod}");
        let answer = self.strongroom(&["why", &pod, "-n", namespace, "-o", "json"])?;
        let json: Value =
            serde_json::from_str(&answer.out).with_context(|| format!("{answer:?}"))?;
        let sentence = json["broken"]["message"].as_str();
        let sentence = sentence.with_context(|| format!("nothing is broken: {json}"))?;
        Ok((answer.code, sentence.to_owned()))
    }

    /// What kubelet's events say of a pod's volume.
    ///
    /// # Errors
    /// As kubectl.
    pub fn refusals(&self, namespace: &str, pod: &str) -> Result<Vec<Refusal>> {
        Refusal::of_pod(pod, |words| self.within(namespace, words))
    }

    /// Checks that nothing of ours is mounted for a pod, nor any folder of its volume left.
    ///
    /// # Errors
    /// When something is.
    pub fn check_nothing_is_left(&self, namespace: &str, pod: &str) -> Result<()> {
        let uid = "jsonpath={.metadata.uid}";
        let uid = self.within(namespace, &["get", "pod", pod, "-o", uid])?;
        let mounts = self.node()?.output("cat", &["/proc/self/mountinfo"])?;
        let left = mounts
            .lines()
            .find(|line| line.contains(&uid) && line.contains(" strongroom "));
        ensure!(left.is_none(), "{pod}: {left:?}");
        let volume = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/secrets/mount");
        let volume = self.node()?.on_disk(&volume);
        let files = volume.read_dir().map_or(0, Iterator::count);
        ensure!(files == 0, "{pod}: {files} files in {}", volume.display());
        Ok(())
    }
}
