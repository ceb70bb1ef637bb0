//! The configuration file, the same for all nodes. Unknown fields are refused; every default is named here; the sample
//! is `config/csi-driver.yaml`. It holds no secret.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use strongroom_runtime::{
    configuration::{self, ConfigurationError},
    key_service::KeyServiceConfig,
};

use crate::{
    NAME,
    volume::{Room, SwapPolicy},
};

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is no configuration.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// A value is out of its range.
    #[error("the configuration is refused: {0}")]
    Value(&'static str),
}

/// The configuration of the driver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// kubelet's root directory. `plugins/csi.strongroom.dev`, `plugins_registry` and `pods` in it must be where kubelet
    /// has them, under the same paths.
    #[serde(default = "default_kubelet_dir")]
    pub kubelet_dir: PathBuf,
    /// Where the key service answers.
    pub key_service: KeyServiceConfig,
    /// The tokens of pods.
    #[serde(default)]
    pub tokens: Tokens,
    /// The tmpfs of each volume.
    #[serde(default)]
    pub volume: VolumeConfig,
    /// After this time without a word of the key service a volume counts as stale: kubelet publishes it again every 60 to
    /// 90 seconds.
    #[serde(
        default = "default_stale_after",
        deserialize_with = "configuration::duration"
    )]
    pub stale_after: Duration,
    /// Address of `/healthz`, `/readyz` and `/metrics`, in clear.
    #[serde(default = "default_probes")]
    pub probes: SocketAddr,
    /// Filter of the log, such as `info`; the environment's `RUST_LOG` wins.
    #[serde(default = "default_log")]
    pub log: String,
}

/// How tokens of pods come.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Tokens {
    /// The audience in the CSIDriver's `tokenRequests`, and in the key service's `clusters`.
    pub audience: String,
    /// Where kubelet puts them.
    pub source: TokenSource,
}

/// Where kubelet puts the tokens of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TokenSource {
    /// Where no author of a pod can put one: CSIDriver with `serviceAccountTokenInSecrets: true`, Kubernetes 1.35 and
    /// later.
    Secrets,
    /// Among the volume's attributes: older ones.
    VolumeContext,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            audience: "strongroom.dev".to_owned(),
            source: TokenSource::Secrets,
        }
    }
}

/// The tmpfs of each volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct VolumeConfig {
    /// Size in MiB. Half of it holds the files, so that the next ones fit beside them.
    pub size_mib: u64,
    /// Files, folders and links.
    pub inodes: u64,
    /// What to do on a kernel that cannot keep a tmpfs out of swap.
    pub without_noswap: SwapPolicy,
    /// An empty folder of the driver's own, on which options are tried at the start.
    pub self_test_dir: PathBuf,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        Self {
            // 64 secrets of 64 KiB, twice, and the unused ends of pages.
            size_mib: 16,
            inodes: 10_240,
            without_noswap: SwapPolicy::Refuse,
            self_test_dir: PathBuf::from("/run/strongroom-csi"),
        }
    }
}

const SIZES_MIB: RangeInclusive<u64> = 1..=1024;
const INODES: RangeInclusive<u64> = 64..=1_048_576;
const STALE_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has an unknown field or a value out of its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::load(path)?;
        config.check()?;
        Ok(config)
    }

    /// The socket on which kubelet asks.
    pub fn socket(&self) -> PathBuf {
        self.kubelet_dir.join("plugins").join(NAME).join("csi.sock")
    }

    /// The socket by which kubelet finds the driver.
    pub fn registration_socket(&self) -> PathBuf {
        let folder = self.kubelet_dir.join("plugins_registry");
        folder.join(format!("{NAME}-reg.sock"))
    }

    /// kubelet's folder of pods.
    pub fn pods(&self) -> PathBuf {
        self.kubelet_dir.join("pods")
    }

    /// The bounds of each volume.
    pub fn room(&self) -> Room {
        Room {
            bytes: self.volume.size_mib << 20,
            inodes: self.volume.inodes,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.key_service.check().map_err(ConfigError::Value)?;
        require(
            self.kubelet_dir.is_absolute(),
            "kubeletDir: an absolute path",
        )?;
        require(
            !self.tokens.audience.is_empty(),
            "tokens.audience: not empty",
        )?;
        require(
            SIZES_MIB.contains(&self.volume.size_mib),
            "volume.sizeMib: between 1 and 1024",
        )?;
        require(
            INODES.contains(&self.volume.inodes),
            "volume.inodes: between 64 and 1048576",
        )?;
        require(
            self.volume.self_test_dir.is_absolute(),
            "volume.selfTestDir: an absolute path",
        )?;
        require(
            STALE_AFTER.contains(&self.stale_after),
            "staleAfter: between 1s and 24h",
        )
    }
}

fn require(holds: bool, sentence: &'static str) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Value(sentence))
    }
}

fn default_kubelet_dir() -> PathBuf {
    PathBuf::from("/var/lib/kubelet")
}

fn default_stale_after() -> Duration {
    Duration::from_secs(180)
}

fn default_probes() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8083))
}

fn default_log() -> String {
    "info".to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use strongroom_runtime::Chain;

    use super::*;

    const SAMPLE: &str = include_str!("../../config/csi-driver.yaml");

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("csi-driver.yaml");
        fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| Chain(&error).to_string())
    }

    fn check_refused(text: &str, sentence: &str) {
        let error = load(text).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn sample_is_valid_and_shows_the_defaults() {
        let least =
            "keyService: {endpoints: ['192.0.2.10:8445'], caFile: /etc/strongroom/csi/root.crt}\n";
        let (sample, least) = (load(SAMPLE).unwrap(), load(least).unwrap());
        assert_eq!(format!("{sample:?}"), format!("{least:?}"));
    }

    #[test]
    fn paths_are_kubelets() {
        let config = load(&SAMPLE.replace("/var/lib/kubelet", "/data/kubelet")).unwrap();
        assert_eq!(
            [config.socket(), config.registration_socket(), config.pods()],
            [
                "/data/kubelet/plugins/csi.strongroom.dev/csi.sock",
                "/data/kubelet/plugins_registry/csi.strongroom.dev-reg.sock",
                "/data/kubelet/pods"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        check_refused(&format!("{SAMPLE}\ncache: on\n"), "unknown field `cache`");
        check_refused(&SAMPLE.replace("sizeMib", "size"), "unknown field `size`");
        check_refused(
            &SAMPLE.replace("source: Secrets", "source: Auto"),
            "unknown variant `Auto`",
        );
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (from, to, sentence) in [
            ("sizeMib: 16", "sizeMib: 0", "volume.sizeMib"),
            ("inodes: 10240", "inodes: 1", "volume.inodes"),
            ("staleAfter: 3m", "staleAfter: 0s", "staleAfter"),
            ("deadline: 10s", "deadline: 2m", "keyService.deadline"),
            ("deadline: 10s", "deadline: -1s", "never negative"),
            ("['192.0.2.10:8445']", "[]", "keyService.endpoints"),
            ("192.0.2.10:8445", "https://x", "HOST:PORT"),
            (
                "audience: strongroom.dev",
                "audience: ''",
                "tokens.audience",
            ),
            ("kubeletDir: /", "kubeletDir: ", "kubeletDir"),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            check_refused(&SAMPLE.replace(from, to), sentence);
        }
    }
}
