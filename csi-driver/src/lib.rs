//! CSI node plugin: secrets of the key service as files in a tmpfs of each volume, swapped when they rotate.
//!
//! It keeps nothing but what is mounted: tokens and etags are in memory, files in tmpfs, and whatever it was killed in
//! the middle of is finished or undone by the next publish.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod driver;
pub mod exposition;
pub mod identity;
pub mod node;
pub mod registration;
pub mod request;
pub mod serve;
pub mod source;
pub mod table;
pub mod volume;
pub mod watch;

use std::process::ExitCode;

use clap::Parser;
use strongroom_runtime::Chain;

use crate::{
    args::{Args, Command},
    config::Config,
};

/// What pods and kubelet call the driver.
pub const NAME: &str = "csi.strongroom.dev";

/// Exit code for a command line or a configuration that cannot be used.
const EXIT_USAGE: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    let Args { command } = Args::parse();
    let Command::Serve { config: path, node } = command;
    match Config::load(&path) {
        Ok(config) => serve::run(config, path, node),
        Err(error) => {
            eprintln!("csi-driver: {}", Chain(&error));
            ExitCode::from(EXIT_USAGE)
        }
    }
}
