//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// KMS v2 plugin of Strongroom: lets kube-apiserver encrypt etcd with keys of the key service.
#[derive(Debug, Parser)]
#[command(name = "kms-plugin", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve kube-apiserver until SIGTERM or SIGINT.
    Serve {
        /// Configuration file (YAML); the sample is config/kms-plugin.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
