//! The configuration file. Unknown fields are refused; every default is named here; the sample is
//! `config/key-service.yaml`.

mod clusters;
mod kubernetes;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use strongroom_core::RingId;
use strongroom_runtime::configuration::{self, ConfigurationError};

pub use clusters::{AccountConfig, ClusterConfig, WorkloadsConfig};
pub use kubernetes::{InitBy, KubernetesConfig};

const MEBIBYTE: u64 = 1024 * 1024;

/// Shortest time for which a KEK may be used without the token.
const KEK_CACHE_TTL_MIN: Duration = Duration::from_secs(10);
/// Longest time for which a KEK may be used without the token.
const KEK_CACHE_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is no configuration.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// A field has a value that cannot be.
    #[error("the configuration is not valid: {0}")]
    Invalid(&'static str),
}

/// The whole file.
///
/// ```
/// let text = include_str!("../../config/key-service.yaml");
/// let config = strongroom_key_service::Config::parse(text).expect("the sample is valid");
/// assert_eq!(config.administrators[0].certificate, "administrator");
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Folder of the store and of the pins; mode 0700, owned by the service.
    pub data_dir: PathBuf,
    /// Name of this replica in the audit log: 1 to 63 of `a-z`, `0-9`, `-` and `.`.
    #[serde(default = "default_replica")]
    pub replica: String,
    /// Address of native gRPC over TLS 1.3.
    pub listen: SocketAddr,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub probes: SocketAddr,
    /// Local socket for certificates; only the service's own user id may use it.
    pub admin_socket: PathBuf,
    /// Socket for kms-plugin. None: there is no plugin on this node.
    pub kms_socket: Option<SocketConfig>,
    /// The TLS port for plugins of other control-plane nodes. None: there is no such port.
    pub plugins: Option<PluginsConfig>,
    /// The TLS port for callers with tokens of service accounts. None: there is no such port.
    pub workloads: Option<WorkloadsConfig>,
    /// Clusters whose service accounts may call, and own rings.
    #[serde(default)]
    pub clusters: Vec<ClusterConfig>,
    /// The API server that is asked for keys of tokens, and where clients find the root certificate. None: nobody is asked.
    pub kubernetes: Option<KubernetesConfig>,
    /// Where hsm-agent is.
    pub hsm_agent: AgentConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// Who administers. Never empty.
    pub administrators: Vec<Administrator>,
    /// Who else may use which ring.
    #[serde(default)]
    pub access: Vec<Access>,
    /// For how long a KEK may be used without the token: 10s to 168h.
    #[serde(
        default = "default_kek_cache_ttl",
        deserialize_with = "configuration::duration"
    )]
    pub kek_cache_ttl: Duration,
    /// Filter of the log, such as `info` or `info,strongroom_key_service=debug`.
    #[serde(default = "default_log")]
    pub log: String,
}

/// A Unix socket and who may use it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SocketConfig {
    /// Its path; its folder must be the service's own.
    pub path: PathBuf,
    /// User ids of the processes that may connect. 0 and 65534 are refused.
    pub peers: Vec<u32>,
    /// Group that the socket belongs to, so that the peers may open it.
    pub group: Option<u32>,
}

/// The TLS port for plugins of other control-plane nodes, apart from `listen`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PluginsConfig {
    /// Its address.
    pub listen: SocketAddr,
    /// What enrolment files name, HOST:PORT; `listen` when left out, unless that is every address of the machine.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

impl PluginsConfig {
    /// Where plugins connect, as enrolment files name it.
    #[must_use]
    pub fn advertised(&self) -> Vec<String> {
        if self.endpoints.is_empty() && !self.listen.ip().is_unspecified() {
            vec![self.listen.to_string()]
        } else {
            self.endpoints.clone()
        }
    }
}

/// Where hsm-agent listens and as whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AgentConfig {
    /// Path of its socket.
    pub socket: PathBuf,
    /// Its user id; another listener is refused before the first byte.
    pub uid: u32,
}

/// The audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditConfig {
    /// Its folder, better on a disk of its own.
    pub dir: PathBuf,
    /// Space for all records: 70 % for tenants, 20 % more for administration, the rest for the API server.
    #[serde(default = "default_audit_capacity_mib")]
    pub capacity_mib: u64,
    /// Space that is kept on the disk for the API server.
    #[serde(default = "default_audit_reserve_mib")]
    pub reserve_mib: u64,
    /// Size of one file.
    #[serde(default = "default_audit_segment_mib")]
    pub segment_mib: u64,
    /// How often a checkpoint is anchored in the store while there are new records: 100ms to 1h.
    #[serde(
        default = "default_checkpoint_interval",
        deserialize_with = "configuration::duration"
    )]
    pub checkpoint_interval: Duration,
}

/// A first principal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Administrator {
    /// Common name of a certificate.
    pub certificate: String,
}

/// A binding that the configuration makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Access {
    /// What for.
    pub role: Role,
    /// Common name of a certificate.
    pub certificate: String,
    /// Id of the ring.
    #[serde(deserialize_with = "configuration::parsed")]
    pub ring: RingId,
}

/// What a binding lets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Role {
    /// Encrypt with the ring's keys.
    KeyEncrypter,
    /// Decrypt with the ring's keys.
    KeyDecrypter,
    /// Reveal values of the ring's secrets.
    SecretReader,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names file, line and field.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::load(path)?;
        config.check()
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Names line and field.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = configuration::parse(Path::new("-"), text)?;
        config.check()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let require = |holds: bool, text| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::Invalid(text))
            }
        };
        require(
            !self.administrators.is_empty(),
            "administrators: name at least one, or nobody can get in",
        )?;
        require(
            (KEK_CACHE_TTL_MIN..=KEK_CACHE_TTL_MAX).contains(&self.kek_cache_ttl),
            "kekCacheTtl: between 10s and 168h",
        )?;
        let interval = self.audit.checkpoint_interval;
        require(
            (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval),
            "audit.checkpointInterval: between 100ms and 1h",
        )?;
        require(
            self.plugins
                .as_ref()
                .is_none_or(|plugins| plugins.listen != self.listen),
            "plugins.listen: another address than listen",
        )?;
        let plugins = self.plugins.as_ref().map(|plugins| plugins.listen);
        let taken = |port| port == self.listen || Some(port) == plugins;
        require(
            self.workloads
                .as_ref()
                .is_none_or(|workloads| !taken(workloads.listen)),
            "workloads.listen: another address than listen and plugins.listen",
        )?;
        require(
            self.workloads.is_some() || self.clusters.is_empty(),
            "clusters: their service accounts need a port; set workloads.listen",
        )?;
        let asked = self.kubernetes.as_ref().and_then(|it| it.cluster.as_ref());
        let is_asked = |cluster: &ClusterConfig| asked == Some(&cluster.name);
        require(
            asked.is_none() || self.clusters.iter().any(is_asked),
            "kubernetes.cluster: the name of one of clusters",
        )?;
        let is_known = |cluster: &ClusterConfig| {
            is_asked(cluster) || cluster.keys_file.is_some() && cluster.issuer.is_some()
        };
        require(
            self.clusters.iter().all(is_known),
            "clusters: keysFile and issuer, unless kubernetes.cluster names it",
        )?;
        let names: BTreeSet<_> = self.clusters.iter().map(|cluster| &cluster.name).collect();
        require(
            names.len() == self.clusters.len(),
            "clusters: each has a name of its own",
        )?;
        let is_both = |cluster: &ClusterConfig| {
            let mut drivers = cluster.drivers.iter();
            drivers.any(|driver| cluster.operators.contains(driver))
        };
        require(
            !self.clusters.iter().any(is_both),
            "clusters: no account is both a driver's and an operator's",
        )?;
        require(
            self.audit.capacity_mib >= 1,
            "audit.capacityMib: at least 1",
        )?;
        require(
            strongroom_hsm::check_replica_name(&self.replica).is_ok(),
            "replica: 1 to 63 of a-z, 0-9, '-' and '.'",
        )?;
        Ok(self)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("store.db")
    }
}

impl AuditConfig {
    pub(crate) fn options(&self, origin: strongroom_audit::Origin) -> strongroom_audit::Options {
        strongroom_audit::Options {
            origin,
            segment_bytes: self.segment_mib * MEBIBYTE,
            capacity_bytes: self.capacity_mib * MEBIBYTE,
            reserve_bytes: self.reserve_mib * MEBIBYTE,
        }
    }
}

fn default_replica() -> String {
    "key-service-0".to_owned()
}

fn default_kek_cache_ttl() -> Duration {
    Duration::from_secs(12 * 3600)
}

fn default_log() -> String {
    "info".to_owned()
}

const fn default_audit_capacity_mib() -> u64 {
    1024
}

const fn default_audit_reserve_mib() -> u64 {
    16
}

const fn default_audit_segment_mib() -> u64 {
    64
}

const fn default_checkpoint_interval() -> Duration {
    Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../config/key-service.yaml");

    fn error(text: &str) -> String {
        strongroom_runtime::Chain(&Config::parse(text).expect_err("is refused")).to_string()
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let message = error(&format!("{SAMPLE}\nkekCacheTTL: 12h\n"));
        assert!(message.contains("unknown field `kekCacheTTL`"), "{message}");
    }

    #[test]
    fn nobody_as_administrator_is_refused() {
        let start = SAMPLE.find("administrators:").expect("is in the sample");
        let message = error(&SAMPLE.replace(&SAMPLE[start..], "administrators: []\n"));
        assert!(
            message.contains("administrators: name at least one"),
            "{message}"
        );
    }

    #[test]
    fn bound_of_the_cache_has_limits() {
        for ttl in ["1s", "200h"] {
            let message = error(&format!("{SAMPLE}\nkekCacheTtl: {ttl}\n"));
            assert!(
                message.contains("kekCacheTtl: between 10s and 168h"),
                "{message}"
            );
        }
        let config = Config::parse(&format!("{SAMPLE}\nkekCacheTtl: 1m\n")).expect("is valid");
        assert_eq!(config.kek_cache_ttl, Duration::from_secs(60));
    }
}
