//! One worker process and the socket to it.
#![forbid(unsafe_code)]

use std::{
    io, os::fd::OwnedFd, os::unix::net::UnixStream as StdStream, path::Path, time::Duration,
};

use strongroom_api::strongroom::hsm::v1::{
    WorkerAnswer, WorkerCall, worker_answer::Answer, worker_call::Call,
};
use strongroom_hsm::Reason;
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{child, config::Config, frame};

/// A module that has not answered by then will not.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    /// There is no socket pair.
    #[error("a socket pair cannot be made")]
    Pair(#[source] io::Error),
    /// There is no process.
    #[error("a process cannot be made")]
    Process(#[source] io::Error),
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// It took too long.
    #[error("a call took longer than {DEADLINE:?}")]
    Deadline,
    /// The worker is gone.
    #[error("the worker ended during a call")]
    Gone(#[source] io::Error),
    /// The answer is to another question.
    #[error("the worker answered another question")]
    Nonsense,
}

impl ExchangeError {
    /// What callers are told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Deadline => Reason::DeadlineExceeded,
            Self::Gone(_) | Self::Nonsense => Reason::WorkerRestarting,
        }
    }
}

/// A running worker; killed when it is dropped.
pub(super) struct WorkerProcess {
    child: Child,
    stream: UnixStream,
}

impl WorkerProcess {
    /// Starts a worker.
    pub(super) fn spawn(config_path: &Path, config: &Config) -> Result<Self, SpawnError> {
        let (ours, theirs) = StdStream::pair().map_err(SpawnError::Pair)?;
        ours.set_nonblocking(true).map_err(SpawnError::Pair)?;
        let stream = UnixStream::from_std(ours).map_err(SpawnError::Pair)?;
        let child = Command::from(child::command("worker", config_path, config))
            .stdin(OwnedFd::from(theirs))
            .kill_on_drop(true)
            .spawn()
            .map_err(SpawnError::Process)?;
        tracing::info!(pid = child.id(), "worker started");
        Ok(Self { child, stream })
    }

    /// Asks something and waits for the answer, which must come within the deadline.
    pub(super) async fn exchange(&mut self, call: Call) -> Result<Answer, ExchangeError> {
        let call = WorkerCall { call: Some(call) };
        let answer = timeout(DEADLINE, frame::exchange(&mut self.stream, &call)).await;
        let WorkerAnswer { answer } = answer
            .map_err(|_| ExchangeError::Deadline)?
            .map_err(ExchangeError::Gone)?;
        answer.ok_or(ExchangeError::Nonsense)
    }

    /// Resolves when the worker has ended by itself.
    pub(super) async fn ended(&mut self) {
        // It cannot be waited for only when it was already.
        let _ = self.child.wait().await;
    }

    /// Ends the worker now: it has nothing to tidy up, and may hang in the module.
    pub(super) async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "the worker cannot be killed");
        }
    }
}
