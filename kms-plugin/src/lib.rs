//! KMS v2 plugin for kube-apiserver.
//!
//! kube-apiserver asks over one Unix socket, the key service answers over another, or from another node over TLS with
//! a certificate of this node. The plugin holds no key of etcd: it holds the last probe of the key service, from which
//! `Status` answers at once, and the highest position it ever saw, which keeps a key id from coming back.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod enrol;
pub mod health;
pub mod identity;
pub mod plugin;
pub mod probe;
pub mod renewal;
pub mod serve;
pub mod service;
pub mod snapshot;
pub mod state;
pub mod upstream;
pub mod wait;

use std::{path::Path, process::ExitCode};

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
    match command {
        Command::Serve { config: path } => {
            configured(&path, |config| serve::run(config, path.clone()))
        }
        Command::Enrol {
            config: path,
            enrolment,
        } => configured(&path, |config| enrol::run(&config, &enrolment)),
        Command::Wait(args) => wait::run(&args),
    }
}

fn configured(path: &Path, run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(path) {
        Ok(config) => run(config),
        Err(error) => {
            eprintln!("kms-plugin: {}", Chain(&error));
            ExitCode::from(EXIT_USAGE)
        }
    }
}
