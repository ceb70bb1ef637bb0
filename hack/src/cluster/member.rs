//! A process of a cluster: what to run, where its output goes, and how to wait until it is well.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::layout::Layout;
use super::namespace::Namespace;
use super::process::Process;

/// How many last lines of a log an error shows.
const SHOWN_LINES: usize = 15;

/// Starts a program again whenever it ends, as the service manager of a machine does. The program ends with it.
const KEEP_RUNNING: &str = "\
trap 'kill \"$child\"; wait; exit' TERM
while :; do setpriv --pdeathsig=KILL -- \"$@\" & child=$!; wait \"$child\"; sleep 1; done";

/// A process that runs inside the namespaces of a cluster or of a node.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    kept_running: bool,
}

impl Member {
    /// Returns a member without arguments. The name is also that of its log.
    pub fn new(name: &str, program: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            kept_running: false,
        }
    }

    /// Returns the name under which a node's member is recorded. Names of nodes have no dot.
    pub(super) fn name_on(node: &str, member: &str) -> String {
        format!("{node}.{member}")
    }

    /// Returns the same member as one of a node.
    pub(super) fn of_node(mut self, node: &str) -> Self {
        self.name = Self::name_on(node, &self.name);
        self
    }

    /// Adds an argument as it is.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Has the program started again whenever it ends. The recorded process is then the one that does so.
    #[must_use]
    pub fn kept_running(mut self) -> Self {
        self.kept_running = true;
        self
    }

    /// Adds `--<name>=<value>`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        self.arguments.push(flag);
        self
    }

    /// Returns its arguments, for somebody else who runs the program.
    pub(super) fn words(&self) -> Result<Vec<String>> {
        let words = self.arguments.iter().map(|word| word.to_str());
        let words: Option<Vec<&str>> = words.collect();
        let words = words.context("an argument is not UTF-8")?;
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    pub(super) fn start(&self, layout: &Layout, namespace: &Namespace) -> Result<Process> {
        if let Some(process) = layout.process(&self.name)? {
            bail!("{} runs already, as process {}", self.name, process.id());
        }
        // Logs are appended to, so that those before a restart are kept.
        let log = File::options()
            .create(true)
            .append(true)
            .open(layout.log(&self.name))?;
        let mut command = namespace.member_command("setsid");
        if self.kept_running {
            command.args(["sh", "-c", KEEP_RUNNING, "sh"]);
        }
        command.arg(&self.program).args(&self.arguments);
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = namespace.spawn(&mut command)?;
        layout.record_process(&self.name, process)?;
        Ok(process)
    }
}

/// Waits until the check succeeds. Ends early when the member ends.
pub(super) fn wait_until_well(
    layout: &Layout,
    member: &str,
    limit: Duration,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let Err(error) = check() else { return Ok(()) };
        let log = layout.log(member);
        ensure!(
            layout.process(member)?.is_some(),
            "{member} ended; the last lines of {}:\n{}",
            log.display(),
            last_lines(&log, SHOWN_LINES)
        );
        if start.elapsed() > limit {
            return Err(error).with_context(|| {
                let lines = last_lines(&log, SHOWN_LINES);
                format!(
                    "{member} is not well after {limit:?}; the last lines of {}:\n{lines}",
                    log.display()
                )
            });
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the end of a log, indented.
pub(crate) fn last_lines(log: &Path, count: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(count);
    lines[start..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs a program that writes down its id and then sleeps.
    fn keep_running(ids: &Path) -> Process {
        let program = format!("echo $$ >> {}; exec sleep 600", ids.display());
        let mut command = Command::new("sh");
        command.args(["-c", KEEP_RUNNING, "sh", "sh", "-c", &program]);
        Process::spawn(&mut command).unwrap()
    }

    /// Waits for something that comes soon, unless it never comes.
    fn soon<T>(what: &str, check: impl Fn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = check() {
                return value;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn nth_process(ids: &Path, number: usize) -> Process {
        soon("the program runs", || {
            let text = fs::read_to_string(ids).unwrap_or_default();
            let line = text.split_inclusive('\n').nth(number)?;
            Process::with_id(line.strip_suffix('\n')?.parse().ok()?)
        })
    }

    #[test]
    fn program_is_started_again_and_ends_with_its_keeper() {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        for end in [Process::stop, Process::kill] {
            let _ = fs::remove_file(&ids);
            let keeper = keep_running(&ids);
            nth_process(&ids, 0).kill().unwrap();
            let second = nth_process(&ids, 1);
            end(keeper).unwrap();
            soon("the program ends", || (!second.is_alive()).then_some(()));
        }
    }
}
