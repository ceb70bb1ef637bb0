//! The words after `cargo xtask`.

mod cluster;
mod demo;
mod image;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::edges::Edges;
use crate::tally::Tally;
use crate::{bench, checks, tools};

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
    /// Runs the quick checks: formatting, lints, dependencies, tests of the pure packages.
    Check,
    /// Runs all checks and tests; the last line is the sum. Needs root, for the clusters.
    Test,
    /// Runs the long tests and writes a report to docs/reports.
    TestLong,
    /// Shows the main job as a story, on a cluster and an HSM of its own, and leaves it running. Needs root.
    Demo(demo::Demo),
    /// Ends the demo and removes every trace of it.
    DemoDown(demo::DemoDown),
    /// Writes images of the programs as archives that `ctr images import` takes, and the command line for nodes.
    Image(image::Image),
    /// Runs the benchmarks and writes docs/benchmarks.md. Needs root, for user ids.
    Bench {
        /// What to measure: native, delivery, operator [default: everything]
        parts: Vec<String>,
    },
    /// Prints the table of dependencies between our packages, for hack/edges.txt.
    Edges,
    /// Starts, ends and inspects a Kubernetes control plane in a namespace of its own.
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => checks::prepare()?,
        Command::Tools => tools::ensure_all_built()?,
        Command::Check => return Ok(exit_code(checks::quick())),
        Command::Test => return Ok(exit_code(checks::whole())),
        Command::TestLong => return Ok(exit_code(checks::long())),
        Command::Demo(command) => command.run()?,
        Command::DemoDown(command) => command.run()?,
        Command::Image(command) => command.run()?,
        Command::Bench { parts } => bench::run(&parts)?,
        Command::Edges => print!("{}", Edges::load()?.table()),
        Command::Cluster { command } => cluster::run(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(tally: Tally) -> ExitCode {
    if tally.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
