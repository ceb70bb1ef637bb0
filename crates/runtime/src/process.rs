//! The life of a process: hardened start, one start line, probes, tasks, one graceful end.

use std::{future::Future, net::SocketAddr, path::PathBuf, process::ExitCode};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing_subscriber::filter::ParseError;

use crate::{
    Chain, HardenError, Readiness, fault, harden, logs,
    metrics::Metrics,
    panics,
    probes::{self, Probes},
    tasks::{TaskError, TaskFailure, Tasks},
};

/// What a program tells about itself.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name of the program, also that of its threads.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The file that configured it.
    pub configuration: PathBuf,
    /// Filter of the log, such as `info`; the environment's `RUST_LOG` wins.
    pub log: String,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; nowhere when absent.
    pub probes: Option<SocketAddr>,
    /// Threads of the runtime; a program that waits for others needs few.
    pub worker_threads: usize,
}

/// What a program gets from its chassis. A clone is another handle to the same process.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    /// Conditions of `/readyz`.
    pub readiness: Readiness,
    /// Conditions of `/healthz`; a restart must be able to bring them back.
    pub liveness: Readiness,
    /// What `/metrics` prints.
    pub metrics: Metrics,
    /// Named tasks, and the wish to end.
    pub tasks: Tasks,
}

/// Why a process ended with a failure.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log filter has a mistake.
    #[error("the log filter has a mistake")]
    Log(#[source] ParseError),
    /// The process could not be hardened.
    #[error("the process cannot be hardened")]
    Harden(#[source] HardenError),
    /// Threads or signal handlers could not be made.
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    /// The address of the probes cannot be used.
    #[error("the probe address {address} cannot be bound")]
    Probes {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program could not set itself up.
    #[error("start failed")]
    Start(#[source] TaskFailure),
    /// A task failed.
    #[error("stopped by a failure")]
    Task(#[source] TaskError),
}

/// Prepares a command that does one thing and ends, as [`run`] prepares a program: whoever holds keys for a moment is as
/// hardened as whoever holds them for long.
///
/// # Errors
/// When the kernel refuses, or in a user namespace.
pub fn prepare() -> Result<(), HardenError> {
    panics::install();
    harden::harden()?;
    fault::install();
    Ok(())
}

/// Runs a program: hardens the process, lets `start` spawn its tasks, and joins them.
///
/// `start` returns once its tasks are spawned. The first SIGTERM or SIGINT, or the first task that fails, asks all
/// tasks to end; the second signal ends the process at once.
pub fn run<F, S, E>(program: Program, start: F) -> ExitCode
where
    F: FnOnce(Handle) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<TaskFailure>,
{
    let name = program.name;
    match try_run(program, start) {
        Ok(()) => {
            tracing::info!(program = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(name, &error);
            ExitCode::FAILURE
        }
    }
}

/// Says why the process ends. Without a valid filter there is no log yet, so that error is plain text.
fn report(name: &str, error: &RunError) {
    match error {
        RunError::Log(_) => eprintln!("{name}: {}", Chain(error)),
        _ => tracing::error!(program = name, error = %Chain(error), "stopped"),
    }
}

fn try_run<F, S, E>(program: Program, start: F) -> Result<(), RunError>
where
    F: FnOnce(Handle) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<TaskFailure>,
{
    logs::install(&program.log).map_err(RunError::Log)?;
    prepare().map_err(RunError::Harden)?;
    tracing::info!(
        program = program.name,
        version = program.version,
        configuration = %program.configuration.display(),
        "starting"
    );
    let runtime = Builder::new_multi_thread()
        .worker_threads(program.worker_threads)
        .thread_name(program.name)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(live(&program, start));
    // A blocking call that never returns must not hold the process.
    runtime.shutdown_background();
    outcome
}

async fn live<F, S, E>(program: &Program, start: F) -> Result<(), RunError>
where
    F: FnOnce(Handle) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<TaskFailure>,
{
    let handle = Handle::default();
    handle
        .metrics
        .gauges(
            "build_info",
            "Always 1; the labels say what runs.",
            &["program", "version"],
        )
        .with_label_values(&[program.name, program.version])
        .set(1);
    let started = handle.readiness.condition("start");
    started.missing("in progress");
    spawn_signals(&handle).map_err(RunError::Runtime)?;
    spawn_probes(program.probes, &handle)?;

    tokio::select! {
        outcome = start(handle.clone()) => {
            outcome.map_err(|error| RunError::Start(error.into()))?;
        }
        () = handle.tasks.shutdown() => {}
    }
    started.met();
    tracing::info!(program = program.name, "started");
    handle.tasks.join().await.map_err(RunError::Task)
}

fn spawn_probes(address: Option<SocketAddr>, handle: &Handle) -> Result<(), RunError> {
    let Some(address) = address else {
        return Ok(());
    };
    let listener = probes::bind(address).map_err(|source| RunError::Probes { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving probes");
    }
    let probes = Probes {
        readiness: handle.readiness.clone(),
        liveness: handle.liveness.clone(),
        metrics: handle.metrics.clone(),
    };
    handle.tasks.spawn(
        "probes",
        probes::serve(listener, probes, handle.tasks.shutdown()),
    );
    Ok(())
}

fn spawn_signals(handle: &Handle) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tasks = handle.tasks.clone();
    let stopping = handle.readiness.clone();
    // Not one of the tasks: it has to outlive the wish to end, for the second signal.
    #[allow(clippy::disallowed_methods, reason = "ends with the runtime")]
    tokio::spawn(async move {
        let signal = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal, "stopping");
        stopping.condition("stop").missing("the process is ending");
        tasks.stop();
        let signal = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal, "second signal, ending at once");
        std::process::exit(1);
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

impl Handle {
    /// Spawns a task; short for [`Tasks::spawn`].
    pub fn spawn<F, E>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskFailure>,
    {
        self.tasks.spawn(name, future);
    }

    /// Resolves when the process is asked to end; short for [`Tasks::shutdown`].
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static {
        self.tasks.shutdown()
    }
}
