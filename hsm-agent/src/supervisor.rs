//! The parent's side of the worker: one child, one call at a time, a deadline on each, and the next child when one ends.
//!
//! A worker is never repaired from outside. Whatever goes wrong with it, it is killed, and its successor starts afresh.
#![forbid(unsafe_code)]

mod process;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use process::{ExchangeError, SpawnError, WorkerProcess};
use strongroom_api::strongroom::hsm::v1::{
    DescribeRequest, WorkerFailure, worker_answer::Answer, worker_call::Call,
};
use strongroom_hsm::{HsmError, Reason, TokenDescription, TokenState};
use strongroom_runtime::{Chain, Condition, tasks::Tasks};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    config::Config,
    make_token,
    metrics::AgentMetrics,
    softhsm::{self, ReadyError},
};

/// Calls that may wait. At a few milliseconds each they are done within the wait below.
const QUEUE: usize = 64;
/// What cannot be started by then is shed: its caller has better things to do than to wait in a line.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// How long a caller waits for a token that is made; SoftHSM takes less than a second.
const MAKE_WAIT: Duration = Duration::from_secs(10);
/// How often a token that works is proved, and one that does not is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// How long the call in work may take when the agent ends: less than the time in which the agent must be gone.
const LAST_CALL: Duration = Duration::from_secs(2);
/// A worker that lived so long did not end because of how it was started.
const STABLE: Duration = Duration::from_secs(30);

/// What `/readyz` says before there is a token.
const AWAITING_INIT: &str = "awaiting init";

/// A call on its way to the worker.
struct Job {
    call: Call,
    started: oneshot::Sender<()>,
    reply: oneshot::Sender<Result<Answer, HsmError>>,
}

impl Job {
    fn refuse(self, error: HsmError) {
        // An error means that the caller has given up meanwhile.
        let _ = self.started.send(());
        let _ = self.reply.send(Err(error));
    }
}

/// Somebody waits for a token that is being made.
type Make = oneshot::Sender<Result<(), HsmError>>;

/// Asks the worker. A clone is another handle to the same one.
#[derive(Clone)]
pub(crate) struct Worker {
    queue: mpsc::Sender<Job>,
    makes: mpsc::Sender<Make>,
    last: watch::Receiver<Arc<TokenDescription>>,
}

impl Worker {
    /// What the worker saw last; never waits.
    pub(crate) fn last_look(&self) -> Arc<TokenDescription> {
        self.last.borrow().clone()
    }

    /// Asks the worker for something.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, HsmError> {
        let (started, is_started) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        if self
            .queue
            .try_send(Job {
                call,
                started,
                reply,
            })
            .is_err()
        {
            return Err(HsmError::new(
                Reason::Overloaded,
                "too many calls wait for the token",
            ));
        }
        match timeout(QUEUE_WAIT, is_started).await {
            Ok(Ok(())) => answer.await.unwrap_or_else(|_| Err(ended())),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(self.shed()),
        }
    }

    /// Has a token made where nothing of one is.
    pub(crate) async fn make_token(&self) -> Result<(), HsmError> {
        let last = self.last_look();
        match last.state {
            TokenState::NotMade => {}
            TokenState::TokenMissing => {
                return Err(HsmError::new(Reason::TokenMissing, last.message.clone()));
            }
            _ => return Ok(()),
        }
        let (reply, made) = oneshot::channel();
        if self.makes.try_send(reply).is_err() {
            return Err(HsmError::new(
                Reason::Overloaded,
                "a token is being made already",
            ));
        }
        match timeout(MAKE_WAIT, made).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(HsmError::new(
                Reason::DeadlineExceeded,
                "the token was not made in time",
            )),
        }
    }

    fn shed(&self) -> HsmError {
        let last = self.last.borrow();
        match last.state {
            TokenState::Starting => HsmError::new(Reason::WorkerRestarting, last.message.clone()),
            _ => HsmError::new(
                Reason::Overloaded,
                "the token did not get to the call within a second",
            ),
        }
    }
}

fn ended() -> HsmError {
    HsmError::new(Reason::WorkerRestarting, "the worker ended during the call")
}

/// Why a worker is no more.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The agent ends.
    #[error("the agent ends")]
    Stopping,
    /// It could not be started.
    #[error("the worker cannot be started")]
    Spawn(#[source] SpawnError),
    /// It ended.
    #[error("the worker ended")]
    Exited,
    /// A call failed with it.
    #[error("the worker was killed")]
    Exchange(#[source] ExchangeError),
}

/// Keeps a worker running.
pub(crate) struct Supervisor {
    config: Config,
    config_path: PathBuf,
    tasks: Tasks,
    queue: mpsc::Receiver<Job>,
    makes: mpsc::Receiver<Make>,
    last: watch::Sender<Arc<TokenDescription>>,
    condition: Condition,
    metrics: AgentMetrics,
}

impl Supervisor {
    /// Makes a supervisor and the handle to its worker.
    pub(crate) fn new(
        config: Config,
        config_path: PathBuf,
        tasks: Tasks,
        condition: Condition,
        metrics: AgentMetrics,
    ) -> (Self, Worker) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (make, makes) = mpsc::channel(1);
        let (last, looks) =
            watch::channel(Arc::new(unseen(&config, "the worker is being started")));
        let supervisor = Self {
            config,
            config_path,
            tasks,
            queue,
            makes,
            last,
            condition,
            metrics,
        };
        supervisor.show(&supervisor.last.borrow());
        (
            supervisor,
            Worker {
                queue: sender,
                makes: make,
                last: looks,
            },
        )
    }

    /// Runs workers until the agent ends.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            if self.wait_for_files().await.is_err() {
                return Ok(());
            }
            let born = Instant::now();
            let end = self.live().await;
            if matches!(end, End::Stopping) {
                return Ok(());
            }
            self.metrics.worker_restarts.inc();
            let sentence = Chain(&end).to_string();
            tracing::warn!(error = sentence, "worker ended, starting another");
            self.publish(unseen(
                &self.config,
                &format!("{sentence}; another is being started"),
            ));
            if born.elapsed() > STABLE {
                backoff = BACKOFF_FIRST;
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.tasks.shutdown() => return Ok(()),
            }
            backoff = BACKOFF_LAST.min(backoff * 2);
        }
    }

    /// Waits for the files that the module works on; meanwhile callers hear what is missing.
    async fn wait_for_files(&mut self) -> Result<(), End> {
        while let Err(error) = softhsm::ready(&self.config) {
            let state = match error {
                ReadyError::Late { .. } => TokenState::TokenMissing,
                ReadyError::NotMade => TokenState::NotMade,
                ReadyError::Prepare(_) => TokenState::ModuleFailed,
            };
            let sentence = Chain(&error).to_string();
            self.publish(TokenDescription {
                state,
                ..unseen(&self.config, &sentence)
            });
            let refusal = HsmError::new(Reason::TokenMissing, sentence);
            let look_again = sleep(LOOK_AGAIN);
            let stopping = self.tasks.shutdown();
            tokio::pin!(look_again, stopping);
            loop {
                tokio::select! {
                    () = &mut stopping => return Err(End::Stopping),
                    () = &mut look_again => break,
                    Some(reply) = self.makes.recv() => {
                        let made = self.make_token(state).await;
                        // An error means that the caller has given up meanwhile; the token stays.
                        let _ = reply.send(made);
                        break;
                    }
                    job = self.queue.recv() => match job {
                        Some(job) => job.refuse(refusal.clone()),
                        None => return Err(End::Stopping),
                    },
                }
            }
        }
        Ok(())
    }

    /// Makes a token, unless one was lost meanwhile. No worker has the module loaded now.
    async fn make_token(&self, state: TokenState) -> Result<(), HsmError> {
        if state != TokenState::NotMade {
            let sentence = self.last.borrow().message.clone();
            return Err(HsmError::new(Reason::TokenMissing, sentence));
        }
        let (path, config) = (self.config_path.clone(), self.config.clone());
        let make = move || make_token::make_token(&path, &config, true);
        let made = tokio::task::spawn_blocking(make).await;
        made.expect("making a token does not panic")
            .map_err(|error| HsmError::new(Reason::TokenFailed, Chain(&error).to_string()))?;
        self.publish(unseen(&self.config, "the token was made just now"));
        Ok(())
    }

    /// Runs one worker from its start to its end.
    async fn live(&mut self) -> End {
        let mut worker = match WorkerProcess::spawn(&self.config_path, &self.config) {
            Ok(worker) => worker,
            Err(error) => return End::Spawn(error),
        };
        let stopping = self.tasks.shutdown();
        let cut = async {
            stopping.await;
            sleep(LAST_CALL).await;
        };
        let end = tokio::select! {
            end = self.work(&mut worker) => end,
            () = cut => End::Stopping,
        };
        worker.kill().await;
        end
    }

    async fn work(&mut self, worker: &mut WorkerProcess) -> End {
        loop {
            if let Err(end) = self.look(worker).await {
                return end;
            }
            if let Err(end) = self.answer_until_next_look(worker).await {
                return end;
            }
        }
    }

    async fn answer_until_next_look(&mut self, worker: &mut WorkerProcess) -> Result<(), End> {
        let stopping = self.tasks.shutdown();
        tokio::pin!(stopping);
        let ready = self.last.borrow().state == TokenState::Ready;
        let mut look = interval(if ready { LOOK_EVERY } else { LOOK_AGAIN });
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once.
        look.tick().await;
        loop {
            tokio::select! {
                biased;
                () = &mut stopping => return Err(End::Stopping),
                () = worker.ended() => return Err(End::Exited),
                _ = look.tick() => return Ok(()),
                job = self.queue.recv() => match job {
                    Some(job) => self.answer(worker, job).await?,
                    None => return Err(End::Stopping),
                },
            }
        }
    }

    /// Looks at the token, and shows what is there.
    async fn look(&mut self, worker: &mut WorkerProcess) -> Result<(), End> {
        match worker
            .exchange(Call::Look(DescribeRequest {}))
            .await
            .map_err(End::Exchange)?
        {
            Answer::Description(token) => self.publish_answer(token),
            Answer::Failure(failure) => {
                let error = error_of(failure);
                let sentence = format!("the token failed: {error}");
                self.publish(TokenDescription {
                    state: TokenState::ModuleFailed,
                    ..unseen(&self.config, &sentence)
                });
                Ok(())
            }
            _ => Err(End::Exchange(ExchangeError::Nonsense)),
        }
    }

    async fn answer(&mut self, worker: &mut WorkerProcess, job: Job) -> Result<(), End> {
        let Job {
            call,
            started,
            reply,
        } = job;
        // The caller has given up meanwhile.
        if started.send(()).is_err() {
            return Ok(());
        }
        match worker.exchange(call).await {
            Ok(Answer::Failure(failure)) => {
                let _ = reply.send(Err(error_of(failure)));
                Ok(())
            }
            Ok(answer) => {
                if let Answer::Description(token) = &answer {
                    self.publish_answer(token.clone())?;
                }
                let _ = reply.send(Ok(answer));
                Ok(())
            }
            Err(error) => {
                let sentence = format!("the worker was killed: {}", Chain(&error));
                let _ = reply.send(Err(HsmError::new(error.reason(), sentence)));
                Err(End::Exchange(error))
            }
        }
    }

    fn publish_answer(
        &self,
        token: strongroom_api::strongroom::hsm::v1::TokenDescription,
    ) -> Result<(), End> {
        let token = token
            .try_into()
            .map_err(|_| End::Exchange(ExchangeError::Nonsense))?;
        self.publish(token);
        Ok(())
    }

    fn publish(&self, token: TokenDescription) {
        self.show(&token);
        if self.last.borrow().state != token.state {
            tracing::info!(
                state = token.state.name(),
                detail = token.message,
                "token state"
            );
        }
        self.last.send_replace(Arc::new(token));
    }

    fn show(&self, token: &TokenDescription) {
        self.metrics.show(token);
        match token.state {
            TokenState::Ready => self.condition.met(),
            TokenState::NotMade => self.condition.awaits(AWAITING_INIT),
            _ => self.condition.missing(token.message.clone()),
        }
    }
}

/// A token that nobody has looked at.
fn unseen(config: &Config, message: &str) -> TokenDescription {
    TokenDescription {
        state: TokenState::Starting,
        message: message.to_owned(),
        label: config.token.label.clone(),
        serial: String::new(),
        manufacturer: String::new(),
        model: String::new(),
        hardware: false,
        wrap_profile: String::new(),
        keys: None,
    }
}

fn error_of(failure: WorkerFailure) -> HsmError {
    let WorkerFailure { reason, sentence } = failure;
    HsmError::new(reason.parse().unwrap_or(Reason::TokenFailed), sentence)
}
