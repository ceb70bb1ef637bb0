//! `cargo xtask demo` and `demo-down`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cluster::Name;
use crate::demo;
use crate::image;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The demo's name; those of different names and ports run side by side.
    #[arg(long, default_value = demo::DEFAULT_NAME)]
    name: Name,
    /// The first of ten ports on loopback.
    #[arg(long, value_name = "PORT", default_value_t = 18400)]
    first_port: u16,
    /// Plays the first act, secrets in pods, on a cluster that runs already. It needs kubectl and helm, our images on the
    /// nodes (`cargo xtask image`), and a default StorageClass.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What the names of our images begin with in that cluster.
    #[arg(long, value_name = "PREFIX", default_value = image::PREFIX, requires = "kubeconfig")]
    image_prefix: String,
    /// The image of the demo's pods in that cluster.
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "busybox:1",
        requires = "kubeconfig"
    )]
    pod_image: String,
}

#[derive(Debug, Args)]
pub(super) struct DemoDown {
    /// The demo's name.
    #[arg(long, default_value = demo::DEFAULT_NAME)]
    name: Name,
}

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        match self.kubeconfig {
            None => demo::up(self.name, self.first_port),
            Some(kubeconfig) => demo::elsewhere(demo::Elsewhere {
                kubeconfig,
                image_prefix: self.image_prefix,
                pod_image: self.pod_image,
            }),
        }
    }
}

impl DemoDown {
    pub(super) fn run(self) -> Result<()> {
        demo::down(self.name)
    }
}
