//! The configuration file: where the key service is and who is calling.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The file's content. Every field can be given by the flag of the same name, which wins.
///
/// Relative paths are relative to the folder of the file.
///
/// ```
/// # use strongroom_kubectl_strongroom::Config;
/// let config: Config = serde_yaml_ng::from_str(
///     "server: 192.0.2.10:8443
/// ca: ca.pem
/// certificate: administrator.pem
/// key: administrator-key.pem",
/// )?;
/// assert_eq!(config.server.as_deref(), Some("192.0.2.10:8443"));
/// # Ok::<_, serde_yaml_ng::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the key service, `HOST:PORT`.
    pub server: Option<String>,
    /// PEM file with the root that the key service's certificate must lead to.
    pub ca: Option<PathBuf>,
    /// PEM file with the caller's certificate and its intermediates.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub key: Option<PathBuf>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not there, or not for us.
    #[error("cannot read the configuration {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not YAML, or has a field that does not exist.
    #[error("the configuration {path:?} is not valid")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Place and reason.
        #[source]
        source: serde_yaml_ng::Error,
    },
}

impl Config {
    /// Loads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Ok(config.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    fn relative_to(self, folder: &Path) -> Self {
        let Self {
            server,
            ca,
            certificate,
            key,
        } = self;
        // An absolute path replaces what it is joined to.
        let place = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self {
            server,
            ca: place(ca),
            certificate: place(certificate),
            key: place(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map(|config| {
            let strip = |p: Option<PathBuf>| {
                p.map(|p| {
                    p.strip_prefix(folder.path())
                        .map(Path::to_owned)
                        .unwrap_or(p)
                })
            };
            Config {
                ca: strip(config.ca),
                key: strip(config.key),
                ..config
            }
        })
    }

    #[test]
    fn relative_paths_start_at_the_file_and_absolute_ones_stay() {
        let config = load("ca: pki/ca.pem\nkey: /etc/key.pem\n").unwrap();
        assert_eq!(config.ca, Some(PathBuf::from("pki/ca.pem")));
        assert_eq!(config.key, Some(PathBuf::from("/etc/key.pem")));
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let error = load("server: a:1\ncacert: x\n").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("cacert"), "{source}");
    }

    #[test]
    fn sample_is_valid_and_sets_every_field() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/cli.yaml");
        let Config {
            server,
            ca,
            certificate,
            key,
        } = Config::load(&sample).unwrap();
        assert!(server.is_some() && ca.is_some() && certificate.is_some() && key.is_some());
    }
}
