//! `cargo xtask demo` and `demo-down`.

use anyhow::Result;
use clap::Args;

use crate::cluster::Name;
use crate::demo;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The demo's name; those of different names and ports run side by side.
    #[arg(long, default_value = demo::DEFAULT_NAME)]
    name: Name,
    /// The first of ten ports on loopback.
    #[arg(long, value_name = "PORT", default_value_t = 18400)]
    first_port: u16,
}

#[derive(Debug, Args)]
pub(super) struct DemoDown {
    /// The demo's name.
    #[arg(long, default_value = demo::DEFAULT_NAME)]
    name: Name,
}

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        demo::up(self.name, self.first_port)
    }
}

impl DemoDown {
    pub(super) fn run(self) -> Result<()> {
        demo::down(self.name)
    }
}
