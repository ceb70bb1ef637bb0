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
    /// Get this node's first certificate from the key service with an enrolment file, which is used up.
    ///
    /// Run it on the node as the user id of the plugin; a plugin that runs takes the certificate by itself. The file
    /// comes from `kubectl strongroom enrol node` and counts for 15 minutes.
    Enrol {
        /// Configuration file (YAML) with keyService.identityDir.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The enrolment file.
        #[arg(long, value_name = "FILE")]
        enrolment: PathBuf,
    },
}
