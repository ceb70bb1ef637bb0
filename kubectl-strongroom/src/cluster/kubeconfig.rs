//! Which cluster, and who asks: found as kubectl finds it.

use std::{path::PathBuf, time::Duration};

use kube::config::{Config, KubeConfigOptions, Kubeconfig as File};

use super::ClusterError;
use crate::{args::ClusterArgs, environment::Environment};

/// An API server that says nothing for this long is taken for away.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A kubeconfig that is there, with what the command line says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kubeconfig {
    files: Vec<PathBuf>,
    context: Option<String>,
}

impl Kubeconfig {
    /// Finds the files: `--kubeconfig`, otherwise `KUBECONFIG`, otherwise `~/.kube/config`. None where there is none, as on a
    /// node.
    pub(crate) fn find(args: &ClusterArgs, environment: &Environment) -> Option<Self> {
        let ClusterArgs {
            kubeconfig,
            context,
        } = args;
        let files = match (kubeconfig, &environment.kubeconfig) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(paths)) => std::env::split_paths(paths)
                .filter(|path| path.exists())
                .collect(),
            (None, None) => environment
                .home
                .iter()
                .map(|home| home.join(".kube/config"))
                .filter(|path| path.exists())
                .collect(),
        };
        let context = context.clone();
        (!files.is_empty()).then_some(Self { files, context })
    }

    /// The same for a command that is nothing without a cluster.
    pub(crate) fn require(
        args: &ClusterArgs,
        environment: &Environment,
    ) -> Result<Self, ClusterError> {
        Self::find(args, environment).ok_or(ClusterError::NoKubeconfig)
    }

    pub(super) async fn into_config(self) -> Result<Config, ClusterError> {
        let Self { files, context } = self;
        let merged = files.iter().try_fold(File::default(), |merged, path| {
            File::read_from(path).and_then(|file| merged.merge(file))
        })?;
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(merged, &options).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        Ok(config)
    }
}
