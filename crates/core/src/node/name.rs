//! Which node, and what runs there.

use std::{fmt, str::FromStr};

use crate::kubernetes::is_subdomain;

/// The name of a node as Kubernetes allows it: DNS labels, joined by dots, at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// The text is no name of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a node's name has 1 to 253 of a-z, 0-9, '-' and '.', and each part between dots begins and ends with a letter or digit"
)]
pub struct InvalidNodeName;

impl NodeName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(text: &str) -> Result<Self, InvalidNodeName> {
        if is_subdomain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidNodeName)
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a certificate of a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRole {
    /// The plugin of the node's API server.
    KmsPlugin,
}

impl NodeRole {
    /// Its name in certificates, paths and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KmsPlugin => "kms-plugin",
        }
    }
}

/// Which identity: what runs there, and on which node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIdentity {
    /// What for.
    pub role: NodeRole,
    /// Where.
    pub node: NodeName,
}

/// The form in records and messages: `kms-plugin/NODE`.
impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.as_str(), self.node)
    }
}
