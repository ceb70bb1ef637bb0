//! Our charts as users handle them, with the real helm: rendered without a cluster, or put into one of ours.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::paths;
use crate::run::run_quietly;
use crate::tools::{self, Module};

/// A chart of the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// The custom resources.
    Crds,
    /// Everything else.
    Strongroom,
}

impl Chart {
    /// Returns its folder.
    #[must_use]
    pub fn folder(self) -> PathBuf {
        let name = match self {
            Self::Crds => "strongroom-crds",
            Self::Strongroom => "strongroom",
        };
        paths::checkout().join("charts").join(name)
    }

    /// Renders it for a namespace, as a cluster of that version would get it; no cluster is asked.
    ///
    /// # Errors
    /// With what helm said.
    pub fn render(self, namespace: &str, kubernetes: &str, arguments: &[&str]) -> Result<String> {
        let mut command = alone(Command::new(helm()?));
        command
            .args(["template", "strongroom"])
            .arg(self.folder())
            .args(["--namespace", namespace, "--kube-version", kubernetes])
            .args(arguments);
        Ok(String::from_utf8(run_quietly(&mut command)?)?)
    }
}

/// Runs helm as a cluster's administrator and returns what it prints.
///
/// # Errors
/// With what helm said.
pub fn run_helm(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = alone(cluster.administrator_command(helm()?));
    command.args(arguments).stdin(Stdio::null());
    Ok(String::from_utf8(run_quietly(&mut command)?)?)
}

/// Returns helm, built when it was not yet.
///
/// # Errors
/// When it cannot be built.
pub fn helm() -> Result<PathBuf> {
    Ok(tools::ensure_built(Module::Helm)?.join("helm"))
}

/// Without the plugins and settings of whoever runs the tests.
fn alone(mut command: Command) -> Command {
    for variable in [
        "HELM_CACHE_HOME",
        "HELM_CONFIG_HOME",
        "HELM_DATA_HOME",
        "HELM_PLUGINS",
    ] {
        command.env(variable, "/nonexistent");
    }
    command
}
