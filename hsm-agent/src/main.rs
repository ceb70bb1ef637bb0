//! Entry point.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    strongroom_hsm_agent::run(strongroom_hsm_agent::Arguments::parse())
}
