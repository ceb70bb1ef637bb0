//! The words after `cargo xtask`.

mod cluster;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{packages, tools};

/// Developer commands of Strongroom.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs missing Debian packages (as root) and builds missing tools.
    Setup,
    /// Builds the tools that are not in the cache.
    Tools,
    /// Starts, ends and inspects a Kubernetes control plane in a namespace of its own.
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Setup => {
            packages::ensure_installed()?;
            tools::ensure_all_built()
        }
        Command::Tools => tools::ensure_all_built(),
        Command::Cluster { command } => cluster::run(command),
    }
}
