//! Where a demo lives and how far it is. Its folder is made first and removed last, so that whatever
//! happens in between, the folder leads to everything else.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::DEFAULT_NAME;
use crate::charts;
use crate::cluster::{self, Cluster, Layout, Name, Process};
use crate::installation;
use crate::programs::Programs;

/// The name of the process that tells the story.
const TELLER: &str = "teller";

/// How far a demo is.
pub(super) enum State {
    /// There is none.
    Absent,
    /// A process is telling the story.
    Starting(Process),
    /// The story was told, and what it started runs.
    Running(String),
    /// It was interrupted, or the machine was started anew.
    Left,
}

/// The folder of one demo.
pub(super) struct Place {
    name: Name,
    root: PathBuf,
}

impl Place {
    pub(super) fn new(name: Name) -> Self {
        let root = PathBuf::from(format!("/srv/strongroom-{name}"));
        Self { name, root }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cluster(&self) -> Layout {
        Layout::new(&self.name)
    }

    /// The command that removes this demo.
    pub(super) fn down_words(&self) -> String {
        match self.name.to_string().as_str() {
            DEFAULT_NAME => "make demo-down".to_owned(),
            name => format!("cargo xtask demo-down --name {name}"),
        }
    }

    pub(super) fn state(&self) -> Result<State> {
        if !self.root.exists() {
            return Ok(State::Absent);
        }
        let records = installation::records(&self.root);
        if let Some(process) = records.process(TELLER)? {
            return Ok(State::Starting(process));
        }
        Ok(match fs::read_to_string(self.summary()) {
            Ok(summary) if records.living()?.is_some() => State::Running(summary),
            _ => State::Left,
        })
    }

    /// Makes the folder, which excludes a second demo of this name.
    pub(super) fn create(&self) -> Result<()> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the demo needs root, for its network namespace and its user ids; run this command as root"
        );
        match DirBuilder::new().mode(0o755).create(&self.root) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("a demo is being started in {}", self.root.display())
            }
            made => made.with_context(|| format!("cannot create {}", self.root.display())),
        }
    }

    /// Lets `remove` end this process too, when it is still at work.
    pub(super) fn record_ourselves(&self) -> Result<()> {
        let process = Process::with_id(std::process::id()).context("this process is in /proc")?;
        installation::records(&self.root).record(TELLER, process)
    }

    pub(super) fn finish(&self, summary: &str) -> Result<()> {
        fs::write(self.summary(), summary)?;
        fs::remove_file(self.root.join("processes").join(TELLER))?;
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        installation::records(&self.root).stop(TELLER)?;
        cluster::down(&self.name)?;
        installation::remove(&self.root)
    }

    /// Writes the commands and variables that the story uses, for shells that source the files.
    ///
    /// `kubectl`, `helm` and `etcdctl` are scripts that enter the cluster's network, and so does `kubectl strongroom`; the
    /// rest are links.
    pub(super) fn write_commands(&self, cluster: &Cluster, programs: &Programs) -> Result<()> {
        let bin = self.root.join("bin");
        fs::create_dir(&bin)?;
        let helm = charts::helm()?;
        let mut folders = cluster.client_folders();
        folders.extend(helm.parent());
        for client in ["kubectl", "etcdctl", "helm"] {
            let program = folders.iter().map(|folder| folder.join(client));
            let program = program
                .into_iter()
                .find(|path| path.exists())
                .with_context(|| format!("{client} was not built"))?;
            let enter = cluster.namespace().enter_words();
            let script = format!("#!/bin/sh\nexec {enter} {} \"$@\"\n", program.display());
            let path = bin.join(client);
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        symlink(
            programs.kubectl_strongroom(),
            bin.join("kubectl-strongroom"),
        )?;
        symlink(std::env::current_exe()?, bin.join("xtask"))?;
        let text = self.environment_text(cluster);
        let configuration = format!(
            "export STRONGROOM_CONFIG='{}/etc/administrator.yaml'\n",
            self.root.display()
        );
        fs::write(self.environment(), format!("{text}{configuration}"))?;
        fs::write(self.pods_environment(), text)?;
        Ok(())
    }

    /// The file that makes the story's commands those of a shell.
    pub(super) fn environment(&self) -> PathBuf {
        self.root.join("env")
    }

    /// The same for the first act, whose key service is in the cluster.
    pub(super) fn pods_environment(&self) -> PathBuf {
        self.root.join("pods-env")
    }

    fn environment_text(&self, cluster: &Cluster) -> String {
        let root = self.root.display();
        let mut text = format!(
            "export PATH='{root}/bin':\"$PATH\"\n\
             export KUBECONFIG='{kubeconfig}'\n",
            kubeconfig = cluster.layout().kubeconfig().display()
        );
        for (name, value) in cluster.etcdctl_environment() {
            text += &format!("export {name}='{value}'\n");
        }
        text + &format!("cd '{root}'\n")
    }

    fn summary(&self) -> PathBuf {
        self.root.join("summary.txt")
    }
}
