//! Lines that tell a person what a command is doing and how long it took. They go to standard error, so
//! that standard output stays fit for pipes.

use std::fmt::Display;
use std::time::Instant;

use anyhow::Result;

/// Prints one line of progress.
pub fn say(line: impl Display) {
    eprintln!("==> {line}");
}

/// Runs one step between a line that announces it and a line with the time it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(what);
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "failed" };
    say(format_args!(
        "{what}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    result
}
