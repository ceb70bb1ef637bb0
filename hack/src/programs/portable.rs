//! What makes a program the same wherever it is built, and independent of the machine that it runs on.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::run::cargo;

/// How a program finds the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linking {
    /// It brings it along; it can load no module.
    Static,
    /// It loads it, as the PKCS#11 module does.
    Dynamic,
}

/// Arguments of the compiler are separated by this in `CARGO_ENCODED_RUSTFLAGS`, so that paths may have spaces.
const SEPARATOR: &str = "\u{1f}";

/// The build of some packages' programs.
///
/// All of them share their libraries, which are built once: the flags of the static ones hold for everything, and only the
/// last step of a dynamic one takes them back. With a target named, the flags do not count for build scripts and macros.
pub(super) fn cargo_build(packages: &[&str], profile: &str, linking: Linking) -> Result<Command> {
    let places = places()?;
    let flags = |name: &str, separator: &str| {
        let flag = |(from, to): &(PathBuf, &str)| format!("{name}={}={to}", from.display());
        places.iter().map(flag).collect::<Vec<_>>().join(separator)
    };
    let mut command = cargo();
    // Only `rustc` takes flags for the last step; it wants a single package.
    command.arg(match linking {
        Linking::Static => "build",
        Linking::Dynamic => "rustc",
    });
    command.args(["--quiet", "--locked", "--bins"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(["--profile", profile, "--target", &target()]);
    // A folder of its own, since cargo lets nobody else build in one meanwhile.
    command
        .arg("--target-dir")
        .arg(target_folder()?.join("images"));
    for package in packages {
        command.args(["--package", package]);
    }
    if linking == Linking::Dynamic {
        command.args(["--", "-Ctarget-feature=-crt-static"]);
    }
    let rust = [
        flags("--remap-path-prefix", SEPARATOR),
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cstrip=symbols".to_owned(),
    ];
    command.env("CARGO_ENCODED_RUSTFLAGS", rust.join(SEPARATOR));
    // AWS-LC and SQLite are C, and name their files too.
    let c = format!("CFLAGS_{}", target().replace('-', "_"));
    command.env(c, flags("-ffile-prefix-map", " "));
    // What an incremental build makes depends on what was built before.
    command.env("CARGO_INCREMENTAL", "0");
    Ok(command)
}

/// The folders of this machine that could end up in a program, and what stands there instead; our own files are
/// named relative to the checkout anyway. Later ones win.
fn places() -> Result<[(PathBuf, &'static str); 2]> {
    Ok([(cargo_home()?, "/cargo"), (target_folder()?, "/target")])
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CARGO_HOME") {
        return Ok(folder.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}

fn target_folder() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let output = command.output().context("cannot start `cargo metadata`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`cargo metadata` failed: {said}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.target_directory)
}
