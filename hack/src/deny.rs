//! Licences, banned crates and sources of all dependencies, by cargo-deny with `deny.toml`. Advisories need
//! a database from outside and belong to a job of their own, so that a new one does not block a fix.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{paths, progress, tools};

/// The version that is installed into the cache.
const VERSION: &str = "0.20.2";

/// Returns cargo-deny, and installs it when it is not in the cache.
///
/// # Errors
/// Fails when it cannot be built.
pub fn ensure_installed() -> Result<PathBuf> {
    let folder = paths::cache()?.join("tools");
    let root = folder.join(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin/cargo-deny");
    if program.exists() {
        return Ok(program);
    }
    let _lock = tools::lock(&folder.join("cargo-deny.lock"))?;
    if program.exists() {
        return Ok(program);
    }
    progress::step(&format!("building cargo-deny {VERSION}"), || {
        let build = folder.join("cargo-deny.build");
        // `cargo install` puts the binary in place only after it is built.
        run(cargo()
            .args([
                "install",
                "cargo-deny",
                "--quiet",
                "--locked",
                "--version",
                VERSION,
            ])
            .arg("--root")
            .arg(&root)
            .env("CARGO_TARGET_DIR", &build))?;
        fs::remove_dir_all(build)?;
        Ok(program)
    })
}

/// Checks the dependencies of the checkout.
///
/// # Errors
/// Fails when something is not allowed; the reasons are on standard error.
pub fn check() -> Result<()> {
    let program = ensure_installed()?;
    run(Command::new(program)
        .current_dir(paths::checkout())
        .args([
            "--workspace",
            "--all-features",
            "--locked",
            "check",
            "--hide-inclusion-graph",
        ])
        .args(["licenses", "bans", "sources"]))
}
