//! A program of an installation whose end a story looks at: with which code it went, or by which signal.

use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_hack::installation::{Installation, Program};

/// How long a program may take to be ready, or to come to a point where it is killed, on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// A running program; killed when it is dropped.
#[derive(Debug)]
pub struct Watched {
    program: Program,
    child: Child,
}

impl Watched {
    /// Starts a program whose fault points are set as `FAILPOINTS` says; an empty text sets none.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(installation: &Installation, program: Program, faults: &str) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(installation.log(program))?;
        let mut command = installation.command(program, "serve");
        command.env("FAILPOINTS", faults);
        let child = command
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log))
            .spawn()?;
        Ok(Self { program, child })
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends or takes too long, with the end of its log.
    pub fn wait_ready(&mut self, installation: &Installation) -> Result<()> {
        self.wait_probe(installation, |status| status == 200)
    }

    /// Waits until it answers its probes, ready or not.
    ///
    /// # Errors
    /// As `wait_ready`.
    pub fn wait_answering(&mut self, installation: &Installation) -> Result<()> {
        self.wait_probe(installation, |_| true)
    }

    fn wait_probe(
        &mut self,
        installation: &Installation,
        enough: impl Fn(u16) -> bool,
    ) -> Result<()> {
        let (name, start) = (self.program.name(), Instant::now());
        while start.elapsed() < LIMIT {
            let answer = installation.probe(self.program, "/readyz");
            if answer.is_ok_and(|answer| enough(answer.status)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{name} ended with {status}: {}",
                    installation.log_end(self.program)
                );
            }
            thread::sleep(PAUSE);
        }
        bail!("{name} is late: {}", installation.log_end(self.program))
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: ids of processes fit.
    #[must_use]
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// Tells whether it still runs.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal and waits for the end, which must come within `limit`.
    ///
    /// # Errors
    /// When it outlives the limit.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.id())?;
        // Not reaped yet, so the id is still its own.
        kill_process(Pid::from_raw(id).context("a child has an id")?, signal)?;
        self.wait(limit)
    }

    /// Waits until a fault point has killed it.
    ///
    /// # Errors
    /// When it lives on, or ended otherwise.
    pub fn wait_killed(&mut self) -> Result<()> {
        let status = self.wait(LIMIT)?;
        ensure!(
            status.signal() == Some(Signal::KILL.as_raw()),
            "{} ended with {status}",
            self.program.name()
        );
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                start.elapsed() < limit,
                "{} still runs after {limit:?}",
                self.program.name()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
