//! Child processes of the agent: the same program, with the module's environment and nothing else.
#![forbid(unsafe_code)]

use std::{ffi::OsStr, path::Path, process::Command};

use crate::{config::Config, softhsm};

/// The program that is running, even when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// What a child inherits: the log filter, and in builds for tests the fault points.
const INHERITED: &[&str] = if cfg!(feature = "fault-points") {
    &["RUST_LOG", "FAILPOINTS"]
} else {
    &["RUST_LOG"]
};

/// Prepares a child that may load the module.
pub(crate) fn command(subcommand: &str, config_path: &Path, config: &Config) -> Command {
    let mut command = Command::new(OURSELVES);
    command
        .args([
            OsStr::new(subcommand),
            OsStr::new("--config"),
            config_path.as_os_str(),
        ])
        .env_clear()
        .envs(softhsm::environment(config));
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}
