//! What these stories share: an installation under a clock of their own with two clusters, and its operator.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use strongroom_api::strongroom::v1::{
    AcquireControlEpochRequest, ApplyKeyRequest, ApplyKeyRingRequest, ApplySecretRequest, Binding,
    Fence, GeneratedField, GeneratedSource, KeyAlgorithm, KeyPurpose, KeyRing, KeyState,
    ManualSource, ObjectRef, RandomText, RotationSchedule, RotationWindow, SecretSource,
    SecretStage, SecretState, generated_field::Kind, operator_client::OperatorClient,
    secret_source::Source,
};
use strongroom_core::Clock;
pub(crate) use strongroom_e2e::clusters::{DRIVER, OPERATOR, with_token};
use strongroom_e2e::{
    issuer::{Issuer, Pod},
    mtls::{self, Credentials, StoryClock},
    nodes::{clean_up, stage_with},
    stage::Stage,
};
use strongroom_hack::installation::Program;
use strongroom_runtime::SystemClock;
use tonic::{Request, Response, Status, transport::Channel};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(600);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const PROCESS: &str = "0123456789abcdef0123456789abcdef";

pub(crate) const LEDGER: Pod = Pod {
    namespace: "payments",
    account: "ledger",
    account_uid: "uid-of-ledger",
    name: "ledger-1",
    node: "worker-1",
};

/// An installation whose clusters differ in their keys alone.
pub(crate) struct Story {
    pub(crate) stage: Stage,
    pub(crate) clock: StoryClock,
    pub(crate) east: Issuer,
    pub(crate) west: Issuer,
    keys: [PathBuf; 2],
}

impl Story {
    /// Brings everything up.
    pub(crate) fn up(name: &str, first_port: u16) -> Result<Self> {
        let (east, west) = (Issuer::new(ISSUER)?, Issuer::new(ISSUER)?);
        let mut keys = [PathBuf::new(), PathBuf::new()];
        let (stage, clock) = stage_with(name, first_port, |settings| {
            keys = ["east", "west"].map(|name| {
                let file = settings.root.with_extension(format!("{name}.jwks"));
                let cluster = format!(
                    "{{name: {name}, issuer: '{ISSUER}', keysFile: {}, \
                     drivers: [{{namespace: strongroom-csi, name: strongroom-csi-driver}}], \
                     operators: [{{namespace: strongroom-system, name: strongroom-operator}}]}}",
                    file.display()
                );
                settings.clusters.push(cluster);
                file
            });
            for (file, issuer) in keys.iter().zip([&east, &west]) {
                write(file, &issuer.jwks());
            }
        })?;
        Ok(Self {
            stage,
            clock,
            east,
            west,
            keys,
        })
    }

    /// A token as it is now by the clock of the story.
    pub(crate) fn token(&self, issuer: &Issuer, pod: &Pod) -> Result<String> {
        self.token_with(issuer, pod, |_| {})
    }

    pub(crate) fn token_with(
        &self,
        issuer: &Issuer,
        pod: &Pod,
        change: impl FnOnce(&mut Value),
    ) -> Result<String> {
        let ahead = (self.clock.now().as_i64() - SystemClock.now().as_i64()) / 1000;
        issuer.token_with(pod, LIFETIME, |claims| {
            for name in ["iat", "nbf", "exp"] {
                let time = claims[name].as_i64().unwrap_or_default();
                claims[name] = json!(time + ahead);
            }
            change(claims);
        })
    }

    /// A connection to the port for workloads: the root is trusted, nothing is shown.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let installation = &self.stage.installation;
        let trusted = Credentials::of_administrator(installation, "administrator")?;
        let address = installation.workloads_address();
        mtls::stranger(&address, &trusted, &self.clock).await
    }

    /// Asks as the operator of cluster `east`.
    pub(crate) fn operator<M, R>(
        &self,
        message: M,
        call: impl AsyncFnOnce(OperatorClient<Channel>, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<Result<R, Status>> {
        let token = self.token(&self.east, &OPERATOR)?;
        self.stage.block_on(async {
            let client = OperatorClient::new(self.connect().await?);
            let answer = call(client, with_token(message, &token)?).await;
            Ok(answer.map(Response::into_inner))
        })
    }

    /// Takes the control epoch and makes the ring of the stories.
    pub(crate) fn begin(&self, access: Vec<Binding>) -> Result<(Operator, KeyRing)> {
        let request = AcquireControlEpochRequest {
            process: PROCESS.to_owned(),
            cluster_uid: "uid-of-kube-system".to_owned(),
        };
        let acquired = self.operator(request, async |mut client, request| {
            client.acquire_control_epoch(request).await
        })??;
        let operator = Operator {
            epoch: acquired.control_epoch,
        };
        let request = ApplyKeyRingRequest {
            fence: operator.fence(),
            object: Some(object("payments")),
            access,
            ..ApplyKeyRingRequest::default()
        };
        let made = self.operator(request, async |mut client, request| {
            client.apply_key_ring(request).await
        })??;
        Ok((operator, made.ring.context("the ring is told")?))
    }

    /// Ends the key service; whoever was in a call gets no answer.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let service = self.stage.process(Program::KeyService)?;
        service.end(Signal::KILL, END_LIMIT).map(drop)
    }

    /// Starts it with a fault.
    pub(crate) fn start_with(&mut self, fault: &str) -> Result<()> {
        self.stage.start(Program::KeyService, fault)?;
        self.stage.wait_ready(Program::KeyService)
    }

    pub(crate) fn down(self) -> Result<()> {
        for file in &self.keys {
            std::fs::remove_file(file)?;
        }
        clean_up(self.stage, &self.clock)
    }
}

fn write(file: &std::path::Path, text: &str) {
    let folder = file.parent().expect("it lies in a folder");
    std::fs::create_dir_all(folder).expect("the folder can be made");
    std::fs::write(file, text).expect("the file can be written");
}

/// What the operator says of custom resources in the namespace `payments`.
pub(crate) struct Operator {
    epoch: u64,
}

impl Operator {
    pub(crate) fn fence(&self) -> Option<Fence> {
        Some(Fence {
            control_epoch: self.epoch,
            process: PROCESS.to_owned(),
        })
    }

    /// Applies the CryptoKey `orders`.
    pub(crate) fn key(
        &self,
        story: &Story,
        rotation: Option<RotationSchedule>,
        access: Vec<Binding>,
    ) -> Result<Result<KeyState, Status>> {
        let request = ApplyKeyRequest {
            fence: self.fence(),
            object: Some(object("orders")),
            ring: "payments".to_owned(),
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
            rotation,
            access,
            ..ApplyKeyRequest::default()
        };
        story.operator(request, async |mut client, request| {
            client.apply_key(request).await
        })
    }

    /// Applies a ManagedSecret.
    pub(crate) fn secret(
        &self,
        story: &Story,
        name: &str,
        source: SecretSource,
        rotation: Option<RotationSchedule>,
    ) -> Result<Result<SecretState, Status>> {
        let request = ApplySecretRequest {
            fence: self.fence(),
            object: Some(object(name)),
            ring: "payments".to_owned(),
            source: Some(source),
            rotation,
            ..ApplySecretRequest::default()
        };
        story.operator(request, async |mut client, request| {
            client.apply_secret(request).await
        })
    }
}

pub(crate) fn object(name: &str) -> ObjectRef {
    ObjectRef {
        namespace: "payments".to_owned(),
        namespace_uid: "uid-of-payments".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
    }
}

pub(crate) fn generated() -> SecretSource {
    let password = GeneratedField {
        name: "password".to_owned(),
        kind: Some(Kind::Random(RandomText::default())),
    };
    SecretSource {
        source: Some(Source::Generate(GeneratedSource {
            fields: vec![password],
        })),
    }
}

pub(crate) fn manual() -> SecretSource {
    SecretSource {
        source: Some(Source::Manual(ManualSource {
            fields: vec!["key".to_owned()],
        })),
    }
}

/// A rotation whenever the newest version is so old.
pub(crate) fn every(period: Duration) -> RotationSchedule {
    let mut schedule = RotationSchedule::default();
    schedule.period.get_or_insert_default().seconds = seconds(period);
    schedule
}

/// The same while a window is open, in UTC.
pub(crate) fn every_in(period: Duration, cron: &str, open: Duration) -> RotationSchedule {
    let mut window = RotationWindow {
        cron: cron.to_owned(),
        ..RotationWindow::default()
    };
    window.duration.get_or_insert_default().seconds = seconds(open);
    RotationSchedule {
        window: Some(window),
        ..every(period)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("is short")
}

/// The current version of a secret.
pub(crate) fn current(state: &SecretState) -> Option<&str> {
    let versions = &state.secret.as_ref()?.versions;
    let current = |stage| stage == SecretStage::Current;
    let version = versions.iter().find(|it| current(it.stage()))?;
    Some(&version.version)
}

/// The primary version of a key.
pub(crate) fn primary(state: &KeyState) -> Option<&str> {
    Some(&state.key.as_ref()?.primary_version)
}
