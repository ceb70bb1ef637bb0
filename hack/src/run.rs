//! Runs the programs that a check is made of and shows their output as it comes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs a command to its end and fails when it fails. Its output goes where ours goes.
///
/// # Errors
/// Fails when the command cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    ensure!(status.success(), "{} failed ({status})", name(command));
    Ok(())
}

/// Runs a command without a word and returns what it prints; what it complains of is in the error.
///
/// # Errors
/// Fails when the command cannot be started or does not succeed.
pub fn run_quietly(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        name(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// Runs a command, shows each line of its standard output, and hands each to `see`. Returns whether the
/// command succeeded.
///
/// # Errors
/// Fails when the command cannot be started or its output cannot be read.
pub fn run_and_see(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    let output = child
        .stdout
        .take()
        .context("the child has no standard output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        see(&line);
    }
    Ok(child.wait()?.success())
}

/// Returns a `cargo` that works on the checkout, with the toolchain that is pinned there.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(crate::paths::checkout());
    command
}

fn name(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy());
    let program = command.get_program().to_string_lossy();
    format!("`{program} {}`", words.collect::<Vec<_>>().join(" "))
}
