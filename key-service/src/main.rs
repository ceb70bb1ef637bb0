//! Entry point of the key service.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    strongroom_key_service::run(strongroom_key_service::args::Args::parse())
}
