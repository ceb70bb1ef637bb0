//! What a cluster is started with.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::layout::Name;
use super::{control_plane, network};
use crate::tools::Module;

/// Which Kubernetes runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// The newest minor version that is supported.
    #[default]
    Newest,
    /// The oldest minor version that is supported.
    Oldest,
}

impl Release {
    /// Returns the module that the API server is built from.
    pub fn module(self) -> Module {
        match self {
            Self::Newest => Module::Kubernetes,
            Self::Oldest => Module::KubernetesOldest,
        }
    }
}

/// What to start. It is written to the cluster's folder, so that later commands know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// The name, which is also the folder's.
    pub name: Name,
    /// Which Kubernetes runs.
    pub kubernetes: Release,
    /// The text of an `EncryptionConfiguration`.
    pub encryption: String,
    /// The nodes. Without any the API server runs alone.
    #[serde(default)]
    pub nodes: Vec<NodeOptions>,
}

impl Options {
    /// Returns the newest Kubernetes with Secrets stored as they are.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            kubernetes: Release::Newest,
            encryption: control_plane::IDENTITY_ENCRYPTION.to_owned(),
            nodes: Vec::new(),
        }
    }

    /// Adds nodes called `node-0`, `node-1` and so on, of which the first ones are control-plane nodes.
    ///
    /// # Errors
    /// Fails when there would be a node, but none with an API server, or more than there is room for.
    pub fn with_nodes(mut self, nodes: usize, control_planes: usize) -> Result<Self> {
        self.nodes = (0..nodes)
            .map(|number| {
                Ok(NodeOptions {
                    name: format!("node-{number}").parse()?,
                    control_plane: number < control_planes,
                })
            })
            .collect::<Result<_>>()?;
        self.check_nodes()?;
        Ok(self)
    }

    /// Refuses nodes that could not become a cluster.
    pub(super) fn check_nodes(&self) -> Result<()> {
        ensure!(
            self.nodes.len() <= network::NODES,
            "there is room for {} nodes",
            network::NODES
        );
        ensure!(
            self.nodes.iter().any(|node| node.control_plane),
            "of these nodes none is a control-plane node"
        );
        for (number, node) in self.nodes.iter().enumerate() {
            let earlier = &self.nodes[..number];
            ensure!(
                earlier.iter().all(|other| other.name != node.name),
                "two nodes are called {}",
                node.name
            );
        }
        ensure!(
            self.kubernetes == Release::Newest,
            "nodes run the newest Kubernetes, and a kubelet must not be newer than its API server"
        );
        Ok(())
    }
}

/// A node that a cluster starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOptions {
    /// The name, which is also its host name.
    pub name: Name,
    /// Whether an API server runs there.
    pub control_plane: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new("one".parse().unwrap())
    }

    #[test]
    fn first_nodes_are_the_control_plane() {
        let options = options().with_nodes(3, 2).unwrap();
        let shown: Vec<_> = options
            .nodes
            .iter()
            .map(|node| (node.name.as_ref(), node.control_plane))
            .collect();
        let expected = [("node-0", true), ("node-1", true), ("node-2", false)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn nodes_that_cannot_be_a_cluster_are_refused() {
        let check = |options: Result<Options>, expected: &str| {
            let error = options.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(options().with_nodes(2, 0), "none is a control-plane node");
        check(options().with_nodes(17, 1), "room for 16");
        let oldest = Options {
            kubernetes: Release::Oldest,
            ..options()
        };
        check(oldest.with_nodes(1, 1), "newer than its API server");
        let mut twins = options().with_nodes(2, 1).unwrap();
        twins.nodes[1].name = twins.nodes[0].name.clone();
        check(
            twins.check_nodes().map(|()| options()),
            "two nodes are called node-0",
        );
    }
}
