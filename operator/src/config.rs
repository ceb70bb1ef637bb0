//! The configuration file. Unknown fields are refused; every default is named here; the sample is `config/operator.yaml`. It
//! holds no secret.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use strongroom_core::InstanceId;
use strongroom_runtime::{
    configuration::{ConfigurationError, duration, load, parsed_if_there, sha256_if_there},
    tls::{RemoteAddress, RootDigest},
};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is no configuration.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// A value is out of its range.
    #[error("the configuration is refused: {0}")]
    Value(&'static str),
}

/// The configuration of the operator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where the key service answers.
    pub key_service: KeyServiceConfig,
    /// How the API server is reached, as kubectl reads it; as the pod's service account when absent.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of the Lease by which operators agree who of them works.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Objects that are worked on at a time.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Address of `/healthz`, `/readyz` and `/metrics`, in clear.
    #[serde(default = "default_probes")]
    pub probes: SocketAddr,
    /// Filter of the log, such as `info`; the environment's `RUST_LOG` wins.
    #[serde(default = "default_log")]
    pub log: String,
}

/// The way to the key service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeyServiceConfig {
    /// Addresses of its TLS port for workloads, HOST:PORT, in the order in which they are tried.
    pub endpoints: Vec<RemoteAddress>,
    /// File of its root certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of its root certificate, hexadecimal; the server sends the certificate itself along.
    #[serde(default, deserialize_with = "sha256_if_there")]
    pub ca_sha256: Option<RootDigest>,
    /// File of a bundle that may come later and be replaced: the first is trusted, then what the trusted ones signed.
    pub ca_bundle: Option<PathBuf>,
    /// The operator's own token, which kubelet replaces; read for each call.
    #[serde(default = "default_token_file")]
    pub token_file: PathBuf,
    /// The only instance that is believed; the one in the status of KeyService when absent, or the first that answers.
    #[serde(default, deserialize_with = "parsed_if_there")]
    pub instance_id: Option<InstanceId>,
    /// Longest time for one call.
    #[serde(default = "default_deadline", deserialize_with = "duration")]
    pub deadline: Duration,
}

/// Which roots are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustConfig<'a> {
    /// Those in a file.
    File(&'a Path),
    /// The one with a digest.
    Digest(RootDigest),
    /// Those of the first bundle, and what they signed.
    Bundle(&'a Path),
}

const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const CONCURRENCY: RangeInclusive<usize> = 1..=64;
const ENDPOINTS_MAX: usize = 8;

impl KeyServiceConfig {
    /// Which roots are trusted.
    pub fn trust(&self) -> TrustConfig<'_> {
        match (&self.ca_file, &self.ca_bundle) {
            (Some(file), _) => TrustConfig::File(file),
            (None, Some(bundle)) => TrustConfig::Bundle(bundle),
            // Exactly one of the three is there.
            (None, None) => TrustConfig::Digest(self.ca_sha256.unwrap_or_default()),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            endpoints,
            ca_file,
            ca_sha256,
            ca_bundle,
            token_file,
            instance_id: _,
            deadline,
        } = self;
        require(
            (1..=ENDPOINTS_MAX).contains(&endpoints.len()),
            "keyService.endpoints: 1 to 8",
        )?;
        let ways = [ca_file.is_some(), ca_sha256.is_some(), ca_bundle.is_some()];
        require(
            ways.into_iter().filter(|is_there| *is_there).count() == 1,
            "keyService: exactly one of caFile, caSha256 and caBundle",
        )?;
        let mut paths = [ca_file.as_ref(), ca_bundle.as_ref(), Some(token_file)]
            .into_iter()
            .flatten();
        require(
            paths.all(|path| path.is_absolute()),
            "keyService.caFile, keyService.caBundle, keyService.tokenFile: absolute paths",
        )?;
        require(
            DEADLINES.contains(deadline),
            "keyService.deadline: between 100ms and 60s",
        )
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has an unknown field or a value out of its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = load(path)?;
        config.key_service.check()?;
        require(!config.namespace.is_empty(), "namespace: not empty")?;
        require(
            CONCURRENCY.contains(&config.concurrency),
            "concurrency: between 1 and 64",
        )?;
        let mut kubeconfig = config.kubeconfig.iter();
        require(
            kubeconfig.all(|path| path.is_absolute()),
            "kubeconfig: an absolute path",
        )?;
        Ok(config)
    }
}

fn require(holds: bool, sentence: &'static str) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Value(sentence))
    }
}

fn default_namespace() -> String {
    "strongroom-system".to_owned()
}

fn default_concurrency() -> usize {
    8
}

fn default_token_file() -> PathBuf {
    PathBuf::from("/var/run/secrets/strongroom.dev/token")
}

fn default_deadline() -> Duration {
    Duration::from_secs(10)
}

fn default_probes() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8084))
}

fn default_log() -> String {
    "info".to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use strongroom_runtime::Chain;

    use super::*;

    const SAMPLE: &str = include_str!("../../config/operator.yaml");

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.yaml");
        fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| Chain(&error).to_string())
    }

    fn check_refused(text: &str, sentence: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn sample_is_valid_and_shows_the_defaults() {
        let least = "keyService: {endpoints: ['192.0.2.10:8445'], caFile: /etc/strongroom/operator/root.crt}\n";
        let (sample, least) = (read(SAMPLE).unwrap(), read(least).unwrap());
        assert_eq!(format!("{sample:?}"), format!("{least:?}"));
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        check_refused(
            &format!("{SAMPLE}\nreplicas: 2\n"),
            "unknown field `replicas`",
        );
        check_refused(
            &SAMPLE.replace("deadline", "limit"),
            "unknown field `limit`",
        );
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (from, to, sentence) in [
            ("concurrency: 8", "concurrency: 0", "concurrency"),
            ("namespace: strongroom-system", "namespace: ''", "namespace"),
            ("deadline: 10s", "deadline: 2m", "keyService.deadline"),
            ("['192.0.2.10:8445']", "[]", "keyService.endpoints"),
            ("  caFile: ", "  caBundle: /a\n  caFile: ", "exactly one of"),
            ("tokenFile: /", "tokenFile: ./", "absolute paths"),
        ] {
            let changed = SAMPLE.replace(from, to);
            assert_ne!(changed, SAMPLE, "{from} is in the sample");
            check_refused(&changed, sentence);
        }
    }
}
