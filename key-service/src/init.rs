//! `init` is an act: it makes an instance out of an empty store and a token without our objects, and nothing else does.
//!
//! An intent with the new instance's id is on disk before the token is touched, so that an interrupted init goes on
//! where it was: the token's part is idempotent for its instance, and the store's part is one transaction.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_audit::{Log, OpenError as OpenLogError};
use strongroom_core::{
    Algorithm, Caller, Clock, Generation, InstanceId, Job, KeyHead, KeyId, KeyRole, KeyUse, NewKey,
    ProtectionLevel, Purpose, Reading, RingId, RingKind, StoreEpoch, TimeMark, UnixMillis,
};
use strongroom_crypto::{LockedMemory, LockedMemorySize, P256PublicKey, ReserveError, random};
use strongroom_hsm::{
    AgentClient, CaCertificateRequest, CaSubject, Hsm, HsmError, Reason, TokenDescription,
    TokenState, Validity,
};
use strongroom_runtime::{BootIdError, SystemClock, boot_id, fault};
use strongroom_store::{SqliteStore, sqlite};

use crate::{
    boot::{SENTINEL, log_origin},
    config::Config,
    files::{DataDir, FileError, Pin},
    keyring::{KekPair, Keyring, KeyringError, RecordVerifier},
    pki::{self, PkiError},
    registry::{self, Change, Instance, Intermediate, OpenError, Ring, StoreLook},
};

/// The root certificate and the intermediates count for ten years; leaves for a day.
const CA_LIFETIME_S: i64 = 10 * 365 * 24 * 3600;
/// Clocks of clients may be late.
const BACKDATE_S: i64 = 300;
/// An agent loads its module within ten seconds or gives it up.
const LOOKS_MAX: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why no instance was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The data folder or a file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is there, but nobody began an init here, or nothing was pinned.
    #[error(
        "{0} exists, but there are no pins beside it: this folder holds the store of some instance, or a part of \
         one; init needs an empty folder"
    )]
    StoreWithoutPins(String),
    /// There are pins, but no store.
    #[error(
        "the pins of instance {0} are here, but its store is not: mount the right volume or restore the store; init \
         needs an empty folder"
    )]
    PinsWithoutStore(String),
    /// The folder is empty, but the token is not.
    #[error(
        "the token has objects of instance {0}, but its pins and its store are not here: mount its volume, or \
         connect an empty token"
    )]
    TokenInUse(String),
    /// The token is not there, locked or damaged: nobody can say whether it is empty.
    #[error("the token cannot be initialised, and nothing was written: {state}: {message}")]
    TokenNotReady {
        /// How the token is.
        state: &'static str,
        /// What the agent says of it.
        message: String,
    },
    /// The folder is empty, but that of the audit log is not.
    #[error(
        "{0} holds an audit log already: init needs a folder without one, so mount the right disk or empty the folder"
    )]
    LogInUse(String),
    /// The folder of the audit log cannot be looked at.
    #[error("the folder of the audit log cannot be used")]
    FindLog(#[source] strongroom_audit::OpenError),
    /// The audit log cannot be begun.
    #[error("the audit log cannot be begun")]
    BeginLog(#[source] strongroom_audit::BeginError),
    /// The store cannot be made.
    #[error("the store cannot be made")]
    CreateStore(#[source] sqlite::CreateError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    OpenStore(#[source] sqlite::OpenError),
    /// The store cannot be read, or is not what it must be.
    #[error(transparent)]
    Look(#[from] OpenError),
    /// The store did not take the instance.
    #[error("the store did not take the new instance; run init again")]
    Commit,
    /// The agent or the token refused.
    #[error("the HSM did not do its part")]
    Hsm(#[from] HsmError),
    /// The token gave a key that is none.
    #[error("the token gave a public key that cannot be used")]
    TokenKey,
    /// Keys could not be made.
    #[error("keys could not be made")]
    Keyring(#[from] KeyringError),
    /// Certificates could not be made.
    #[error("the certificate authority could not be made")]
    Pki(#[from] PkiError),
    /// No locked memory.
    #[error("there is no locked memory for keys")]
    Memory(#[from] ReserveError),
    /// Nobody can tell a turned clock from a boot.
    #[error(transparent)]
    BootId(#[from] BootIdError),
}

/// What was made, for whoever ran init: the fingerprint is what `audit verify` trusts, so keep it.
#[derive(Debug)]
pub(crate) struct Summary {
    existed: bool,
    instance: String,
    certifier_fingerprint: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            existed,
            instance,
            certifier_fingerprint,
        } = self;
        writeln!(
            f,
            "{}",
            if *existed {
                "already initialised"
            } else {
                "initialised"
            }
        )?;
        writeln!(f, "instance:          {instance}")?;
        write!(f, "audit fingerprint: {certifier_fingerprint}")
    }
}

/// Makes an instance, or finishes one, or says that it is there.
///
/// # Errors
/// See `InitError`; nothing of an existing instance is ever changed.
pub(crate) async fn init(config: &Config) -> Result<Summary, InitError> {
    let data = DataDir::open(&config.data_dir)?;
    let database = config.database();
    let agent: Arc<dyn Hsm> = Arc::new(AgentClient::new(
        &config.hsm_agent.socket,
        config.hsm_agent.uid,
    ));
    let instance = match (data.intent()?, data.pin()?, database.exists()) {
        (Some(begun), _, _) => begun,
        (None, None, false) => begin(config, &data, agent.as_ref()).await?,
        (None, Some(pin), true) => return Ok(summary(&pin, true)),
        (None, Some(pin), false) => return Err(InitError::PinsWithoutStore(pin.instance_id)),
        (None, None, true) => {
            return Err(InitError::StoreWithoutPins(database.display().to_string()));
        }
    };
    fault::point!("key-service.init.intent-written");
    Log::begin(&config.audit.dir, &log_origin(config, instance)).map_err(InitError::BeginLog)?;
    fault::point!("key-service.init.log-begun");

    looked_at(agent.as_ref()).await?;
    let token = agent.initialize(instance).await?;
    fault::point!("key-service.init.token-initialised");
    let pin = pin(instance, &token)?;
    data.write_pin(&pin)?;
    fault::point!("key-service.init.pinned");

    if !database.exists() {
        SqliteStore::create(&database, &crate::boot::store_options())
            .map_err(InitError::CreateStore)?;
    }
    let store = SqliteStore::open(&database, &crate::boot::store_options())
        .map_err(InitError::OpenStore)?;
    if let StoreLook::Empty = registry::look(&store).await? {
        Maker::new(config, instance, &pin, agent)?
            .fill(&store)
            .await?;
    }
    fault::point!("key-service.init.store-filled");
    store
        .close()
        .await
        .map_err(|error| InitError::Look(OpenError::Store(error)))?;
    data.remove_intent()?;
    Ok(summary(&pin, false))
}

/// Token and log are asked first: an intent that one of them will not take would stand in the way of the right volume's data.
async fn begin(config: &Config, data: &DataDir, agent: &dyn Hsm) -> Result<InstanceId, InitError> {
    let token = looked_at(agent).await?;
    if let Some(keys) = token.keys {
        return Err(InitError::TokenInUse(keys.instance.to_string()));
    }
    if token.state != TokenState::Uninitialized {
        return Err(InitError::TokenNotReady {
            state: token.state.name(),
            message: token.message,
        });
    }
    let instance = InstanceId::from_bytes(random::public_bytes());
    let dir = &config.audit.dir;
    match Log::find(dir, &log_origin(config, instance)) {
        Err(OpenLogError::NotBegun(_)) => {}
        Ok(()) | Err(OpenLogError::OtherLog { .. }) => {
            return Err(InitError::LogInUse(dir.display().to_string()));
        }
        Err(error) => return Err(InitError::FindLog(error)),
    }
    data.write_intent(instance)?;
    Ok(instance)
}

/// What the agent says of its token; one that has only just started is given time to listen and to look at it.
async fn looked_at(agent: &dyn Hsm) -> Result<TokenDescription, HsmError> {
    for _ in 1..LOOKS_MAX {
        match agent.describe().await {
            Ok(token) if token.state == TokenState::Starting => {}
            Err(error) if error.reason() == Reason::Unreachable => {}
            answer => return answer,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    agent.describe().await
}

fn pin(instance: InstanceId, token: &TokenDescription) -> Result<Pin, InitError> {
    let keys = token.keys.as_ref().ok_or(InitError::TokenKey)?;
    Ok(Pin {
        instance_id: instance.to_string(),
        record_signing_key: hex::encode(&keys.record_signing_key),
        checkpoint_certifying_key: hex::encode(&keys.checkpoint_certifying_key),
    })
}

fn summary(pin: &Pin, existed: bool) -> Summary {
    // A pin that is no hexadecimal has no fingerprint to show; serve refuses it.
    let certifier = hex::decode(&pin.checkpoint_certifying_key).unwrap_or_default();
    Summary {
        existed,
        instance: pin.instance_id.clone(),
        certifier_fingerprint: strongroom_audit::spki_fingerprint(&certifier).to_string(),
    }
}

/// Makes the first records.
struct Maker {
    instance: InstanceId,
    system_ring: RingId,
    agent: Arc<dyn Hsm>,
    keyring: Keyring,
    now: UnixMillis,
}

impl Maker {
    fn new(
        config: &Config,
        instance: InstanceId,
        pin: &Pin,
        agent: Arc<dyn Hsm>,
    ) -> Result<Self, InitError> {
        let key = hex::decode(&pin.record_signing_key).map_err(|_| InitError::TokenKey)?;
        let key = P256PublicKey::from_spki(&key).map_err(|_| InitError::TokenKey)?;
        let memory = LockedMemory::reserve(LockedMemorySize::default())?;
        let verifier = RecordVerifier::new(key);
        Ok(Self {
            instance,
            system_ring: RingId::from_bytes(random::public_bytes()),
            keyring: Keyring::new(
                agent.clone(),
                verifier,
                memory,
                Arc::new(SystemClock),
                config.kek_cache_ttl,
            ),
            agent,
            now: SystemClock.now(),
        })
    }

    async fn fill(&self, store: &SqliteStore) -> Result<(), InitError> {
        let kek = self
            .keyring
            .create_kek(self.instance, self.system_ring, Generation::FIRST)
            .await?;
        let pair = self.keyring.pair(&kek).await?;
        let head = self.etcd_key();
        let material = self
            .keyring
            .create_material(&head, head.primary().version, &kek, self.now)
            .await?;
        let record = self.instance_record(&pair, head.id).await?;
        let change = Change::default()
            .instance(&record)
            .ring(&self.ring(), &kek)
            .key(&head, &material)
            .time(&TimeMark::believing(self.reading()?));
        let made = registry::create(store, &pair.first, change, self.audit_record()).await;
        match made {
            Ok(true) => Ok(()),
            Ok(false) => Err(InitError::Commit),
            Err(error) => Err(InitError::Look(OpenError::Store(error))),
        }
    }

    /// What the clocks say, so that a clock that is turned before the first start is noticed, too.
    fn reading(&self) -> Result<Reading, InitError> {
        Ok(Reading {
            wall: self.now,
            elapsed: SystemClock.elapsed(),
            boot: boot_id()?,
        })
    }

    fn etcd_key(&self) -> KeyHead {
        KeyHead::new(NewKey {
            id: KeyId::from_bytes(random::public_bytes()),
            ring: self.system_ring,
            name: "etcd".parse().expect("a DNS label"),
            purpose: Purpose::EncryptDecrypt,
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            role: KeyRole::Etcd,
            epoch: StoreEpoch::FIRST,
            now: self.now,
        })
    }

    fn ring(&self) -> Ring {
        Ring {
            id: self.system_ring,
            name: "system".parse().expect("a DNS label"),
            owner: None,
            created: self.now,
            kek_generation: Generation::FIRST,
            kind: RingKind::System,
            access: Arc::default(),
            holder: None,
        }
    }

    async fn instance_record(
        &self,
        pair: &KekPair,
        etcd_key: KeyId,
    ) -> Result<Instance, InitError> {
        let server = self
            .intermediate(pair, "server", |public_key| CaSubject::ServerIntermediate {
                public_key,
            })
            .await?;
        let client = self
            .intermediate(pair, "client", |public_key| CaSubject::ClientIntermediate {
                public_key,
            })
            .await?;
        Ok(Instance {
            id: self.instance,
            system_ring: self.system_ring,
            etcd_key,
            sentinel: seal(pair, SENTINEL, SENTINEL.as_bytes())?,
            created: self.now,
            root_certificate: self.certificate(CaSubject::Root).await?,
            server,
            client,
        })
    }

    async fn intermediate(
        &self,
        pair: &KekPair,
        place: &str,
        subject: impl FnOnce(Vec<u8>) -> CaSubject,
    ) -> Result<Intermediate, InitError> {
        let key = pki::IntermediateKey::generate()?;
        let certificate_der = self
            .certificate(subject(key.public_key_spki().to_vec()))
            .await?;
        Ok(Intermediate {
            certificate_der,
            sealed_key: seal(pair, place, key.pkcs8().expose())?,
        })
    }

    async fn certificate(&self, subject: CaSubject) -> Result<Vec<u8>, InitError> {
        let start = self.now.as_i64() / 1000 - BACKDATE_S;
        let validity = Validity::new(start, start + CA_LIFETIME_S).expect("ends after it starts");
        let request = CaCertificateRequest {
            instance: self.instance,
            subject,
            validity,
        };
        Ok(self.agent.sign_ca_certificate(&request).await?)
    }

    fn audit_record(&self) -> wire::ControlChange {
        wire::ControlChange {
            time_ms: self.now.as_i64(),
            request_id: String::new(),
            caller: Caller::System(Job::Initialize).to_string(),
            action: "Initialize".to_owned(),
            resource: "instance".to_owned(),
            detail: HashMap::from([("instance".to_owned(), self.instance.to_string())]),
        }
    }
}

/// Seals one of the instance's own small secrets under the system ring.
fn seal(pair: &KekPair, place: &str, secret: &[u8]) -> Result<Vec<u8>, InitError> {
    let context = crate::boot::own_context(place);
    let sealed = pair
        .first
        .seal_verified(&pair.second, KeyUse::Record, &context, secret);
    Ok(sealed.map_err(KeyringError::from)?)
}
