//! Tasks with names, which are joined. A process has one [`Tasks`]; a task that fails or panics stops all of them,
//! and the first failure is what the process ends with.

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tracing::Instrument;

/// How long tasks may take to end after they were asked to. Less than the five seconds in which a process must be
/// gone, so that what comes after still fits.
pub const DRAIN: Duration = Duration::from_secs(4);

/// The error of a task.
pub type TaskFailure = Box<dyn Error + Send + Sync>;

/// How a task ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The task.
        name: &'static str,
        /// What it returned.
        #[source]
        source: TaskFailure,
    },
    /// It panicked, which ends the process at once where [`crate::panics`] is installed.
    #[error("task {name} panicked")]
    Panicked {
        /// The task.
        name: &'static str,
    },
    /// It did not end within [`DRAIN`].
    #[error("still running {DRAIN:?} after the stop: {names}")]
    Stuck {
        /// The tasks, separated by commas.
        names: String,
    },
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<&'static str, usize>,
    failure: Option<TaskError>,
}

/// The tasks of a process. A clone is another handle to the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    state: Arc<Mutex<State>>,
    running: watch::Sender<usize>,
    stopping: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            running: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        }
    }
}

impl Tasks {
    /// Runs a future as a named task on the current runtime.
    ///
    /// A task that serves until the process ends selects on [`Tasks::shutdown`]; one that returns `Ok` earlier is done.
    pub fn spawn<F, E>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskFailure>,
    {
        let ended = self.begin(name);
        let work = async move {
            ended.report(future.await.map_err(Into::into));
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the place that names and joins"
        )]
        tokio::spawn(work.instrument(tracing::info_span!("task", name)));
    }

    /// Runs a future on a thread and a runtime of its own, so that no other load can delay it.
    ///
    /// # Errors
    ///
    /// When the thread or its runtime cannot be made.
    pub fn spawn_thread<F, E>(&self, name: &'static str, future: F) -> std::io::Result<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskFailure>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ended = self.begin(name);
        let span = tracing::info_span!("task", name);
        let work = move || {
            let outcome = runtime.block_on(future.instrument(span));
            ended.report(outcome.map_err(Into::into));
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map(drop)
    }

    /// Asks every task to end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Resolves when the tasks are asked to end.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.subscribe();
        // Keeps the sender alive, so that the wait cannot fail.
        let tasks = self.clone();
        async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            drop(tasks);
        }
    }

    /// Waits until the tasks were asked to end and have, or [`DRAIN`] has passed.
    ///
    /// # Errors
    ///
    /// The first failure of a task, or the names of those that did not end.
    pub async fn join(&self) -> Result<(), TaskError> {
        self.shutdown().await;
        let mut running = self.running.subscribe();
        let drained = tokio::time::timeout(DRAIN, running.wait_for(|running| *running == 0))
            .await
            .is_ok();
        let mut state = self.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if drained {
            return Ok(());
        }
        let names: Vec<&str> = state.running.keys().copied().collect();
        Err(TaskError::Stuck {
            names: names.join(", "),
        })
    }

    fn begin(&self, name: &'static str) -> Ended {
        *self.lock().running.entry(name).or_default() += 1;
        self.running.send_modify(|running| *running += 1);
        Ended {
            name,
            tasks: self.clone(),
            outcome: None,
        }
    }

    fn end(&self, name: &'static str, failure: Option<TaskError>) {
        let failed = failure.is_some();
        {
            let mut state = self.lock();
            if let Some(count) = state.running.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.running.remove(name);
                }
            }
            if state.failure.is_none() {
                state.failure = failure;
            }
        }
        if failed {
            self.stop();
        }
        self.running.send_modify(|running| *running -= 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the end of a task when it is dropped, so that a panic is reported too.
struct Ended {
    name: &'static str,
    tasks: Tasks,
    outcome: Option<Result<(), TaskFailure>>,
}

impl Ended {
    fn report(mut self, outcome: Result<(), TaskFailure>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let name = self.name;
        let failure = match self.outcome.take() {
            Some(Ok(())) => None,
            Some(Err(source)) => Some(TaskError::Failed { name, source }),
            None if std::thread::panicking() => Some(TaskError::Panicked { name }),
            // The runtime was dropped under the task.
            None => None,
        };
        self.tasks.end(name, failure);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use super::*;
    use crate::Chain;

    #[tokio::test]
    async fn a_failed_task_stops_the_others_and_is_named() {
        let tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks.spawn("waiting", async move {
            shutdown.await;
            Ok::<(), Infallible>(())
        });
        tasks.spawn("listener", async {
            Err(io::Error::other("address in use"))
        });
        let error = tasks.join().await.unwrap_err();
        assert_eq!(
            Chain(&error).to_string(),
            "task listener failed: address in use"
        );
    }

    #[tokio::test]
    async fn a_task_that_panics_is_named() {
        let tasks = Tasks::default();
        tasks.spawn("fragile", async {
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
            Ok::<(), Infallible>(())
        });
        assert_eq!(
            tasks.join().await.unwrap_err().to_string(),
            "task fragile panicked"
        );
    }

    #[tokio::test]
    async fn a_task_that_is_done_does_not_stop_the_others() {
        let tasks = Tasks::default();
        tasks.spawn("once", async { Ok::<(), Infallible>(()) });
        tokio::task::yield_now().await;
        assert_eq!(
            (*tasks.running.borrow(), *tasks.stopping.borrow()),
            (0, false)
        );
        tasks.stop();
        assert!(tasks.join().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named() {
        let tasks = Tasks::default();
        tasks.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
        tasks.stop();
        assert_eq!(
            tasks.join().await.unwrap_err().to_string(),
            "still running 4s after the stop: deaf"
        );
    }

    #[tokio::test]
    async fn a_task_on_its_own_thread_is_joined() {
        let tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks
            .spawn_thread("own", async move {
                shutdown.await;
                Err(io::Error::other("late"))
            })
            .unwrap();
        tasks.stop();
        let error = tasks.join().await.unwrap_err();
        assert_eq!(Chain(&error).to_string(), "task own failed: late");
    }
}
