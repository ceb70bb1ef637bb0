//! A control-plane node that `kubectl strongroom bootstrap` has set up: static pods under a real kubelet, and an API server
//! that encrypts with them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use strongroom_hack::{
    cluster::{Health, Node, Options, Process, ScopedCluster},
    image::{self, Written},
    programs::Build,
};

use crate::{
    envelope,
    world::{secret_path, wait},
};

/// Where bootstrap puts the `EncryptionConfiguration`.
pub const ENCRYPTION: &str = "/etc/strongroom/apiserver/encryption.yaml";
/// How long containers may take to come back on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(120);

/// A cluster whose nodes have the images.
pub struct ControlPlane {
    /// The cluster.
    pub cluster: ScopedCluster,
    written: Written,
    images: tempfile::TempDir,
}

impl ControlPlane {
    /// Starts a cluster of nodes that are all control planes and loads the images; nothing of ours runs yet.
    ///
    /// # Errors
    /// When the images cannot be built, or a node does not become ready.
    pub fn start(name: &str, nodes: usize) -> Result<Self> {
        let images = tempfile::tempdir()?;
        // The program works for root where others may not enter, such as in root's home.
        fs::set_permissions(images.path(), Permissions::from_mode(0o700))?;
        let written = image::write(images.path(), Build::Image)?;
        let cluster = ScopedCluster::up(Options::new(name.parse()?).with_nodes(nodes, nodes)?)?;
        for image in &written.images {
            cluster.load_image(&image.archive)?;
        }
        Ok(Self {
            cluster,
            written,
            images,
        })
    }

    /// Starts a cluster of one node, sets it up and lets its API server encrypt.
    ///
    /// # Errors
    /// As `start`, or with what bootstrap says.
    pub fn bootstrapped(name: &str, arguments: &[&str]) -> Result<Self> {
        let control_plane = Self::start(name, 1)?;
        control_plane.bootstraps(arguments)?;
        let node = control_plane.node()?;
        node.set_encryption(ENCRYPTION)?;
        node.restart_api_server(Health::Ready)?;
        Ok(control_plane)
    }

    /// A folder of the machine that nodes see too.
    #[must_use]
    pub fn shared(&self) -> &Path {
        self.images.path()
    }

    /// The first node.
    ///
    /// # Errors
    /// Never for a cluster of ours.
    pub fn node(&self) -> Result<Node<'_>> {
        self.cluster.node("node-0")
    }

    /// The command line that nodes have.
    #[must_use]
    pub fn kubectl_strongroom(&self) -> &Path {
        &self.written.kubectl_strongroom
    }

    /// `kubectl strongroom` as root on the first node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn strongroom(&self, arguments: &[&str]) -> Result<Output> {
        self.strongroom_on(self.node()?, arguments)
    }

    /// `kubectl strongroom` as root on a node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn strongroom_on(&self, node: Node<'_>, arguments: &[&str]) -> Result<Output> {
        let mut command: Command = node.command(&self.written.kubectl_strongroom)?;
        Ok(command.args(arguments).output()?)
    }

    /// `kubectl strongroom bootstrap` with the words that every run here needs.
    ///
    /// # Errors
    /// As `strongroom`.
    pub fn bootstrap(&self, arguments: &[&str]) -> Result<Output> {
        let address = format!("--address={}", self.node()?.address());
        let fixed = ["bootstrap", "--no-kubeconfig", &address];
        self.strongroom(&[&fixed, arguments].concat())
    }

    /// Sets the first node up with the key service's own access to the cluster, which the cluster's authority signs, so that
    /// it knows whose tokens count.
    ///
    /// # Errors
    /// With what bootstrap said when it failed.
    pub fn bootstraps_with_access(&self, more: &[&str]) -> Result<String> {
        let pki = self.shared().join("pki");
        fs::create_dir_all(&pki)?;
        let layout = self.cluster.layout();
        for end in ["crt", "key"] {
            let authority = layout.pki(&format!("kubernetes-ca.{end}"));
            fs::copy(authority, pki.join("ca").with_extension(end))?;
        }
        let address = self.node()?.address();
        let arguments = [
            format!("--address={address}"),
            format!("--api-server=https://{address}:6443"),
            format!("--cluster-pki={}", pki.display()),
        ];
        let arguments = arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = ["bootstrap"].into_iter().chain(arguments).collect();
        succeeded(self.strongroom(&[&arguments, more].concat())?)
    }

    /// What a bootstrap that must succeed prints.
    ///
    /// # Errors
    /// With what it said when it failed.
    pub fn bootstraps(&self, arguments: &[&str]) -> Result<String> {
        succeeded(self.bootstrap(arguments)?)
    }

    /// Writes a Secret and sees that it is encrypted in etcd.
    ///
    /// # Errors
    /// As the API server, or when it lies there in clear.
    pub fn create_secret(&self, name: &str) -> Result<()> {
        let literal = format!("--from-literal=name={name}");
        self.cluster
            .kubectl(&["create", "secret", "generic", name, &literal])?;
        let raw = self.cluster.etcd_get(&secret_path(name))?;
        envelope::parse(&raw.context("the Secret is in etcd")?.value)?;
        Ok(())
    }

    /// Reads a Secret that `create_secret` wrote.
    ///
    /// # Errors
    /// As the API server, or when it is another one.
    pub fn check_secret(&self, name: &str) -> Result<()> {
        let template = "{{.data.name | base64decode}}";
        let read = self.cluster.kubectl(&[
            "get",
            "secret",
            name,
            "-o",
            &format!("go-template={template}"),
        ])?;
        ensure!(read == name, "{name} reads as {read}");
        Ok(())
    }

    /// The process of a program that serves; the agent's worker is not one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn process(&self, program: &str) -> Result<Process> {
        let node = self.node()?;
        let serving = || -> Result<Option<Process>> {
            let processes = node.processes(program)?;
            Ok(processes.into_iter().find(|process| serves(*process)))
        };
        wait(LIMIT, &format!("{program} runs"), || {
            Ok(serving()?.is_some())
        })?;
        serving()?.with_context(|| format!("{program} has just ended"))
    }

    /// What `/readyz` of a program says: status and text. The ports are those of the samples.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn readyz(&self, port: u16) -> Result<String> {
        let url = format!("http://127.0.0.1:{port}/readyz");
        self.node()?
            .output("curl", &["-sS", "--max-time", "2", &url])
    }
}

fn serves(process: Process) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", process.id())).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"serve")
}

/// Standard output of a program that must succeed.
///
/// # Errors
/// With what it said when it failed.
pub fn succeeded(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
