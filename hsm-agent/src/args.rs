//! The command line.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Keeps Strongroom's root keys in a PKCS#11 token.
///
/// The only program that loads a PKCS#11 module, in a process of its own. The key service asks it over a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "hsm-agent", version, term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make SoftHSM's token and its PIN
    ///
    /// Refused when there is a token with the configured label, unless --if-missing is given. A run that was interrupted is
    /// finished by the next. Keys are not made here but by `key-service init`.
    Init(MakeToken),
    /// Serve the key service until SIGTERM
    Serve(ConfigFile),
    /// Make the folders of the configuration on the volumes of a pod: the data's and the socket's
    ///
    /// A volume that a cluster gives belongs to root and a group; the agent needs folders of its own in it. What is there
    /// already is checked and left as it is.
    Folders(ConfigFile),
    /// Load the module and answer the agent on standard input; the agent starts this itself
    #[command(hide = true)]
    Worker(ConfigFile),
    /// Load the module and make the token; `init` starts this itself
    #[command(hide = true)]
    MakeToken(MakeToken),
}

/// Which token to make.
#[derive(Debug, Args)]
pub struct MakeToken {
    /// The configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Succeed when there is a token already, and leave it alone
    #[arg(long)]
    pub if_missing: bool,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file; config/hsm-agent.yaml is the sample
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
