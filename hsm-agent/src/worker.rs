//! The worker: the process that loads the module. It answers one call after the other from its parent and knows no peers.
//!
//! Where only a new process helps, it answers and ends; the parent starts the next.
#![forbid(unsafe_code)]

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use strongroom_api::strongroom::hsm::v1::{
    self as pb, WorkerAnswer, WorkerCall, worker_answer::Answer, worker_call::Call,
};
use strongroom_crypto::{KEY_LEN, LockedMemory, LockedMemorySize, ReserveError};
use strongroom_hsm::{HsmError, RANDOM_MAX_LEN, Reason, TokenDescription, TokenState, wire};
use strongroom_runtime::{Chain, Program, fault};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    config::Config,
    frame,
    pin::PinFile,
    pkcs11::{CallError, Module, TokenInfo},
    softhsm::{self, PrepareError},
    token::{self, AttachError, OperationError, Token},
};

/// Why the worker ends, beside its parent's wish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// Not started by the agent.
    #[error("a worker is started by the agent alone: standard input is not its socket")]
    NotAChild(#[source] io::Error),
    /// The kernel does not tell when the parent ends.
    #[error("the end of the parent cannot be watched")]
    Parent(#[source] io::Error),
    /// There is no memory for keys.
    #[error("there is no locked memory for keys")]
    Memory(#[source] ReserveError),
    /// The token's files cannot be read or kept.
    #[error(transparent)]
    Keep(PrepareError),
    /// The parent is gone or wrote nonsense.
    #[error("the parent cannot be heard")]
    Frame(#[source] io::Error),
    /// Only a new process helps.
    #[error("module or token failed; the next worker starts afresh")]
    Broken,
}

/// Runs the worker with the agent's chassis, on standard input.
pub(crate) fn run(config: Config, program: Program) -> ExitCode {
    strongroom_runtime::run(program, |handle| async move {
        let tasks = handle.tasks.clone();
        let work = async move {
            let outcome = serve(&config);
            tasks.stop();
            outcome
        };
        handle.tasks.spawn_thread("module", work)
    })
}

fn serve(config: &Config) -> Result<(), WorkerError> {
    // Ends with its parent, however that ends.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| WorkerError::Parent(errno.into()))?;
    let stream = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(WorkerError::NotAChild)?;
    let stream = UnixStream::from(stream);
    stream.peer_addr().map_err(WorkerError::NotAChild)?;
    // The worker before this one may have been killed at any moment.
    softhsm::keep_tokens(config).map_err(WorkerError::Keep)?;
    // Two or three keys at a time.
    let size = LockedMemorySize {
        wanted: 64 * 1024,
        least: 4 * 1024,
    };
    let memory = LockedMemory::reserve(size).map_err(WorkerError::Memory)?;
    let mut worker = Worker {
        config,
        memory,
        module: None,
        info: None,
        token: None,
    };
    while let Some(WorkerCall { call }) = frame::read(&stream).map_err(WorkerError::Frame)? {
        fault::point!("hsm.worker.call");
        let (answer, fatal) = worker.answer(call);
        fault::point!("hsm.worker.before-answer");
        frame::write(&stream, &answer).map_err(WorkerError::Frame)?;
        wipe(answer);
        if fatal {
            return Err(WorkerError::Broken);
        }
    }
    Ok(())
}

/// Wipes what an answer carried out of the token.
fn wipe(WorkerAnswer { answer }: WorkerAnswer) {
    match answer {
        Some(Answer::UnwrapKek(mut response)) => response.kek.zeroize(),
        Some(Answer::Random(mut response)) => response.random.zeroize(),
        _ => {}
    }
}

struct Worker<'a> {
    config: &'a Config,
    memory: LockedMemory,
    module: Option<Module>,
    info: Option<TokenInfo>,
    token: Option<Token>,
}

impl Worker<'_> {
    /// Answers a call, and tells whether the process is of no use any more.
    fn answer(&mut self, call: Option<Call>) -> (WorkerAnswer, bool) {
        let outcome = match call {
            Some(call) => self.act(call),
            None => Err(HsmError::new(Reason::InvalidRequest, "a call without content").into()),
        };
        let (answer, fatal) = match outcome {
            Ok(answer) => (answer, false),
            Err(error) => {
                let fatal = error.is_fatal();
                (failure(error.into_answer()), fatal)
            }
        };
        (
            WorkerAnswer {
                answer: Some(answer),
            },
            fatal,
        )
    }

    fn act(&mut self, call: Call) -> Result<Answer, OperationError> {
        match call {
            Call::Look(pb::DescribeRequest {}) => self.look(),
            Call::Initialize(request) => {
                let instance = parsed(wire::instance(&request.instance_id))?;
                self.token()?.initialize(instance)?;
                Ok(Answer::Description((&self.description(None)).into()))
            }
            Call::Random(request) => self.random(&request),
            Call::WrapKek(request) => self.wrap_kek(request),
            Call::SignKekRecord(request) => {
                let record = parsed(wire::present("record", request.record))?;
                let signature = self.token()?.sign_kek_record(&parsed(record.try_into())?)?;
                let signature = signature.as_bytes().to_vec();
                Ok(Answer::SignKekRecord(pb::SignKekRecordResponse {
                    signature,
                }))
            }
            Call::UnwrapKek(request) => {
                let record = parsed(wire::present("record", request.record))?;
                let kek = self.token()?.unwrap_kek(&parsed(record.try_into())?)?;
                let kek = kek.expose(|kek| kek.to_vec());
                Ok(Answer::UnwrapKek(pb::UnwrapKekResponse { kek }))
            }
            Call::CertifyCheckpointKey(request) => {
                let statement = parsed(request.try_into())?;
                let signature = self.token()?.certify_checkpoint_key(&statement)?;
                let signature = signature.as_bytes().to_vec();
                Ok(Answer::CertifyCheckpointKey(
                    pb::CertifyCheckpointKeyResponse { signature },
                ))
            }
            Call::SignCaCertificate(request) => {
                let request = parsed(request.try_into())?;
                let certificate = self.token()?.sign_ca_certificate(&request)?;
                Ok(Answer::SignCaCertificate(pb::SignCaCertificateResponse {
                    certificate,
                }))
            }
        }
    }

    fn random(&mut self, request: &pb::RandomRequest) -> Result<Answer, OperationError> {
        let len = request.length as usize;
        if !(1..=RANDOM_MAX_LEN).contains(&len) {
            let sentence = format!("length: {len} is not 1 to {RANDOM_MAX_LEN}");
            return Err(HsmError::new(Reason::InvalidRequest, sentence).into());
        }
        let mut random = Zeroizing::new(vec![0; len]);
        self.token()?.random(&mut random)?;
        Ok(Answer::Random(pb::RandomResponse {
            random: std::mem::take(&mut random),
        }))
    }

    fn wrap_kek(&mut self, request: pb::WrapKekRequest) -> Result<Answer, OperationError> {
        let pb::WrapKekRequest {
            instance_id,
            ring_id,
            generation,
            kek,
        } = request;
        let kek = Zeroizing::new(kek);
        let place = strongroom_hsm::KekPlace {
            instance: parsed(wire::instance(&instance_id))?,
            ring: parsed(wire::ring(&ring_id))?,
            generation: parsed(wire::generation(generation))?,
        };
        let bytes: &[u8; KEY_LEN] = kek.as_slice().try_into().map_err(|_| {
            let sentence = format!("kek: {} bytes instead of {KEY_LEN}", kek.len());
            HsmError::new(Reason::InvalidRequest, sentence)
        })?;
        let key = self.memory.copy(bytes).map_err(OperationError::from)?;
        let envelope = self.token()?.wrap_kek(place, &key)?;
        Ok(Answer::WrapKek(pb::WrapKekResponse {
            envelope: Some((&envelope).into()),
        }))
    }

    /// Proves the token that is there, or looks for it again.
    fn look(&mut self) -> Result<Answer, OperationError> {
        let problem = match &mut self.token {
            Some(token) => token.canary().map(|()| None)?,
            None => self.attach().err(),
        };
        // A module that fails is not asked twice: the next process starts it afresh.
        if let Some(call) = problem.as_ref().and_then(Problem::call) {
            return Err(OperationError::Call(*call));
        }
        Ok(Answer::Description((&self.description(problem)).into()))
    }

    /// Gives the token, after another look for it: a caller should not wait for the next round.
    fn token(&mut self) -> Result<&mut Token, OperationError> {
        if self.token.is_none() {
            self.attach().map_err(|problem| match problem {
                Problem::Load(error) => {
                    HsmError::new(Reason::ModuleFailed, Chain(&error).to_string())
                }
                Problem::Attach(error) => error.into_answer(),
            })?;
        }
        self.token
            .as_mut()
            .ok_or_else(|| HsmError::new(Reason::TokenMissing, "no token is attached").into())
    }

    fn attach(&mut self) -> Result<(), Problem> {
        let module = match self.module {
            Some(module) => module,
            None => *self.module.insert(Module::load(&self.config.token.module)?),
        };
        let label = &self.config.token.label;
        let found = match token::find_slot(module, label) {
            Err(AttachError::Missing { .. }) => {
                module.restart().map_err(AttachError::from)?;
                token::find_slot(module, label)
            }
            found => found,
        };
        let found = found.inspect_err(|_| self.info = None)?;
        self.info = Some(found.1.clone());
        let pin = PinFile::new(self.config.pin_file(), self.config.pin_refused_file());
        let files = softhsm::files(self.config);
        let token = token::attach(module, found, pin, self.memory.clone(), files)?;
        tracing::info!(
            state = token.state().name(),
            profile = token.profile(),
            "token attached"
        );
        self.token = Some(token);
        Ok(())
    }

    fn description(&self, problem: Option<Problem>) -> TokenDescription {
        let (state, message) = match (&self.token, problem) {
            (_, Some(problem)) => (problem.state(), Chain(&problem).to_string()),
            (Some(token), None) => (token.state(), token.message()),
            (None, None) => (
                TokenState::Starting,
                "the token was not looked at yet".to_owned(),
            ),
        };
        let info = self.info.as_ref();
        let text = |field: fn(&TokenInfo) -> &String| info.map(field).cloned().unwrap_or_default();
        TokenDescription {
            state,
            message,
            label: self.config.token.label.clone(),
            serial: text(|info| &info.serial),
            manufacturer: text(|info| &info.manufacturer),
            model: text(|info| &info.model),
            hardware: info.is_some_and(|info| info.hardware),
            wrap_profile: self
                .token
                .as_ref()
                .map(Token::profile)
                .unwrap_or_default()
                .to_owned(),
            keys: self.token.as_ref().and_then(Token::keys),
        }
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// There is no module.
    #[error(transparent)]
    Load(#[from] crate::pkcs11::LoadError),
    /// There is no token that can be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl Problem {
    const fn call(&self) -> Option<&CallError> {
        match self {
            Self::Load(_) => None,
            Self::Attach(error) => error.call(),
        }
    }

    const fn state(&self) -> TokenState {
        match self {
            Self::Load(_) => TokenState::ModuleFailed,
            Self::Attach(error) => error.state(),
        }
    }
}

/// What does not parse is the caller's fault.
fn parsed<T>(outcome: Result<T, wire::MalformedField>) -> Result<T, OperationError> {
    outcome.map_err(|field| HsmError::from(field).into())
}

fn failure(error: HsmError) -> Answer {
    let reason = error.reason().name().to_owned();
    Answer::Failure(pb::WorkerFailure {
        reason,
        sentence: error.to_string(),
    })
}
