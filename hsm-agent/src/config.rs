//! The configuration file. `config/hsm-agent.yaml` documents every field, and a test parses it.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use strongroom_runtime::{
    configuration::{self, ConfigurationError},
    socket::{Peers, PeersError},
};

use crate::rpc::Rpc;

/// The longest label that a token can have.
const LABEL_MAX: usize = 32;

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is no configuration.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// A path is relative.
    #[error("{field} is not an absolute path")]
    RelativePath {
        /// The field.
        field: &'static str,
    },
    /// The peers cannot be served.
    #[error("socket.peers is refused")]
    Peers(#[source] PeersError),
    /// One uid, two lists.
    #[error("socket.peers names uid {uid} twice")]
    PeerTwice {
        /// The uid.
        uid: u32,
    },
    /// The label does not fit into a token.
    #[error("token.label is not 1 to {LABEL_MAX} printable ASCII characters")]
    Label,
    /// The module is not there.
    #[error("token.module: {} is not a file", path.display())]
    Module {
        /// The file.
        path: PathBuf,
    },
    /// The environment of SoftHSM is the agent's own work.
    #[error("token.environment is for type PKCS11; with SoftHSM the agent makes the environment")]
    Environment,
    /// Somebody else's hardware is not ours to empty.
    #[error("token.make: Request is for SoftHSM; another token is made with its maker's tools")]
    Make,
    /// The PIN of a token that the agent did not make.
    #[error("token.pinFile is needed with type PKCS11")]
    PinFile,
}

/// What `hsm-agent` runs with.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Folder of the agent's own state. Mode 0700, owned by the agent's uid.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub socket: SocketConfig,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub probes: SocketAddr,
    /// The token.
    pub token: TokenConfig,
    /// Filter of the log, such as `info` or `info,strongroom_hsm_agent=debug`.
    #[serde(default = "default_log")]
    pub log: String,
}

/// Where clients connect, and who they are.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SocketConfig {
    /// Path of the socket; its folder is there and belongs to the agent.
    pub path: PathBuf,
    /// Group of the socket, when it is not the agent's own.
    pub group: Option<u32>,
    /// Who may connect.
    pub peers: Vec<PeerConfig>,
}

/// A client.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerConfig {
    /// Its uid; neither 0 nor 65534.
    pub uid: u32,
    /// What it may call; everything when absent.
    #[serde(default = "every_rpc")]
    pub allow: BTreeSet<Rpc>,
}

/// What kind of token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TokenType {
    /// Software, for evaluation: the agent makes token and PIN by itself.
    SoftHSM,
    /// Any other module: the administrator made the token.
    PKCS11,
}

/// Who has SoftHSM's token made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum MakeBy {
    /// Whoever runs `hsm-agent init`.
    #[default]
    Command,
    /// The key service, when it is initialised.
    Request,
}

/// The token.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenConfig {
    /// What kind of token it is.
    #[serde(rename = "type")]
    pub kind: TokenType,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Label of the token.
    pub label: String,
    /// Who has SoftHSM's token made.
    #[serde(default)]
    pub make: MakeBy,
    /// File with the user PIN; `<dataDir>/pin` for SoftHSM when absent.
    pub pin_file: Option<PathBuf>,
    /// Environment of the module, besides which it sees nothing.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

fn default_log() -> String {
    "info".to_owned()
}

fn every_rpc() -> BTreeSet<Rpc> {
    Rpc::all().collect()
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::load(path)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what does not depend on this machine.
    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            data_dir,
            socket,
            probes: _,
            token,
            log: _,
        } = self;
        let pin_file = token.pin_file.as_deref().unwrap_or(data_dir);
        for (field, path) in [
            ("dataDir", data_dir.as_path()),
            ("socket.path", &socket.path),
            ("token.module", &token.module),
            ("token.pinFile", pin_file),
        ] {
            if !path.is_absolute() {
                return Err(ConfigError::RelativePath { field });
            }
        }
        socket.check()?;
        token.check()
    }

    /// Checks that the module is there: a wrong path does not become right by waiting.
    pub fn check_module(&self) -> Result<(), ConfigError> {
        let path = &self.token.module;
        if path.is_file() {
            Ok(())
        } else {
            Err(ConfigError::Module { path: path.clone() })
        }
    }

    /// The file with the user PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.token
            .pin_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("pin"))
    }

    /// The security officer's PIN, there from the beginning to the end of making a token.
    pub(crate) fn officer_pin_file(&self) -> PathBuf {
        self.data_dir.join("init-pending")
    }

    /// Where a PIN that was refused is remembered.
    pub fn pin_refused_file(&self) -> PathBuf {
        self.data_dir.join("pin-refused")
    }
}

impl SocketConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        match self.peers.iter().find(|peer| !seen.insert(peer.uid)) {
            Some(peer) => Err(ConfigError::PeerTwice { uid: peer.uid }),
            None => self.uids().map(drop),
        }
    }

    /// The uids that may connect.
    pub fn uids(&self) -> Result<Peers, ConfigError> {
        Peers::new(self.peers.iter().map(|peer| peer.uid)).map_err(ConfigError::Peers)
    }
}

impl TokenConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let printable = self.label.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !printable || self.label.is_empty() || self.label.len() > LABEL_MAX {
            return Err(ConfigError::Label);
        }
        match self.kind {
            TokenType::SoftHSM if !self.environment.is_empty() => Err(ConfigError::Environment),
            TokenType::PKCS11 if self.pin_file.is_none() => Err(ConfigError::PinFile),
            TokenType::PKCS11 if self.make == MakeBy::Request => Err(ConfigError::Make),
            TokenType::SoftHSM | TokenType::PKCS11 => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_runtime::Chain;

    use super::*;

    const SAMPLE: &str = include_str!("../../config/hsm-agent.yaml");

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hsm-agent.yaml");
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        Config::load(&path).map_err(|error| Chain(&error).to_string().replace(&shown, "FILE"))
    }

    fn check(from: &str, to: &str, sentence: &str) {
        assert!(SAMPLE.contains(from), "{from}");
        let error = load(&SAMPLE.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error, sentence);
    }

    #[test]
    fn the_sample_is_valid() {
        let config = load(SAMPLE).unwrap();
        assert_eq!(config.token.kind, TokenType::SoftHSM);
        assert_eq!(config.socket.peers[0].allow, every_rpc());
        assert_eq!(
            config.pin_file(),
            Path::new("/var/lib/strongroom/hsm-agent/pin")
        );
    }

    #[test]
    fn the_sample_of_a_pod_is_valid() {
        let config = load(include_str!("../../config/hsm-agent-incluster.yaml")).unwrap();
        assert_eq!(config.token.make, MakeBy::Request);
    }

    #[test]
    fn only_softhsms_token_is_made_by_request() {
        let foreign = SAMPLE
            .replace("type: SoftHSM", "type: PKCS11")
            .replace("make: Command", "make: Request")
            .replace("# pinFile:", "pinFile:");
        assert_eq!(
            load(&foreign).unwrap_err(),
            "token.make: Request is for SoftHSM; another token is made with its maker's tools"
        );
    }

    #[test]
    fn the_sample_shows_every_call() {
        let uncommented = SAMPLE.replace("# allow:", "allow:");
        assert_eq!(
            load(&uncommented).unwrap().socket.peers[0].allow,
            every_rpc()
        );
    }

    #[test]
    fn an_unknown_field_is_named() {
        check(
            "label:",
            "lable:",
            "the configuration FILE is not valid: token: unknown field `lable`, expected one of `type`, `module`, \
             `label`, `make`, `pinFile`, `environment` at line 24 column 3",
        );
    }

    #[test]
    fn an_unknown_call_is_named() {
        let text = SAMPLE.replace("# allow: [Describe", "allow: [Decrypt");
        let error = load(&text).unwrap_err();
        assert!(error.contains("unknown variant `Decrypt`"), "{error}");
    }

    #[test]
    fn root_and_the_overflow_uid_are_nobody() {
        check(
            "uid: 2001",
            "uid: 0",
            "socket.peers is refused: uid 0 cannot be a peer of this socket",
        );
        let error = load(&SAMPLE.replace("uid: 2001", "uid: 65534")).unwrap_err();
        assert!(
            error.starts_with("socket.peers is refused: uid 65534 cannot be a peer"),
            "{error}"
        );
    }

    #[test]
    fn a_label_fits_into_a_token() {
        for label in ["''", "two words", &"x".repeat(33)] {
            check(
                "label: strongroom",
                &format!("label: {label}"),
                "token.label is not 1 to 32 printable ASCII characters",
            );
        }
    }

    #[test]
    fn paths_are_absolute() {
        check(
            "dataDir: /",
            "dataDir: ./",
            "dataDir is not an absolute path",
        );
    }

    #[test]
    fn a_token_that_we_did_not_make_has_a_pin_file() {
        check(
            "type: SoftHSM",
            "type: PKCS11",
            "token.pinFile is needed with type PKCS11",
        );
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let text = SAMPLE.replace("/usr/lib/softhsm/libsofthsm2.so", "/nowhere/module.so");
        let error = load(&text).unwrap().check_module().unwrap_err();
        assert_eq!(
            error.to_string(),
            "token.module: /nowhere/module.so is not a file"
        );
    }
}
