//! From configuration to a service that can answer: every part is checked against the pins before the next is touched.
//!
//! What is late is waited for and named by `/readyz`; what is wrong ends the process with a sentence. `late` draws the line.

mod late;
mod wait;

use std::{convert::Infallible, sync::Arc};

use strongroom_audit::{
    Certification, Checkpoint, Checkpointer, Draft, Kind, Log, Origin, Statement,
};
use strongroom_auth::{Binding, Policy, PolicyError};
use strongroom_core::{Clock, EncryptionContext, InstanceId, KeyUse, StoreEpoch};
use strongroom_crypto::{DigestKey, LockedMemory, LockedMemorySize, P256PublicKey, ReserveError};
use strongroom_hsm::{AgentClient, CheckpointKeyStatement, Hsm, HsmError};
use strongroom_runtime::{BootIdError, Condition, Handle, SystemClock, boot_id};
use strongroom_store::{SqliteStore, Store, sqlite};

use self::{late::Look, wait::until_here};
use crate::{
    config::{Access, Config, PluginsConfig, Role},
    files::{Contents, DataDir, FileError, Pin},
    keyring::{KekPair, Keyring, KeyringError, RecordVerifier},
    pki::{Issuer, PkiError},
    registry::{self, Instance, Intermediate, OpenError, Peek, Registry, StoreLook},
    service::{EnrolmentMetrics, RotationMetrics, Service},
    timekeeper::Timekeeper,
    trail::{Trail, TrailError},
    workloads::{self, WorkloadsError},
};

/// What the sentinel says, and where it lies.
pub(crate) const SENTINEL: &str = "sentinel";

/// Why the service does not start. The operator's to mend; nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The data folder or a file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is there, but nothing was pinned.
    #[error(
        "{0} has a store and no pins: restore pin.json as init wrote it, or mount the right volume"
    )]
    StoreWithoutPins(String),
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
    /// Nobody can tell a turned clock from a boot.
    #[error(transparent)]
    BootId(#[from] BootIdError),
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

/// The name of this replica's audit log.
pub(crate) fn log_origin(config: &Config, instance: InstanceId) -> Origin {
    Origin::new(*instance.as_bytes(), &config.replica)
        .expect("configuration checked the replica's name")
}

/// The context of the instance's own small secrets.
pub(crate) fn own_context(place: &str) -> EncryptionContext {
    EncryptionContext::from_pairs([("record", "meta/instance"), ("field", place)])
        .expect("two short pairs")
}

/// What `/readyz` names while it is late.
struct Conditions {
    store: Condition,
    hsm: Condition,
    audit: Condition,
}

/// Brings everything up, waiting for what is late.
///
/// # Errors
/// See `BootError`: what is wrong and will not pass by itself.
pub(crate) async fn boot(config: &Config, handle: &Handle) -> Result<Booted, BootError> {
    let ready = Conditions {
        store: handle.readiness.condition("store"),
        hsm: handle.readiness.condition("hsm"),
        audit: handle.readiness.condition("audit"),
    };
    let pin = pinned(config, &ready.store).await?;
    let store = open_store(config, &ready.store).await?;
    let peek = peek(store.as_ref(), &pin).await?;
    ready.store.met();
    let hsm: Arc<dyn Hsm> = Arc::new(AgentClient::new(
        &config.hsm_agent.socket,
        config.hsm_agent.uid,
    ));
    let origin = log_origin(config, peek.instance.id);
    // Side by side, so that all that is late is named at once.
    tokio::select! {
        token = until_here(&ready.hsm, async || late::token(hsm.describe().await, &pin)) => token?,
        never = name_log(config, &origin, &ready.audit) => match never {},
    }

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keyring = keyring(config, &pin, hsm.clone(), clock.clone())?;
    let system = system_kek(&keyring, &peek, &ready.hsm).await?;
    let verified = peek.verify(&system.first)?;
    check_keks(&keyring, &verified)?;
    let instance = verified.instance();
    check_sentinel(&system, &instance)?;
    ready.hsm.met();

    let time = Timekeeper::resume(clock.clone(), boot_id()?, verified.time());
    let log = open_log(
        config,
        origin,
        verified.anchor(&config.replica),
        &ready.audit,
    )
    .await?;
    let administrators = administrators(config).collect();
    let trail = Arc::new(Trail::new(log, clock.clone(), administrators));
    let epoch = verified.position().epoch;
    let engine: Arc<dyn Store> = store.clone();
    let registry = verified.serve(engine, trail.clone());
    let certifier = Certifier {
        hsm: &hsm,
        spki: pin_key(&pin.checkpoint_certifying_key)?,
        epoch,
    };
    let checkpointer = certifier
        .start(&trail, &registry, config, &ready.hsm)
        .await?;
    registry.record_outbox().await.map_err(BootError::Outbox)?;
    ready.hsm.met();

    let fence = registry.fence();
    let workloads = workloads::load(config, &handle.metrics, time.now())?;
    let service = Service {
        registry,
        keyring,
        trail,
        policy: policy(config)?,
        hsm: hsm.clone(),
        clock,
        time,
        digests: DigestKey::derive(&system.first),
        issuer: issuer(&system, &instance)?,
        replica: config.replica.clone(),
        plugin_endpoints: config.plugins.as_ref().map(PluginsConfig::advertised),
        workloads,
        enrolment_metrics: EnrolmentMetrics::register(&handle.metrics),
        rotation_metrics: RotationMetrics::register(&handle.metrics),
        fence,
        certificate_names: certificate_names(config),
        certifier_fingerprint: strongroom_audit::spki_fingerprint(&certifier.spki).to_string(),
    };
    Ok(Booted {
        service: Arc::new(service),
        store,
        checkpointer,
    })
}

/// The pins, as soon as the volume is there and no init is at work on it.
async fn pinned(config: &Config, ready: &Condition) -> Result<Pin, BootError> {
    let (folder, database) = (&config.data_dir, config.database());
    let look = async || late::data(folder, Contents::look(folder, &database)?);
    let pin = until_here(ready, look).await?;
    DataDir::open(folder)?;
    Ok(pin)
}

async fn open_store(config: &Config, ready: &Condition) -> Result<Arc<SqliteStore>, BootError> {
    let look = async || {
        let path = config.database();
        let opened =
            tokio::task::spawn_blocking(move || SqliteStore::open(path, &store_options())).await;
        match opened.expect("opening a store does not panic") {
            Ok(store) => Ok(Look::Here(Arc::new(store))),
            Err(error) => late::store(error),
        }
    };
    until_here(ready, look).await
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

async fn system_kek(
    keyring: &Keyring,
    peek: &Peek,
    ready: &Condition,
) -> Result<Arc<KekPair>, BootError> {
    let look = async || match keyring.pair(&peek.system_kek).await {
        Ok(pair) => Ok(Look::Here(pair)),
        Err(error) => late::kek(error),
    };
    until_here(ready, look).await
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

/// Names a folder that holds no audit log for as long as nobody opens it. What is wrong with a log is for `open_log` to say.
async fn name_log(config: &Config, origin: &Origin, ready: &Condition) -> Infallible {
    let look = async || match Log::find(&config.audit.dir, origin) {
        Ok(()) => Ok(Look::Here(())),
        Err(error) => late::log(error, None),
    };
    let _ = until_here(ready, look).await;
    std::future::pending().await
}

async fn open_log(
    config: &Config,
    origin: Origin,
    anchor: Option<String>,
    ready: &Condition,
) -> Result<Log, BootError> {
    let anchor = anchor
        .map(|note| Checkpoint::parse(&note))
        .transpose()
        .map_err(|_| BootError::Anchor)?;
    let anchored = anchor.as_ref().map(Checkpoint::size);
    let look = async || {
        let (dir, options) = (
            config.audit.dir.clone(),
            config.audit.options(origin.clone()),
        );
        let anchor = anchor.clone();
        let opened =
            tokio::task::spawn_blocking(move || Log::open(&dir, options, anchor.as_ref())).await;
        match opened.expect("opening a log does not panic") {
            Ok(log) => Ok(Look::Here(log)),
            Err(error) => late::log(error, anchored),
        }
    };
    until_here(ready, look).await
}

/// Has the key of this start's checkpoints certified by the token.
struct Certifier<'a> {
    hsm: &'a Arc<dyn Hsm>,
    spki: Vec<u8>,
    epoch: StoreEpoch,
}

impl Certifier<'_> {
    async fn start(
        &self,
        trail: &Trail,
        registry: &Registry,
        config: &Config,
        ready: &Condition,
    ) -> Result<Checkpointer, BootError> {
        let instance = registry.instance().id;
        let certify = |statement| self.certify(instance, &config.replica, statement);
        let look = async || {
            let draft = Draft::new(Kind::Start, trail.now().as_i64(), "Start");
            // A start that was recorded is certified then, not recorded once more.
            let started = Checkpointer::start(trail.log(), self.epoch.get(), draft, certify).await;
            match started {
                Ok(checkpointer) => Ok(Look::Here(checkpointer)),
                Err(error) => late::checkpointer(error),
            }
        };
        until_here(ready, look).await
    }

    async fn certify(
        &self,
        instance: InstanceId,
        replica: &str,
        statement: Statement,
    ) -> Result<Certification, HsmError> {
        let request = CheckpointKeyStatement {
            instance,
            replica: replica.to_owned(),
            store_epoch: self.epoch,
            start_size: statement.start,
            previous_checkpoint: statement.previous.0,
            public_key: statement.public_key,
        };
        let signature = self.hsm.certify_checkpoint_key(&request).await?;
        Ok(Certification {
            spki: self.spki.clone(),
            signature: signature.as_bytes().to_vec(),
        })
    }
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
