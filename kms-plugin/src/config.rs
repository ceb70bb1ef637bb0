//! The configuration file. Unknown fields are refused; every default is named here; the sample is
//! `config/kms-plugin.yaml`. It holds no secret.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use strongroom_runtime::{
    configuration::{self, ConfigurationError},
    socket::{OVERFLOW_UID, Peers, PeersError},
    tls::{RemoteAddress, RootDigest},
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
    /// The API servers' uids cannot be peers.
    #[error("the configuration is refused: listen.peers")]
    Peers(#[source] PeersError),
}

/// The configuration of the plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where kube-apiserver asks.
    pub listen: Listen,
    /// Where the key service answers.
    pub key_service: KeyService,
    /// File of the highest position seen, in a folder of the plugin's own. It is no secret, but it must outlive
    /// restarts: without it a key service that was put back goes unnoticed.
    pub state: PathBuf,
    /// Address of `/healthz`, `/readyz` and `/metrics`, in clear.
    #[serde(default = "default_probes")]
    pub probes: SocketAddr,
    /// How `Status` learns what it says.
    #[serde(default)]
    pub status: StatusConfig,
    /// Longest time for one Encrypt or Decrypt; kube-apiserver gives up after 3s.
    #[serde(
        default = "default_deadline",
        deserialize_with = "configuration::duration"
    )]
    pub deadline: Duration,
    /// Encrypts and Decrypts that are sent to the key service at a time.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Filter of the log, such as `info`; the environment's `RUST_LOG` wins.
    #[serde(default = "default_log")]
    pub log: String,
}

/// The socket for kube-apiserver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listen {
    /// Path of the socket, in a folder that only the plugin can change.
    pub path: PathBuf,
    /// User ids of the API servers. The plugin's own may ask for `Status`, as `kms-plugin wait` does, and for nothing else.
    #[serde(default = "default_peers")]
    pub peers: Vec<u32>,
    /// Group of the socket; the plugin's own when absent.
    pub group: Option<u32>,
}

/// The ways to the key service: the socket where it runs on this machine, endpoints where it does not, or both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeyService {
    /// Path of the key service's socket for plugins. It is preferred to every endpoint.
    pub socket: Option<PathBuf>,
    /// User id of the key service; another listener on the socket is refused before the first byte.
    pub uid: Option<u32>,
    /// Addresses of its TLS port for plugins, HOST:PORT, in the order in which they are tried.
    #[serde(default)]
    pub endpoints: Vec<RemoteAddress>,
    /// Folder of the node's certificate and key; mode 0700, the plugin's own. Needed with endpoints.
    pub identity_dir: Option<PathBuf>,
    /// SHA-256 of the root certificate, hexadecimal. No other root is trusted, whatever an enrolment file says.
    #[serde(default, deserialize_with = "configuration::sha256_if_there")]
    pub root_sha256: Option<RootDigest>,
}

impl KeyService {
    /// The socket and who listens there.
    pub fn local(&self) -> Option<(&Path, u32)> {
        Some((self.socket.as_deref()?, self.uid?))
    }
}

/// Endpoints beyond these would never be reached within the deadline of a call.
const ENDPOINTS_MAX: usize = 8;

/// Timing of the probe behind `Status`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StatusConfig {
    /// Time between probes while they succeed.
    #[serde(deserialize_with = "configuration::duration")]
    pub interval: Duration,
    /// Time between probes while they fail.
    #[serde(deserialize_with = "configuration::duration")]
    pub retry_interval: Duration,
    /// After this time without a successful probe `Status` is an error.
    #[serde(deserialize_with = "configuration::duration")]
    pub max_age: Duration,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            // kube-apiserver caches a good answer for 20 s, and its readiness has to fail within 30 s of an outage.
            max_age: Duration::from_secs(8),
        }
    }
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);
/// Up to the limit at which kube-apiserver stops writing by itself.
const MAX_AGES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(180);
/// Below kube-apiserver's own deadline, so that it hears the reason.
const DEADLINES: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_millis(2900);

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

    /// Returns the API servers.
    ///
    /// # Errors
    ///
    /// When there is none, or the overflow uid among them.
    pub fn peers(&self) -> Result<Peers, ConfigError> {
        Peers::for_api_server(self.listen.peers.iter().copied()).map_err(ConfigError::Peers)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let StatusConfig {
            interval,
            retry_interval,
            max_age,
        } = &self.status;
        self.peers()?;
        self.check_key_service()?;
        require(self.state.is_absolute(), "state: an absolute path")?;
        require(
            INTERVALS.contains(interval),
            "status.interval: between 50ms and 60s",
        )?;
        require(
            INTERVALS.contains(retry_interval),
            "status.retryInterval: between 50ms and 60s",
        )?;
        require(
            MAX_AGES.contains(max_age),
            "status.maxAge: between 100ms and 180s",
        )?;
        require(
            max_age > interval,
            "status.maxAge: longer than status.interval",
        )?;
        require(
            DEADLINES.contains(&self.deadline),
            "deadline: between 100ms and 2900ms",
        )?;
        require(
            (1..=1024).contains(&self.concurrency),
            "concurrency: between 1 and 1024",
        )
    }
}

impl Config {
    fn check_key_service(&self) -> Result<(), ConfigError> {
        let KeyService {
            socket,
            uid,
            endpoints,
            identity_dir,
            root_sha256: _,
        } = &self.key_service;
        require(
            socket.is_some() || !endpoints.is_empty(),
            "keyService: a socket, endpoints, or both",
        )?;
        require(
            socket.is_some() == uid.is_some(),
            "keyService.uid: with a socket, and only with one",
        )?;
        require(
            *uid != Some(OVERFLOW_UID),
            "keyService.uid: 65534 is what the kernel reports for every uid that it cannot map",
        )?;
        require(
            endpoints.len() <= ENDPOINTS_MAX,
            "keyService.endpoints: at most 8",
        )?;
        require(
            endpoints.is_empty() || identity_dir.is_some(),
            "keyService.identityDir: needed with endpoints",
        )?;
        require(
            identity_dir.as_ref().is_none_or(|dir| dir.is_absolute()),
            "keyService.identityDir: an absolute path",
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

fn default_probes() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}

fn default_peers() -> Vec<u32> {
    vec![0]
}

fn default_deadline() -> Duration {
    Duration::from_secs(2)
}

fn default_concurrency() -> usize {
    64
}

fn default_log() -> String {
    "info".to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use strongroom_runtime::Chain;

    use super::*;

    const SAMPLE: &str = include_str!("../../config/kms-plugin.yaml");

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms-plugin.yaml");
        fs::write(&path, text).unwrap();
        let name = format!("{}", path.display());
        Config::load(&path).map_err(|error| Chain(&error).to_string().replace(&name, "FILE"))
    }

    fn check_refused(text: &str, sentence: &str) {
        let error = load(text).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn sample_is_valid_and_shows_the_defaults() {
        let sample = load(SAMPLE).unwrap();
        let least = "listen: {path: /run/strongroom/apiserver/kms.sock}\n\
            keyService: {socket: /run/strongroom/kms/key-service.sock, uid: 2001}\n\
            state: /var/lib/strongroom/kms-plugin/state.json\n";
        let mut least = load(least).unwrap();
        // The only field without a default that the sample shows.
        least.listen.group = sample.listen.group;
        assert_eq!(format!("{sample:?}"), format!("{least:?}"));
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        check_refused(
            &format!("{SAMPLE}\ndeadlines: 1s\n"),
            "unknown field `deadlines`",
        );
        check_refused(
            &SAMPLE.replace("maxAge", "maximumAge"),
            "unknown field `maximumAge`",
        );
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        check_refused(
            &SAMPLE.replace("deadline: 2s", "deadline: 3s"),
            "deadline: between",
        );
        check_refused(
            &SAMPLE.replace("maxAge: 8s", "maxAge: 5s"),
            "status.maxAge: longer",
        );
        check_refused(
            &SAMPLE.replace("maxAge: 8s", "maxAge: 181s"),
            "status.maxAge: between",
        );
        check_refused(&SAMPLE.replace("uid: 2001", "uid: 65534"), "keyService.uid");
        check_refused(
            &SAMPLE.replace("peers: [0]", "peers: [65534]"),
            "uid 65534 cannot be a peer",
        );
        check_refused(
            &SAMPLE.replace("peers: [0]", "peers: []"),
            "the list of peers is empty",
        );
        check_refused(
            &SAMPLE.replace("interval: 5s", "interval: -5s"),
            "never negative",
        );
    }

    const REMOTE: &str = "listen: {path: /run/strongroom/apiserver/kms.sock}\n\
        keyService: {endpoints: ['192.0.2.10:8444'], identityDir: /var/lib/strongroom/kms-plugin/identity}\n\
        state: /var/lib/strongroom/kms-plugin/state.json\n";

    #[test]
    fn endpoints_do_without_a_socket() {
        let config = load(REMOTE).unwrap();
        assert!(config.key_service.local().is_none());
        assert_eq!(
            config.key_service.endpoints[0].to_string(),
            "192.0.2.10:8444"
        );
    }

    #[test]
    fn ways_to_the_key_service_are_whole_or_refused_by_name() {
        let service = |text: &str| {
            REMOTE
                .lines()
                .map(|line| {
                    let line = if line.starts_with("keyService") {
                        text
                    } else {
                        line
                    };
                    format!("{line}\n")
                })
                .collect::<String>()
        };
        for (text, sentence) in [
            ("keyService: {}", "keyService: a socket, endpoints, or both"),
            (
                "keyService: {socket: /run/x.sock}",
                "keyService.uid: with a socket",
            ),
            (
                "keyService: {uid: 1, endpoints: ['a:1'], identityDir: /x}",
                "keyService.uid: with a socket",
            ),
            (
                "keyService: {endpoints: ['a:1']}",
                "keyService.identityDir: needed",
            ),
            (
                "keyService: {endpoints: ['a:1'], identityDir: x}",
                "keyService.identityDir: an absolute",
            ),
            (
                "keyService: {endpoints: ['a'], identityDir: /x}",
                "HOST:PORT",
            ),
            (
                "keyService: {endpoints: ['a:1'], identityDir: /x, rootSha256: abc}",
                "64 hexadecimal digits",
            ),
        ] {
            check_refused(&service(text), sentence);
        }
        let many = (1..=9)
            .map(|port| format!("'a:{port}'"))
            .collect::<Vec<_>>();
        let many = format!(
            "keyService: {{endpoints: [{}], identityDir: /x}}",
            many.join(", ")
        );
        check_refused(&service(&many), "keyService.endpoints: at most 8");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/kms-plugin.yaml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the configuration /nonexistent/kms-plugin.yaml"
        );
    }
}
