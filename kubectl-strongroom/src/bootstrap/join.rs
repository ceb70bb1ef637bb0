//! What an enrolment file says beside its secret, which goes from the file to the plugin and is kept nowhere else.

use std::{fs, io, path::Path, path::PathBuf};

use serde::Deserialize;

/// Why a file is none of `kubectl strongroom enrol node`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("cannot read the enrolment file {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} is not an enrolment file")]
    Parse(PathBuf),
    #[error("the enrolment file {0:?} names no endpoint of the key service")]
    NoEndpoint(PathBuf),
}

/// Which key service a node joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    /// The enrolment file.
    pub(super) file: PathBuf,
    pub(super) endpoints: Vec<String>,
    /// Digest of the root that is trusted.
    pub(super) root_sha256: String,
}

/// The file without its secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment {
    endpoints: Vec<String>,
    root_sha256: String,
}

impl Join {
    pub(super) fn load(file: &Path) -> Result<Self, JoinError> {
        let path = || file.to_owned();
        let text = read(file)?;
        let enrolment: Enrolment =
            serde_yaml_ng::from_str(&text).map_err(|_| JoinError::Parse(path()))?;
        let Enrolment {
            endpoints,
            root_sha256,
        } = enrolment;
        let is_digest = hex::decode(&root_sha256).is_ok_and(|digest| digest.len() == 32);
        // They end up in the plugin's configuration.
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !is_digest || !endpoints.iter().all(|text| text.chars().all(fits)) {
            return Err(JoinError::Parse(path()));
        }
        if endpoints.is_empty() {
            return Err(JoinError::NoEndpoint(path()));
        }
        Ok(Self {
            file: path(),
            endpoints,
            root_sha256,
        })
    }
}

/// The text of an enrolment file, with its secret.
pub(super) fn read(file: &Path) -> Result<String, JoinError> {
    fs::read_to_string(file).map_err(|source| JoinError::Read {
        path: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_tells_endpoints_and_root_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("enrolment.yaml");
        let load = |endpoints: &str, root: &str| {
            let text = format!("secret: s\nendpoints: {endpoints}\nrootSha256: {root}\n");
            fs::write(&file, text).unwrap();
            Join::load(&file)
        };
        let root = "0123456789abcdef".repeat(4);
        let join = load("['192.0.2.10:8444']", &root).unwrap();
        assert_eq!(join.endpoints, ["192.0.2.10:8444"]);
        let refused = |endpoints, root| load(endpoints, root).unwrap_err();
        assert!(matches!(refused("[]", &root), JoinError::NoEndpoint(_)));
        assert!(matches!(refused("['a b']", &root), JoinError::Parse(_)));
        assert!(matches!(refused("['a:1']", "0123"), JoinError::Parse(_)));
    }
}
