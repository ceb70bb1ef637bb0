//! A cluster that ends with its owner, for tests.

use std::ops::Deref;
use std::thread;

use anyhow::Result;

use super::{Cluster, Health, Options};
use crate::progress;

/// A cluster that is ended when it goes out of scope. After a panic its processes end and its folder stays,
/// so that logs and data can be looked at.
#[derive(Debug)]
pub struct ScopedCluster {
    cluster: Cluster,
}

impl ScopedCluster {
    /// Starts a cluster and waits until its API server is ready.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up(options: Options) -> Result<Self> {
        Ok(Self {
            cluster: Cluster::up(options)?,
        })
    }

    /// Starts a cluster and waits until its API server is as healthy as asked for.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up_until(options: Options, health: Health) -> Result<Self> {
        Ok(Self {
            cluster: Cluster::up_until(options, health)?,
        })
    }

    /// Starts the nodes of a cluster that has no API server yet.
    ///
    /// # Errors
    /// As [`Cluster::up_without_api_servers`].
    pub fn up_without_api_servers(options: Options) -> Result<Self> {
        Ok(Self {
            cluster: Cluster::up_without_api_servers(options)?,
        })
    }
}

impl Deref for ScopedCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for ScopedCluster {
    fn drop(&mut self) {
        let layout = self.cluster.layout();
        let ended = if thread::panicking() {
            progress::say(format_args!(
                "the cluster's folder is kept: {}",
                layout.root().display()
            ));
            layout.stop_processes()
        } else {
            super::down(self.cluster.name())
        };
        if let Err(error) = ended {
            progress::say(format_args!(
                "cannot end cluster {}: {error:#}",
                self.cluster.name()
            ));
        }
    }
}
