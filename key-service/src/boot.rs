//! From configuration to a service that can answer: every part is checked against the pins before the next is touched.
//!
//! What is late is waited for and named by `/readyz`; what is wrong ends the process with a sentence.

use std::{path::PathBuf, sync::Arc, time::Duration};

use strongroom_audit::{Certification, Checkpoint, Checkpointer, Draft, Kind, Log, Statement};
use strongroom_auth::{Binding, Policy, PolicyError};
use strongroom_core::{Clock, EncryptionContext, KeyUse, StoreEpoch};
use strongroom_crypto::{DigestKey, LockedMemory, LockedMemorySize, P256PublicKey, ReserveError};
use strongroom_hsm::{AgentClient, CheckpointKeyStatement, Hsm, HsmError, TokenKeys, TokenState};
use strongroom_runtime::{Chain, Condition, Handle, SystemClock};
use strongroom_store::{SqliteStore, Store, sqlite};

use crate::{
    config::{Access, Config, PluginsConfig, Role},
    files::{DataDir, FileError, Pin},
    keyring::{KekPair, Keyring, KeyringError, RecordVerifier},
    pki::{Issuer, PkiError},
    registry::{self, Instance, Intermediate, OpenError, Peek, Registry, StoreLook},
    service::{EnrolmentMetrics, Service},
    trail::{Trail, TrailError},
    workloads::{self, WorkloadsError},
};

/// What the sentinel says, and where it lies.
pub(crate) const SENTINEL: &str = "sentinel";
/// How often something late is looked for again.
const RETRY: Duration = Duration::from_millis(500);

/// Why the service does not start. The operator's to mend; nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The data folder or a file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing was pinned here.
    #[error("{} has no pins: it was never initialised (run `key-service init`), or this is the wrong volume", .0.display())]
    NotInitialised(PathBuf),
    /// Init was interrupted.
    #[error("init was begun here and not finished; run `key-service init` again")]
    InitUnfinished,
    /// A pin is not readable.
    #[error("a pin is not readable; restore pin.json as init wrote it")]
    Pin,
    /// The engine refuses the database.
    #[error("the store cannot be opened")]
    Store(#[source] sqlite::OpenError),
    /// The store is not what this instance wrote.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store is of another instance than the pins.
    #[error("the store belongs to instance {found}, the pins beside it to {pinned}")]
    ForeignStore {
        /// In the store.
        found: String,
        /// In the pins.
        pinned: String,
    },
    /// The token is another one.
    #[error(
        "the token belongs to instance {found}, the store to {pinned}: connect the token of this instance"
    )]
    ForeignToken {
        /// In the token.
        found: String,
        /// In the pins.
        pinned: String,
    },
    /// The token's keys are others.
    #[error(
        "the token says that it belongs to this instance, but its keys are not the pinned ones"
    )]
    ForeignTokenKeys,
    /// The token is empty.
    #[error(
        "the token has no objects of instance {0}: connect the token of this instance, or restore it"
    )]
    EmptyToken(String),
    /// A KEK record or its envelope is not genuine.
    #[error("the KEK of {0} is not what the token signed, or does not open under its root")]
    Kek(String),
    /// The sentinel does not open.
    #[error("the sentinel of init does not open: store and token do not belong together")]
    Sentinel,
    /// Keys cannot be used.
    #[error("the keys of the system ring cannot be used")]
    Keyring(#[source] KeyringError),
    /// The certificate authority cannot be used.
    #[error("the certificate authority cannot be used")]
    Pki(#[from] PkiError),
    /// The configured principals are not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The configured clusters cannot be registered.
    #[error(transparent)]
    Workloads(#[from] WorkloadsError),
    /// No locked memory.
    #[error("there is no locked memory for keys")]
    Memory(#[from] ReserveError),
    /// The anchored checkpoint is not readable.
    #[error("the anchored checkpoint of the audit log is not readable")]
    Anchor,
    /// The audit log is not one that this instance goes on with.
    #[error("the audit log cannot be opened")]
    Audit(#[source] strongroom_audit::OpenError),
    /// Checkpoints cannot be made.
    #[error("checkpoints of the audit log cannot be made")]
    Checkpointer(#[source] strongroom_audit::StartError),
    /// The outbox cannot be recorded.
    #[error("the changes in the outbox cannot be recorded in the audit log")]
    Outbox(#[source] TrailError),
}

/// A service that can answer, and what its jobs need.
pub(crate) struct Booted {
    pub(crate) service: Arc<Service>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) checkpointer: Checkpointer,
}

/// How the engine is opened, by `init` and `serve` alike.
pub(crate) fn store_options() -> sqlite::Options {
    sqlite::Options::default()
}

/// The context of the instance's own small secrets.
pub(crate) fn own_context(place: &str) -> EncryptionContext {
    EncryptionContext::from_pairs([("record", "meta/instance"), ("field", place)])
        .expect("two short pairs")
}

/// Brings everything up, waiting for what is late.
///
/// # Errors
/// See `BootError`: what is wrong and will not pass by itself.
pub(crate) async fn boot(config: &Config, handle: &Handle) -> Result<Booted, BootError> {
    let hsm_ready = handle.readiness.condition("hsm");
    let pin = pinned(config)?;
    let store = open_store(config).await?;
    let peek = peek(store.as_ref(), &pin).await?;
    let hsm: Arc<dyn Hsm> = Arc::new(AgentClient::new(
        &config.hsm_agent.socket,
        config.hsm_agent.uid,
    ));
    wait_for_token(hsm.as_ref(), &pin, &hsm_ready).await?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keyring = keyring(config, &pin, hsm.clone(), clock.clone())?;
    let system = wait_for_kek(&keyring, &peek, &hsm_ready).await?;
    let verified = peek.verify(&system.first)?;
    check_keks(&keyring, &verified)?;
    let instance = verified.instance();
    check_sentinel(&system, &instance)?;

    let log = open_log(config, &instance, verified.anchor(&config.replica)).await?;
    let administrators = administrators(config).collect();
    let trail = Arc::new(Trail::new(log, clock.clone(), administrators));
    let epoch = verified.position().epoch;
    let engine: Arc<dyn Store> = store.clone();
    let registry = verified.serve(engine, trail.clone());
    let checkpointer = start_checkpointer(&trail, &hsm, &pin, &registry, config, epoch).await?;
    registry.record_outbox().await.map_err(BootError::Outbox)?;
    hsm_ready.met();

    let service = Service {
        registry,
        keyring,
        trail,
        policy: policy(config)?,
        hsm,
        clock,
        digests: DigestKey::derive(&system.first),
        issuer: issuer(&system, &instance)?,
        replica: config.replica.clone(),
        plugin_endpoints: config.plugins.as_ref().map(PluginsConfig::advertised),
        workloads: workloads::load(config, &handle.metrics)?,
        enrolment_metrics: EnrolmentMetrics::register(&handle.metrics),
        certificate_names: certificate_names(config),
        certifier_fingerprint: strongroom_audit::spki_fingerprint(&pin_key(
            &pin.checkpoint_certifying_key,
        )?)
        .to_string(),
    };
    Ok(Booted {
        service: Arc::new(service),
        store,
        checkpointer,
    })
}

fn pinned(config: &Config) -> Result<Pin, BootError> {
    let data = DataDir::open(&config.data_dir)?;
    if data.intent()?.is_some() {
        return Err(BootError::InitUnfinished);
    }
    data.pin()?
        .ok_or_else(|| BootError::NotInitialised(config.data_dir.clone()))
}

async fn open_store(config: &Config) -> Result<Arc<SqliteStore>, BootError> {
    let path = config.database();
    let opened =
        tokio::task::spawn_blocking(move || SqliteStore::open(path, &store_options())).await;
    let opened = opened.expect("opening a store does not panic");
    Ok(Arc::new(opened.map_err(BootError::Store)?))
}

async fn peek(store: &dyn Store, pin: &Pin) -> Result<Peek, BootError> {
    let StoreLook::Instance(peek) = registry::look(store).await? else {
        return Err(OpenError::Empty.into());
    };
    let found = peek.instance.id.to_string();
    if found != pin.instance_id {
        return Err(BootError::ForeignStore {
            found,
            pinned: pin.instance_id.clone(),
        });
    }
    Ok(*peek)
}

/// Waits until the agent shows the token of this instance.
async fn wait_for_token(hsm: &dyn Hsm, pin: &Pin, ready: &Condition) -> Result<(), BootError> {
    loop {
        let missing = match hsm.describe().await {
            Err(error) => Chain(&error).to_string(),
            Ok(token) => {
                if let Some(keys) = &token.keys {
                    check_token(keys, pin)?;
                }
                match token.state {
                    TokenState::Ready => return Ok(()),
                    TokenState::Uninitialized => {
                        return Err(BootError::EmptyToken(pin.instance_id.clone()));
                    }
                    state => format!("{}: {}", state.name(), token.message),
                }
            }
        };
        ready.missing(missing);
        tokio::time::sleep(RETRY).await;
    }
}

fn check_token(keys: &TokenKeys, pin: &Pin) -> Result<(), BootError> {
    let found = keys.instance.to_string();
    if found != pin.instance_id {
        return Err(BootError::ForeignToken {
            found,
            pinned: pin.instance_id.clone(),
        });
    }
    // Until all keys are there the agent shows none of them.
    let same = |pinned: &str, found: &[u8]| found.is_empty() || pinned == hex::encode(found);
    let genuine = same(&pin.record_signing_key, &keys.record_signing_key)
        && same(
            &pin.checkpoint_certifying_key,
            &keys.checkpoint_certifying_key,
        );
    if genuine {
        Ok(())
    } else {
        Err(BootError::ForeignTokenKeys)
    }
}

fn pin_key(hexadecimal: &str) -> Result<Vec<u8>, BootError> {
    hex::decode(hexadecimal).map_err(|_| BootError::Pin)
}

fn keyring(
    config: &Config,
    pin: &Pin,
    hsm: Arc<dyn Hsm>,
    clock: Arc<dyn Clock>,
) -> Result<Keyring, BootError> {
    let key = pin_key(&pin.record_signing_key)?;
    let key = P256PublicKey::from_spki(&key).map_err(|_| BootError::Pin)?;
    let memory = LockedMemory::reserve(LockedMemorySize::default())?;
    Ok(Keyring::new(
        hsm,
        RecordVerifier::new(key),
        memory,
        clock,
        config.kek_cache_ttl,
    ))
}

async fn wait_for_kek(
    keyring: &Keyring,
    peek: &Peek,
    ready: &Condition,
) -> Result<Arc<KekPair>, BootError> {
    loop {
        match keyring.pair(&peek.system_kek).await {
            Ok(pair) => return Ok(pair),
            Err(KeyringError::Hsm(
                error @ (HsmError::Unavailable { .. } | HsmError::NotReady { .. }),
            )) => {
                ready.missing(Chain(&error).to_string());
                tokio::time::sleep(RETRY).await;
            }
            Err(KeyringError::Corrupt) => return Err(BootError::Kek("the system ring".to_owned())),
            Err(error) => return Err(BootError::Keyring(error)),
        }
    }
}

/// Checks the token's signature on every KEK record, used or not.
fn check_keks(keyring: &Keyring, verified: &registry::VerifiedStore) -> Result<(), BootError> {
    match verified.keks().find(|signed| !keyring.accepts(signed)) {
        Some(foreign) => Err(BootError::Kek(format!(
            "ring {}",
            foreign.record.place().ring
        ))),
        None => Ok(()),
    }
}

fn check_sentinel(system: &KekPair, instance: &Instance) -> Result<(), BootError> {
    let opened = system
        .first
        .open(KeyUse::Record, &own_context(SENTINEL), &instance.sentinel);
    let opened = opened.map_err(|_| BootError::Sentinel)?;
    if opened.expose() == SENTINEL.as_bytes() {
        Ok(())
    } else {
        Err(BootError::Sentinel)
    }
}

async fn open_log(
    config: &Config,
    instance: &Instance,
    anchor: Option<String>,
) -> Result<Log, BootError> {
    let anchor = anchor
        .map(|note| Checkpoint::parse(&note))
        .transpose()
        .map_err(|_| BootError::Anchor)?;
    let origin = strongroom_audit::Origin::new(*instance.id.as_bytes(), &config.replica)
        .expect("configuration checked the replica's name");
    let (dir, options) = (config.audit.dir.clone(), config.audit.options(origin));
    let opened =
        tokio::task::spawn_blocking(move || Log::open(&dir, options, anchor.as_ref())).await;
    opened
        .expect("opening a log does not panic")
        .map_err(BootError::Audit)
}

async fn start_checkpointer(
    trail: &Trail,
    hsm: &Arc<dyn Hsm>,
    pin: &Pin,
    registry: &Registry,
    config: &Config,
    epoch: StoreEpoch,
) -> Result<Checkpointer, BootError> {
    let spki = pin_key(&pin.checkpoint_certifying_key)?;
    let draft = Draft::new(Kind::Start, trail.now().as_i64(), "Start");
    let (instance, replica) = (registry.instance().id, config.replica.clone());
    let certify = |statement: Statement| async move {
        let request = CheckpointKeyStatement {
            instance,
            replica,
            store_epoch: epoch,
            start_size: statement.start,
            previous_checkpoint: statement.previous.0,
            public_key: statement.public_key,
        };
        let signature = hsm.certify_checkpoint_key(&request).await?;
        Ok::<_, HsmError>(Certification {
            spki,
            signature: signature.as_bytes().to_vec(),
        })
    };
    Checkpointer::start(trail.log(), epoch.get(), draft, certify)
        .await
        .map_err(BootError::Checkpointer)
}

fn policy(config: &Config) -> Result<Policy, PolicyError> {
    let administrators: Vec<String> = administrators(config).collect();
    let bindings: Vec<Binding> = config.access.iter().map(binding).collect();
    Policy::new(&administrators, &bindings)
}

fn binding(access: &Access) -> Binding {
    Binding {
        role: match access.role {
            Role::KeyEncrypter => strongroom_auth::Role::KeyEncrypter,
            Role::KeyDecrypter => strongroom_auth::Role::KeyDecrypter,
            Role::SecretReader => strongroom_auth::Role::SecretReader,
        },
        certificate: access.certificate.clone(),
        ring: access.ring,
    }
}

fn administrators(config: &Config) -> impl Iterator<Item = String> {
    config
        .administrators
        .iter()
        .map(|it| it.certificate.clone())
}

fn certificate_names(config: &Config) -> Vec<String> {
    let others = config.access.iter().map(|it| it.certificate.clone());
    administrators(config).chain(others).collect()
}

fn issuer(system: &KekPair, instance: &Instance) -> Result<Issuer, BootError> {
    let open = |place: &str, intermediate: &Intermediate| {
        let key = system.first.open(
            KeyUse::Record,
            &own_context(place),
            &intermediate.sealed_key,
        );
        key.map_err(|_| BootError::Sentinel)
    };
    let server = open("server", &instance.server)?;
    let client = open("client", &instance.client)?;
    Ok(Issuer::new(
        &instance.root_certificate,
        (&instance.server.certificate_der, &server),
        (&instance.client.certificate_der, &client),
    )?)
}
