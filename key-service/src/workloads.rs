//! From the configured clusters to what knows their tokens. Read at the start; nothing is guessed for a file that is missing.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use strongroom_auth::{Cluster, ClustersError, IssuerKeys, IssuerKeysError, TokenVerifier};
use strongroom_core::{ObjectName, Tenant, UnixMillis};
use strongroom_runtime::metrics::Metrics;

use crate::{
    config::{AccountConfig, ClusterConfig, Config},
    service::{PodsMetrics, Workloads},
};

/// Largest file of keys that is read.
const KEYS_FILE_MAX: u64 = 1024 * 1024;

/// Why tokens of a configured cluster could not be verified. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadsError {
    /// The file cannot be read.
    #[error("cannot read the keys of a cluster, {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is no set of keys.
    #[error("the keys of a cluster, {path}, cannot be used")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IssuerKeysError,
    },
    /// The clusters cannot be told apart.
    #[error("the configured clusters cannot be registered together")]
    Clusters(#[source] ClustersError),
}

/// Registers the configured clusters, in a process that began at that moment.
pub(crate) fn load(
    config: &Config,
    metrics: &Metrics,
    began: UnixMillis,
) -> Result<Workloads, WorkloadsError> {
    // Those whose keys and issuer are not written down are registered as soon as their API server has told them.
    let clusters = config.clusters.iter().filter_map(cluster);
    let clusters = clusters.collect::<Result<_, _>>()?;
    let names = config.clusters.iter().map(|cluster| cluster.name.clone());
    Ok(Workloads::new(
        TokenVerifier::new(clusters).map_err(WorkloadsError::Clusters)?,
        names.collect(),
        accounts(config, |cluster| &cluster.drivers),
        accounts(config, |cluster| &cluster.operators),
        PodsMetrics::register(metrics),
        began,
    ))
}

/// The accounts that a list of each cluster names.
fn accounts(
    config: &Config,
    list: impl Fn(&ClusterConfig) -> &[AccountConfig],
) -> HashSet<(Tenant, ObjectName)> {
    let of_cluster = |cluster: &ClusterConfig| -> Vec<_> {
        let account = |account: &AccountConfig| {
            let tenant = Tenant {
                cluster: cluster.name.clone(),
                namespace: account.namespace.clone(),
            };
            (tenant, account.name.clone())
        };
        list(cluster).iter().map(account).collect()
    };
    config.clusters.iter().flat_map(of_cluster).collect()
}

fn cluster(config: &ClusterConfig) -> Option<Result<Cluster, WorkloadsError>> {
    let (path, issuer) = (config.keys_file.as_ref()?, config.issuer.as_ref()?);
    let registered = keys(path).map(|keys| Cluster {
        name: config.name.clone(),
        issuer: issuer.clone(),
        audience: config.audience.clone(),
        keys,
    });
    Some(registered)
}

fn keys(path: &Path) -> Result<IssuerKeys, WorkloadsError> {
    let keys = read(path).map_err(|source| WorkloadsError::Read {
        path: path.to_owned(),
        source,
    })?;
    IssuerKeys::from_jwks(&keys).map_err(|source| WorkloadsError::Keys {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(KEYS_FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
