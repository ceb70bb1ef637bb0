//! The folder of one cluster: configuration, keys, logs, and a record of each process that runs.
//! It is private to the user, and it alone decides what `down` ends.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::namespace;
use super::node::cgroup;
use super::process::Process;
use super::records::Records;
use crate::paths;

/// The name of a cluster or of a node: lower-case letters, digits and dashes, at most 24 of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (1..=24).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ensure!(fits, "name {text:?} is not 1 to 24 of a-z, 0-9 and -");
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the files of one cluster are.
#[derive(Clone, Debug)]
pub struct Layout {
    name: Name,
    root: PathBuf,
}

impl Layout {
    /// Returns the layout of the cluster with this name, whether it exists or not.
    pub fn new(name: &Name) -> Self {
        Self {
            name: name.clone(),
            root: paths::clusters().join(&name.0),
        }
    }

    /// Returns the cluster's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the cluster's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    /// Returns the `EncryptionConfiguration` that the API server watches.
    pub fn encryption(&self) -> PathBuf {
        self.root.join("encryption.yaml")
    }

    /// Returns the API server's audit log, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.root.join("log/api-audit.log")
    }

    /// Returns the output of a member.
    pub fn log(&self, member: &str) -> PathBuf {
        self.root.join("log").join(format!("{member}.log"))
    }

    /// Returns a file below the folder for certificates and keys.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.root.join("pki").join(file)
    }

    /// Returns a file or folder of a node that does not belong to the node's own disk.
    pub(super) fn node(&self, node: &Name, file: &str) -> PathBuf {
        self.root.join("nodes").join(&node.0).join(file)
    }

    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.root.join("images").join(name)
    }

    pub(super) fn audit_policy(&self) -> PathBuf {
        self.root.join("audit-policy.yaml")
    }

    pub(super) fn etcd_data(&self) -> PathBuf {
        self.root.join("etcd")
    }

    pub(super) fn options(&self) -> PathBuf {
        self.root.join("options.json")
    }

    fn records(&self) -> Records {
        Records::new(self.root.join("processes"))
    }

    /// Creates the folders. The creation of the root is what excludes a second start of the same name.
    pub(super) fn create(&self) -> Result<()> {
        ensure_private_folder(&paths::clusters())?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .create(&self.root)
            .with_context(|| format!("cannot create {:?}", self.root))?;
        for folder in ["etcd", "images", "log", "nodes", "pki", "processes"] {
            builder.create(self.root.join(folder))?;
        }
        Ok(())
    }

    /// Removes everything, and the folder of all clusters when it was the last.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.root).with_context(|| format!("cannot remove {:?}", self.root))?;
        // It fails while another cluster lives there, which is right.
        let _ = fs::remove_dir(paths::clusters());
        Ok(())
    }

    pub(super) fn record_process(&self, name: &str, process: Process) -> Result<()> {
        self.records().record(name, process)
    }

    /// Returns the process of that name, when it is alive.
    pub fn process(&self, name: &str) -> Result<Option<Process>> {
        self.records().process(name)
    }

    /// Returns the name of some process that is alive.
    pub(super) fn living_process(&self) -> Result<Option<String>> {
        self.records().living()
    }

    /// Ends a process without giving it the time to do anything about it.
    pub(super) fn kill_process(&self, name: &str) -> Result<()> {
        if let Some(process) = self.process(name)? {
            process.kill()?;
        }
        self.stop_process(name)
    }

    pub(super) fn stop_process(&self, name: &str) -> Result<()> {
        self.records().stop(name)
    }

    /// Ends all processes: nodes, recorded members, then whatever else is inside the namespace, then its holder.
    pub(super) fn stop_processes(&self) -> Result<()> {
        for name in self.records().names()? {
            if name.ends_with(namespace::NODE_HOLDER) {
                self.kill_process(&name)?;
            }
        }
        cgroup::remove_all(&self.name)?;
        // The reverse order of the alphabet ends the API server before etcd, which it would wait for.
        for name in self.records().names()? {
            if name != namespace::HOLDER {
                self.stop_process(&name)?;
            }
        }
        if let Some(holder) = self.process(namespace::HOLDER)? {
            for stray in namespace::inhabitants(holder)? {
                stray.stop()?;
            }
        }
        self.stop_process(namespace::HOLDER)
    }
}

/// Creates the folder, or makes sure that the one that is there is ours alone: its name can be guessed.
fn ensure_private_folder(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => bail!("cannot create {}: {error}", path.display()),
    }
    let metadata = fs::symlink_metadata(path)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw();
    ensure!(
        ours && metadata.mode() & 0o077 == 0,
        "{} is not a private folder of this user; remove it and try again",
        path.display()
    );
    Ok(())
}

pub(super) fn names() -> Result<Vec<Name>> {
    let folder = paths::clusters();
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name();
        names.extend(OsStr::to_str(&file).and_then(|text| text.parse().ok()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_leaves_the_folder_is_refused() {
        for text in ["", ".", "..", "a/b", "A", "a b", &"a".repeat(25)] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert_eq!("e2e-1".parse::<Name>().unwrap().to_string(), "e2e-1");
    }

    #[test]
    fn folder_that_others_can_open_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        ensure_private_folder(folder.path()).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(ensure_private_folder(folder.path()).is_err());
    }
}
