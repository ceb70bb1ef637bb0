//! Who must take the new key over, and who has.

use std::fmt;

use crate::output::plain;

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ApiServer,
    Plugin,
}

/// One that reports the key id it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// What it reported last, one for each provider of its encryption configuration; empty as long as it was not
    /// reached.
    pub(super) key_id_hashes: Vec<String>,
}

impl Server {
    pub(super) fn uses(&self, key_id_hash: &str) -> bool {
        self.key_id_hashes.iter().any(|hash| hash == key_id_hash)
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Servers(pub(super) Vec<Server>);

/// Those that do not report the key id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    total: usize,
    servers: Vec<Server>,
}

impl Servers {
    /// Whether everybody reports `key_id_hash`. Nobody at all is not everybody.
    pub(super) fn converged(&self, key_id_hash: &str) -> Result<(), Missing> {
        let servers: Vec<_> = self
            .0
            .iter()
            .filter(|server| !server.uses(key_id_hash))
            .cloned()
            .collect();
        if servers.is_empty() && !self.0.is_empty() {
            return Ok(());
        }
        Err(Missing {
            total: self.0.len(),
            servers,
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, servers } = self;
        write!(
            f,
            "{} of {total} report the new key id; missing: ",
            total - servers.len()
        )?;
        for (position, server) in servers.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            let kind = match server.kind {
                Kind::ApiServer => "API server",
                Kind::Plugin => "plugin",
            };
            let state = if server.key_id_hashes.is_empty() {
                "not reached"
            } else {
                "older key id"
            };
            write!(f, "{comma}{kind} {} ({state})", plain(&server.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, hashes: &[&str]) -> Server {
        Server {
            kind: Kind::ApiServer,
            name: name.to_owned(),
            key_id_hashes: hashes.iter().map(|&hash| hash.to_owned()).collect(),
        }
    }

    #[test]
    fn one_old_server_is_not_everybody() {
        let servers = Servers(vec![
            server("a", &["new"]),
            server("b", &["old"]),
            server("c", &[]),
        ]);
        let missing = servers.converged("new").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "1 of 3 report the new key id; missing: API server b (older key id), API server c (not reached)"
        );
    }

    #[test]
    fn second_provider_with_another_key_does_not_matter() {
        assert_eq!(
            Servers(vec![server("a", &["other", "new"])]).converged("new"),
            Ok(())
        );
    }

    #[test]
    fn nobody_is_not_everybody() {
        assert!(Servers::default().converged("new").is_err());
    }
}
