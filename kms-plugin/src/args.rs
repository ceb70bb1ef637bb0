//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, Subcommand};
use jiff::SignedDuration;

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
    /// Wait until the plugin can be used, so that kube-apiserver starts then and not before.
    ///
    /// For an init container of kube-apiserver, or a unit that starts it. Asks the plugin's Status, and says what is missing.
    /// Exit code 0 when the plugin can be used, 3 when it could not in time.
    Wait(WaitArgs),
}

/// What to wait for, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct WaitArgs {
    /// The socket for kube-apiserver.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// User id of the plugin; another listener is refused before the first byte [default: the own].
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// How long to wait at most [default: 5m].
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        hide_default_value = true
    )]
    pub timeout: Patience,
    /// Exit with 0 after the timeout too: a cluster without Secrets can be mended, one without an API server cannot.
    #[arg(long)]
    pub start_anyway: bool,
}

/// A time to wait, such as `5m`.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

impl FromStr for Patience {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: Option<SignedDuration> = text.parse().ok();
        let duration = parsed.and_then(|duration| Duration::try_from(duration).ok());
        duration.map(Self).ok_or("not a duration, such as 5m")
    }
}
