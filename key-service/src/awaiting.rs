//! Before there is an instance, in the shape where `serve` makes it when ConfigMap `strongroom-init` asks: the process is ready,
//! says `awaiting init` and serves nothing. Whether to go on, to wait, to refuse or to make one is decided in `decision`.

mod decision;

use std::time::Duration;

use strongroom_audit::{Log, OpenError as OpenLogError};
use strongroom_core::{Clock, InstanceId};
use strongroom_hsm::{AgentClient, Hsm, HsmError, TokenDescription, TokenState};
use strongroom_runtime::{Chain, Condition, Handle, SystemClock, fault};

use self::decision::{LogSeen, Seen, Step, StoreSeen, TokenSeen, WitnessSeen};
use crate::{
    boot::log_origin,
    config::{Config, InitBy, KubernetesConfig},
    files::{Contents, FileError},
    init::{self, InitError},
    kubernetes::{
        AskError, Connection,
        request::{self, Answer, Request},
        witness::{self, Witness},
    },
};

/// What `/readyz` says; a part of the interface.
const AWAITING_INIT: &str = "awaiting init";
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Waits until there is an instance, making it when it is asked for; returns the request for which this process made it. At
/// once where an instance is, or where somebody runs `key-service init`.
///
/// # Errors
/// A file in the folder of the store is not readable.
pub(crate) async fn until_initialised(
    config: &Config,
    handle: &Handle,
) -> Result<Option<String>, FileError> {
    let Some(kubernetes) = &config.kubernetes else {
        return Ok(None);
    };
    if kubernetes.init == InitBy::Command || store(config)? == StoreSeen::There {
        return Ok(None);
    }
    let mut awaiting = Awaiting {
        config,
        kubernetes,
        connection: Connection::new(kubernetes.kubeconfig.clone()),
        agent: AgentClient::new(&config.hsm_agent.socket, config.hsm_agent.uid),
        condition: handle.readiness.condition("start"),
        said: String::new(),
    };
    loop {
        if let Progress::Over { made_for } = awaiting.step().await? {
            return Ok(made_for);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What a look led to.
enum Progress {
    /// Nothing that ends the waiting.
    Waiting,
    /// There is an instance; the request for which it was made just now.
    Over { made_for: Option<String> },
}

struct Awaiting<'a> {
    config: &'a Config,
    kubernetes: &'a KubernetesConfig,
    connection: Connection,
    agent: AgentClient,
    condition: Condition,
    /// The last sentence, so that the log has it once.
    said: String,
}

impl Awaiting<'_> {
    /// Looks at everything and does what follows.
    async fn step(&mut self) -> Result<Progress, FileError> {
        let store = store(self.config)?;
        let (witness, request) = match self.ask().await {
            Ok(said) => said,
            Err(error) => (
                WitnessSeen::Unknown(Chain(&error).to_string()),
                Request::None,
            ),
        };
        let seen = Seen {
            store,
            log: self.log(),
            token: token(self.agent.describe().await),
            witness,
            request,
        };
        match decision::decide(&seen) {
            Step::GoOn => {
                self.condition.missing("in progress");
                return Ok(Progress::Over { made_for: None });
            }
            Step::Await => self.say_awaiting(),
            Step::Wait(sentence) => self.say_missing(&sentence),
            Step::Refuse(sentence) => {
                self.say_missing(&sentence);
                self.refuse(&seen.request, sentence).await;
            }
            Step::Make => {
                self.condition.missing("init is in progress");
                match self.make(&seen.token).await {
                    Ok(()) => {
                        let made_for = match seen.request {
                            Request::Fresh(uid) => Some(uid),
                            Request::None | Request::Stale => None,
                        };
                        return Ok(Progress::Over { made_for });
                    }
                    Err(error) => {
                        self.say_missing(&format!("init is not finished: {}", Chain(&error)));
                    }
                }
            }
        }
        Ok(Progress::Waiting)
    }

    async fn make(&self, token: &TokenSeen) -> Result<(), InitError> {
        if *token == TokenSeen::NotMade {
            self.agent.make_token().await?;
            fault::point!("key-service.awaiting.token-made");
        }
        let summary = init::init(self.config).await?;
        tracing::info!(%summary, "init is done");
        fault::point!("key-service.awaiting.initialised");
        Ok(())
    }

    fn log(&self) -> LogSeen {
        // Nobody's log: the instance does not exist yet.
        let origin = log_origin(self.config, InstanceId::from_bytes([0; 16]));
        match Log::find(&self.config.audit.dir, &origin) {
            Err(OpenLogError::NotBegun(_)) => LogSeen::None,
            Ok(()) | Err(OpenLogError::OtherLog { .. }) => LogSeen::There,
            Err(error) => LogSeen::Late(Chain(&error).to_string()),
        }
    }

    /// What the API server says of an instance, and who asks for one.
    async fn ask(&mut self) -> Result<(WitnessSeen, Request), AskError> {
        let namespace = self.kubernetes.namespace.as_str();
        let found = self.connection.find(namespace, witness::NAME).await?;
        let witness = match Witness::read(found.as_ref()) {
            Witness::Nobody => WitnessSeen::Nobody,
            Witness::Instance(instance) => WitnessSeen::Instance(instance),
            Witness::Unreadable(text) => WitnessSeen::Unreadable(text),
        };
        let found = self.connection.find(namespace, request::NAME).await?;
        let request = Request::read(found.as_ref(), SystemClock.now());
        Ok((witness, request))
    }

    /// An answer that does not arrive is tried again with the next look.
    async fn refuse(&mut self, request: &Request, sentence: String) {
        if let Request::Fresh(uid) = request {
            let namespace = self.kubernetes.namespace.as_str();
            let data = Answer::Refused(sentence).data();
            let told = self
                .connection
                .add(namespace, request::NAME, uid, &data)
                .await;
            if let Err(error) = told {
                tracing::warn!(error = %Chain(&error), "the refusal of init was not told");
            }
        }
    }

    fn say_awaiting(&mut self) {
        if self.said != AWAITING_INIT {
            tracing::info!(
                "awaiting init: nothing of an instance is here, and nobody asked for one"
            );
            self.said = AWAITING_INIT.to_owned();
        }
        self.condition.awaits(AWAITING_INIT);
    }

    fn say_missing(&mut self, sentence: &str) {
        if self.said != sentence {
            tracing::warn!(missing = sentence, "waiting");
            self.said = sentence.to_owned();
        }
        self.condition.missing(sentence);
    }
}

fn store(config: &Config) -> Result<StoreSeen, FileError> {
    let folder = &config.data_dir;
    let Some(Contents { store, pin, intent }) = Contents::look(folder, &config.database())? else {
        return Ok(StoreSeen::Late(format!(
            "the folder {} is not there, or closed to this user: mount the volume of the store",
            folder.display()
        )));
    };
    Ok(match (intent, pin.is_some() || store) {
        (Some(instance), _) => StoreSeen::Begun(instance),
        (None, true) => StoreSeen::There,
        (None, false) => StoreSeen::Empty,
    })
}

fn token(described: Result<TokenDescription, HsmError>) -> TokenSeen {
    let token = match described {
        Ok(token) => token,
        Err(error) => return TokenSeen::Late(Chain(&error).to_string()),
    };
    match (&token.keys, token.state) {
        (Some(keys), _) => TokenSeen::Instance(keys.instance),
        (None, TokenState::NotMade) => TokenSeen::NotMade,
        (None, TokenState::Uninitialized) => TokenSeen::Empty,
        (None, state) => TokenSeen::Late(format!("{}: {}", state.name(), token.message)),
    }
}
