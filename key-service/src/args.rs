//! What the command line says.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use jiff::SignedDuration;

/// Key service of Strongroom: authenticates, authorizes, audits and uses keys.
#[derive(Debug, Parser)]
#[command(name = "key-service", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a new instance: keys in the token, store, certificate authority, the key of etcd
    ///
    /// Needs an empty data folder and a token without objects of ours. Run again after an interruption, it
    /// finishes what it began; on an initialised instance it says so and succeeds.
    Init(ConfigFile),
    /// Serves until it is told to stop
    Serve(ConfigFile),
    /// Makes the folders of the configuration on the volumes of a pod: those of store, audit log and sockets
    ///
    /// A volume that a cluster gives belongs to root and a group; the service needs folders of its own in it. What is
    /// there already is checked and left as it is.
    Folders(ConfigFile),
    /// Asks the key service of a cluster to make its instance, and waits
    ///
    /// For the job that the chart runs after an install. Where an instance is it says so and succeeds. Exit code 0 when
    /// there is an instance, 1 when the key service refuses, 3 when there was no answer in time.
    RequestInit(RequestInit),
    /// Gets a certificate for an administrator from the running service
    ///
    /// Run it on the node or through `kubectl exec`, as the user id of the service. The key never leaves the
    /// machine where the request was made: `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes
    /// -keyout admin.key -subj /CN=administrator -out admin.csr`.
    AdminCertificate(AdminCertificate),
    /// Checks a configuration file and exits
    CheckConfig(ConfigFile),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/strongroom/key-service.yaml"
    )]
    pub config: PathBuf,
}

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct RequestInit {
    /// Namespace of the key service
    #[arg(long, value_name = "NAME", default_value = "strongroom-system")]
    pub namespace: String,
    /// A kubeconfig [default: the service account of the pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long to wait for the answer, such as 90s or 5m
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: SignedDuration,
}

/// What the certificate is for.
#[derive(Debug, clap::Args)]
pub struct AdminCertificate {
    /// The configuration file
    #[command(flatten)]
    pub config: ConfigFile,
    /// Common name; one that the configuration lists
    #[arg(long, default_value = "administrator")]
    pub name: String,
    /// Certificate signing request, PEM; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// How long it counts, at most 24h
    #[arg(long, default_value = "24h")]
    pub lifetime: SignedDuration,
    /// Where the root certificate goes that verifies the service, PEM
    #[arg(long, value_name = "FILE")]
    pub root_out: Option<PathBuf>,
    /// Where certificate and intermediate go, PEM; standard output when left out
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
