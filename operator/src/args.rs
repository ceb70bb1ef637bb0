//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};

/// Operator of Strongroom: tells the key service what the custom resources of a cluster want, and says how they are.
#[derive(Debug, Parser)]
#[command(name = "operator", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API server of this cluster until SIGTERM or SIGINT.
    Serve {
        /// Configuration file (YAML); the sample is config/operator.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Name of this pod in Kubernetes; holds the Lease.
        #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        pod: String,
    },
}
