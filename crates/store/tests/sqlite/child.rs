//! Tests that need a process to kill run themselves again in one: the same test, told by the environment that it is the
//! child. What a child reports goes line by line to its standard output, past the capture of the test harness.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

const VARIABLE: &str = "STRONGROOM_STORE_TEST_CHILD";

/// The folder that the parent gave, in the child; nothing in the parent.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

/// The arguments that run one test of this program, to be put behind any wrapper.
pub(crate) fn test(name: &str) -> Vec<OsString> {
    let program = std::env::current_exe().unwrap();
    let rest = ["--exact", name, "--nocapture", "--test-threads=1"].map(OsString::from);
    [program.into_os_string()].into_iter().chain(rest).collect()
}

/// A command that makes the test that it runs a child.
pub(crate) fn command<A: AsRef<OsStr>>(words: &[A], folder: &OsStr) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(VARIABLE, folder);
    command
}

/// Reports one line in one system call, so that it leaves whole or not at all.
pub(crate) fn report(line: &str) {
    // The harness leaves its own line open before the test runs.
    let line = format!("\n{line}\n");
    let written = rustix::io::write(std::io::stdout(), line.as_bytes());
    assert_eq!(written, Ok(line.len()));
}
