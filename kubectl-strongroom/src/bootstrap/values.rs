//! `bootstrap values`: what the chart needs to know of this installation.

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::{
    host::{LookError, Root},
    instance,
    layout::ADMINISTRATOR,
};

const KEY_SERVICE_CONFIG: &str = "/etc/strongroom/key-service/config.yaml";

/// Why there are no values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValuesError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("there is no instance on this node yet; run `kubectl strongroom bootstrap` first")]
    NoInstance,
    #[error(
        "{ADMINISTRATOR}/ca.pem is not a certificate; run `kubectl strongroom bootstrap` again"
    )]
    NoRoot,
    #[error("the key service's configuration cannot be read")]
    Config(#[source] serde_yaml_ng::Error),
    #[error(
        "the key service has no port for operator and drivers; run `kubectl strongroom bootstrap` without --no-kubeconfig"
    )]
    NoWorkloads,
    #[error(
        "the key service listens on loopback only, where no pod reaches it; run `kubectl strongroom bootstrap` with \
         --address"
    )]
    Loopback,
}

/// The chart's values, each of which its schema knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Values {
    cluster: Cluster,
    key_service: KeyService,
}

#[derive(Debug, Serialize)]
struct Cluster {
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyService {
    mode: &'static str,
    endpoints: Vec<String>,
    /// The root's digest, in hexadecimal. Every instance has a root of its own, so this names the instance, too.
    ca_sha256: String,
}

#[derive(Deserialize)]
struct Config {
    workloads: Option<Workloads>,
    #[serde(default)]
    clusters: Vec<Registered>,
}

/// A cluster whose tokens count.
#[derive(Deserialize)]
struct Registered {
    name: String,
}

/// Where operator and drivers come in.
#[derive(Deserialize)]
struct Workloads {
    listen: std::net::SocketAddr,
}

impl Values {
    pub(super) fn look(root: &Root) -> Result<Self, ValuesError> {
        instance::look(root)?.ok_or(ValuesError::NoInstance)?;
        let ca = root
            .read(format!("{ADMINISTRATOR}/ca.pem"))?
            .unwrap_or_default();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|_| ValuesError::NoRoot)?;
        let config = root.read(KEY_SERVICE_CONFIG)?.unwrap_or_default();
        let config: Config = serde_yaml_ng::from_str(&config).map_err(ValuesError::Config)?;
        let workloads = config.workloads.ok_or(ValuesError::NoWorkloads)?;
        let cluster = config.clusters.into_iter().next();
        let Registered { name } = cluster.ok_or(ValuesError::NoWorkloads)?;
        if workloads.listen.ip().is_loopback() {
            return Err(ValuesError::Loopback);
        }
        Ok(Self {
            cluster: Cluster { name },
            key_service: KeyService {
                mode: "External",
                endpoints: vec![workloads.listen.to_string()],
                ca_sha256: hex::encode(digest(&SHA256, &ca)),
            },
        })
    }
}
