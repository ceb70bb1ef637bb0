//! From the configured clusters to what knows their tokens. Read at the start; nothing is guessed for a file that is missing.

use std::path::PathBuf;

use strongroom_auth::{Cluster, ClustersError, IssuerKeys, IssuerKeysError, TokenVerifier};
use strongroom_core::Tenant;
use strongroom_runtime::metrics::Metrics;

use crate::{
    config::{ClusterConfig, Config},
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

/// Registers the configured clusters.
pub(crate) fn load(config: &Config, metrics: &Metrics) -> Result<Workloads, WorkloadsError> {
    let clusters = config.clusters.iter().map(cluster);
    let clusters = clusters.collect::<Result<_, _>>()?;
    let names = config.clusters.iter().map(|cluster| cluster.name.clone());
    let drivers = config.clusters.iter().flat_map(|cluster| {
        cluster.drivers.iter().map(|driver| {
            let tenant = Tenant {
                cluster: cluster.name.clone(),
                namespace: driver.namespace.clone(),
            };
            (tenant, driver.name.clone())
        })
    });
    Ok(Workloads::new(
        TokenVerifier::new(clusters).map_err(WorkloadsError::Clusters)?,
        names.collect(),
        drivers.collect(),
        PodsMetrics::register(metrics),
    ))
}

fn cluster(config: &ClusterConfig) -> Result<Cluster, WorkloadsError> {
    let path = &config.keys_file;
    let keys = read(path).map_err(|source| WorkloadsError::Read {
        path: path.clone(),
        source,
    })?;
    let keys = IssuerKeys::from_jwks(&keys).map_err(|source| WorkloadsError::Keys {
        path: path.clone(),
        source,
    })?;
    Ok(Cluster {
        name: config.name.clone(),
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        keys,
    })
}

fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(KEYS_FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
