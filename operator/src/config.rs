//! The configuration file. Unknown fields are refused; every default is named here; the sample is `config/operator.yaml`. It
//! holds no secret.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use strongroom_runtime::{
    configuration::{ConfigurationError, load},
    key_service::KeyServiceConfig,
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

const CONCURRENCY: RangeInclusive<usize> = 1..=64;

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has an unknown field or a value out of its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = load(path)?;
        config.key_service.check().map_err(ConfigError::Value)?;
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
