//! What a command printed and how it ended.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The outcome of a command that ran to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Runs a command.
    ///
    /// # Errors
    /// When it cannot be started, is ended by a signal or prints something else than text.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command.output()?;
        Ok(Self {
            code: output.status.code().context("it was ended")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// Checks the exit code.
    ///
    /// # Errors
    /// With everything that was said when it is another one.
    pub fn ended(&self, code: i32) -> Result<()> {
        ensure!(self.code == code, "{self:?}");
        Ok(())
    }

    /// Checks that it said some words.
    ///
    /// # Errors
    /// With everything that was said when they are not in it.
    pub fn says(&self, words: &str) -> Result<()> {
        let said = self.out.contains(words) || self.err.contains(words);
        ensure!(said, "{words}: {self:?}");
        Ok(())
    }
}
