//! Operator: tells the key service what the custom resources of a cluster want, and says on them how they are.
//!
//! It decides nothing about rights and sees no value: it resolves names, carries wishes, and mirrors state. What is kept is
//! in the API server and in the key service, so that any process may take over at any moment.
#![forbid(unsafe_code)]

pub mod args;
pub mod changes;
pub mod cluster;
pub mod config;
pub mod counters;
pub mod crds;
pub mod installation;
pub mod kinds;
pub mod leadership;
pub mod object;
pub mod plan;
pub mod progress;
pub mod queue;
pub mod reconcile;
pub mod serve;
pub mod service;
pub mod sinks;

use std::process::ExitCode;

use clap::Parser;
use strongroom_runtime::Chain;

use crate::{
    args::{Args, Command},
    config::Config,
};

/// Exit code for a command line or a configuration that cannot be used.
const EXIT_USAGE: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    let Args { command } = Args::parse();
    let Command::Serve { config: path, pod } = command;
    match Config::load(&path) {
        Ok(config) => serve::run(config, path, pod),
        Err(error) => {
            eprintln!("operator: {}", Chain(&error));
            ExitCode::from(EXIT_USAGE)
        }
    }
}
