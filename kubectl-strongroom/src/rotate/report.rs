//! What a rotation prints.

use serde::Serialize;

use super::{
    etcd_key::{Primary, Rotation},
    servers::{Kind, Server, Servers},
};
use crate::output::{columns, plain};

/// What `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    #[serde(rename = "keyID")]
    key_id: String,
    rotated: bool,
    pub(super) before: VersionReport,
    pub(super) now: VersionReport,
    /// Only with --wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<WaitReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct VersionReport {
    pub(super) version: String,
    /// Empty for a version that was rotated away earlier.
    #[serde(rename = "keyIDHash")]
    pub(super) key_id_hash: String,
}

#[derive(Debug, Serialize)]
struct WaitReport {
    converged: bool,
    servers: Vec<ServerReport>,
}

#[derive(Debug, Serialize)]
struct ServerReport {
    kind: &'static str,
    name: String,
    current: bool,
    #[serde(rename = "keyIDHashes")]
    key_id_hashes: Vec<String>,
}

impl Report {
    pub(super) fn new(rotation: Rotation) -> Self {
        let Rotation {
            key_id,
            rotated,
            before,
            now,
        } = rotation;
        Self {
            key_id,
            rotated,
            before: VersionReport::new(before),
            now: VersionReport::new(now),
            wait: None,
        }
    }

    pub(super) fn set_servers(&mut self, servers: Servers) {
        let wanted = &self.now.key_id_hash;
        self.wait = Some(WaitReport {
            converged: servers.converged(wanted).is_ok(),
            servers: servers
                .0
                .into_iter()
                .map(|s| ServerReport::new(s, wanted))
                .collect(),
        });
    }

    /// What is known before the wait.
    pub(super) fn rotation_text(&self) -> String {
        let Self {
            rotated,
            before,
            now,
            ..
        } = self;
        let heading = if *rotated {
            "Rotated the etcd key."
        } else {
            "Already rotated."
        };
        let row = |when: &str, version: &VersionReport| {
            let hash = match version.key_id_hash.as_str() {
                "" => "-".to_owned(),
                hash => plain(hash),
            };
            [when.to_owned(), plain(&version.version), hash]
        };
        let title = ["", "VERSION", "KEY ID HASH"].map(str::to_owned);
        format!(
            "{heading}\n{}",
            columns(&[title, row("before", before), row("now", now)])
        )
    }

    /// What the wait brought; empty without one.
    pub(super) fn wait_text(&self) -> String {
        let Some(WaitReport { servers, .. }) = &self.wait else {
            return String::new();
        };
        let title = ["SERVER", "KIND", "CURRENT"].map(str::to_owned);
        let row = |server: &ServerReport| {
            let current = if server.current { "yes" } else { "NO" };
            [
                plain(&server.name),
                server.kind.to_owned(),
                current.to_owned(),
            ]
        };
        let rows: Vec<_> = [title].into_iter().chain(servers.iter().map(row)).collect();
        format!("\n{}", columns(&rows))
    }
}

impl VersionReport {
    fn new(primary: Primary) -> Self {
        let Primary {
            version,
            key_id_hash,
        } = primary;
        Self {
            version,
            key_id_hash,
        }
    }
}

impl ServerReport {
    fn new(server: Server, wanted: &str) -> Self {
        let current = server.uses(wanted);
        let Server {
            kind,
            name,
            key_id_hashes,
        } = server;
        let kind = match kind {
            Kind::ApiServer => "APIServer",
            Kind::Plugin => "Plugin",
        };
        Self {
            kind,
            name,
            current,
            key_id_hashes,
        }
    }
}
