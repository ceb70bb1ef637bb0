//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// CSI driver of Strongroom: puts secrets into pods as files, and swaps them when they rotate.
#[derive(Debug, Parser)]
#[command(name = "csi-driver", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the kubelet of this node until SIGTERM or SIGINT; files stay as they are in the meantime.
    Serve {
        /// Configuration file (YAML); the sample is config/csi-driver.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Name of this node in Kubernetes.
        #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        node: String,
    },
}
