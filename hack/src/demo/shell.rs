//! Commands that are printed and then run by a shell, exactly as they stand there.

use std::fs;
use std::io::{BufRead, BufReader, pipe};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A shell with the variables of the demo.
pub(super) struct Shell {
    environment: PathBuf,
}

impl Shell {
    /// Returns a shell that sources the file before each command.
    pub(super) fn new(environment: PathBuf) -> Self {
        Self { environment }
    }

    /// Prints a command, runs it, and shows and returns what it prints.
    pub(super) fn run(&self, line: &str) -> Result<String> {
        self.run_to(line, 0)
    }

    /// Returns what a command prints, without showing either: for what the story waits for.
    pub(super) fn quietly(&self, line: &str) -> Result<String> {
        let output = self.command(line)?.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "this fails: {line}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Like `run`, for a command whose exit code is part of the story.
    pub(super) fn run_to(&self, line: &str, expected: i32) -> Result<String> {
        println!("\n$ {line}");
        let (output, input) = pipe()?;
        let mut command = self.command(line)?;
        command.stdout(input.try_clone()?).stderr(input);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {line:?}"))?;
        // It holds our ends of the pipe, which would keep the pipe open.
        drop(command);
        let mut text = String::new();
        for bytes in BufReader::new(output).split(b'\n') {
            let bytes = bytes?;
            let shown = String::from_utf8_lossy(&bytes);
            println!("    {shown}");
            text += &shown;
            text.push('\n');
        }
        let code = child.wait()?.code();
        if code != Some(0) {
            println!("    (exit code {})", code.unwrap_or(-1));
        }
        ensure!(
            code == Some(expected),
            "this ends with {code:?} and not with {expected}: {line}"
        );
        Ok(text)
    }

    fn command(&self, line: &str) -> Result<Command> {
        let variables = fs::read_to_string(&self.environment)?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{variables}{line}")]);
        command.stdin(Stdio::null());
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_sees_the_variables_and_its_exit_code_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        fs::write(&file, "export WORD='a b'\n").unwrap();
        let shell = Shell::new(file);
        let text = shell
            .run("echo \"$WORD\"; echo error >&2; printf 'no end'")
            .unwrap();
        assert_eq!(text, "a b\nerror\nno end\n");
        assert_eq!(shell.quietly("echo \"$WORD\"").unwrap(), "a b\n");
        assert!(shell.quietly("exit 3").is_err());
        assert_eq!(shell.run_to("exit 3", 3).unwrap(), "");
        assert!(shell.run("exit 3").is_err());
    }
}
