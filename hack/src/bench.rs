//! Benchmarks: the released programs under load, written to `docs/benchmarks.md` with the raw data beside it.

use anyhow::{Result, ensure};

use crate::{paths, run::cargo};

/// Runs the benchmarks, or those parts that are named; takes some minutes once everything is built.
///
/// # Errors
/// Fails when something does not compile or does not come up.
pub fn run(parts: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args([
        "run",
        "--locked",
        "--release",
        "--package",
        "strongroom-e2e",
        "--example",
        "bench",
        "--",
    ]);
    command.arg(paths::checkout().join("docs")).args(parts);
    let status = command.status()?;
    ensure!(status.success(), "the benchmarks did not run to the end");
    Ok(())
}
