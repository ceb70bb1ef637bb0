//! A process known by id and start time. The pair is never used again, an id alone is: a signal goes through
//! a pidfd that was opened before the start time was compared, so it cannot hit a stranger.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How long the kernel may take to end a process after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long a process may take to start its child.
const CHILD_LIMIT: Duration = Duration::from_secs(10);

/// A process that we started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    id: i32,
    /// Clock ticks since boot, field 22 of `/proc/<id>/stat`.
    started: u64,
}

impl Process {
    /// Starts a command and reaps it when it ends.
    ///
    /// # Errors
    /// Fails when the program cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        // Not reaped yet, so its entry is there even when it has ended already.
        let process = Self::find(child.id()).context("a child of ours is not in /proc")?;
        thread::spawn(move || child.wait());
        Ok(process)
    }

    /// Returns the living process with this id.
    pub fn with_id(id: u32) -> Option<Self> {
        Self::find(id).filter(|process| process.is_alive())
    }

    /// Returns the child of a process that starts exactly one and waits for it.
    pub(super) fn wait_for_child(self) -> Result<Self> {
        let path = format!("/proc/{0}/task/{0}/children", self.id);
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let child = text
                .split_whitespace()
                .find_map(|id| Self::find(id.parse().ok()?));
            if let Some(child) = child {
                return Ok(child);
            }
            ensure!(
                self.is_alive() && start.elapsed() < CHILD_LIMIT,
                "process {} has no child",
                self.id
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn find(id: u32) -> Option<Self> {
        let id = i32::try_from(id).ok()?;
        Some(Self {
            id,
            started: Stat::read(id)?.started,
        })
    }

    /// Returns the process id.
    pub fn id(self) -> i32 {
        self.id
    }

    /// Tells whether the process still runs. One that has ended but was not reaped does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.id).is_some_and(|stat| stat.started == self.started && stat.is_alive())
    }

    /// Asks the process to end, and kills it when it does not.
    ///
    /// # Errors
    /// Fails when it outlives SIGKILL.
    pub fn stop(self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if !self.wait(GRACE) {
            self.kill()?;
        }
        Ok(())
    }

    /// Kills the process and waits until it is gone.
    ///
    /// # Errors
    /// Fails when it outlives SIGKILL.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        ensure!(
            self.wait(KILL_LIMIT),
            "process {} outlives SIGKILL",
            self.id
        );
        Ok(())
    }

    /// Sends a signal. A process that is gone is fine.
    ///
    /// # Errors
    /// Fails when we may not signal the process.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.id) else {
            return Ok(());
        };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.with_context(|| format!("cannot signal process {}", self.id)),
        }
    }

    fn wait(self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// What we read of `/proc/<id>/stat`.
struct Stat {
    state: u8,
    started: u64,
}

impl Stat {
    fn read(id: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Reads from the last parenthesis on, since a program's name may contain anything before it.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_process_is_gone() {
        let process = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        assert!(process.is_alive());
        process.stop().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn child_is_found_while_its_parent_waits_for_it() {
        let mut command = Command::new("sh");
        let parent = Process::spawn(command.args(["-c", "sleep 600 & wait"])).unwrap();
        let child = parent.wait_for_child().unwrap();
        assert_ne!(child, parent);
        child.kill().unwrap();
        parent.kill().unwrap();
        assert!(parent.wait_for_child().is_err());
    }

    #[test]
    fn process_with_the_same_id_and_another_start_is_a_stranger() {
        let process = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        let stranger = Process {
            started: process.started + 1,
            ..process
        };
        stranger.kill().unwrap();
        assert!(process.is_alive());
        process.kill().unwrap();
    }

    #[test]
    fn start_time_is_read_behind_a_name_with_parentheses() {
        let text = "7 (a) b) S 1 7 7 0 -1 4 1 0 0 0 1 2 3 4 20 0 1 0 4711 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.started), (b'S', 4711));
    }
}
