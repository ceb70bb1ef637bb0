//! What these stories share: an installation with two clusters that have everything in common but their keys, and processes
//! of operators.

use anyhow::{Context, Result};
use strongroom_api::strongroom::v1::{
    AccessRole, AcquireControlEpochRequest, ApplyKeyRequest, ApplyKeyRingRequest,
    ApplySecretRequest, Binding, Fence, GeneratedField, GeneratedSource, KeyAlgorithm, KeyPurpose,
    KeyRingState, KeyState, ObjectKind, ObjectRef, RandomText, ReadForPodRequest, ReleaseRequest,
    SecretSource, SecretState, Want, generated_field::Kind, operator_client::OperatorClient,
    pods_client::PodsClient, secret_source::Source,
};
use strongroom_e2e::issuer::{Issuer, Pod};
use tonic::{Request, Status, transport::Channel};

pub(crate) use strongroom_e2e::clusters::{API, Clusters, DRIVER, OPERATOR, connected, with_token};

/// Brings everything up, with somebody who has a certificate and nothing to do with the rings of a story.
pub(crate) fn up(name: &str, first_port: u16) -> Result<Clusters> {
    let elsewhere = format!(
        "{{role: SecretReader, certificate: somebody, ring: {}}}",
        "0a".repeat(16)
    );
    Clusters::up(name, first_port, &[elsewhere])
}

/// What the driver of a pod's node reads for it: the files' contents, by path.
pub(crate) async fn read(
    world: &Clusters,
    issuer: &Issuer,
    pod: &Pod,
    secret: &str,
) -> Result<Result<Vec<(String, Vec<u8>)>, Status>> {
    let message = ReadForPodRequest {
        pod_token: issuer.token(pod)?,
        pod_uid: pod.uid(),
        want: Some(Want {
            secrets: vec![secret.to_owned()],
            bundle: String::new(),
        }),
        have: String::new(),
    };
    let request = with_token(message, &issuer.token(&DRIVER)?)?;
    let mut client = PodsClient::new(world.workloads().await?);
    let read = client.read_for_pod(request).await;
    let files = read.map(|answer| answer.into_inner().files);
    Ok(files.map(|files| files.into_iter().map(|it| (it.path, it.content)).collect()))
}

/// One process of an operator.
#[derive(Clone)]
pub(crate) struct Process {
    client: OperatorClient<Channel>,
    token: String,
    fence: Fence,
}

impl Process {
    /// A process of a cluster's operator that has the control epoch.
    pub(crate) async fn of(world: &Clusters, issuer: &Issuer) -> Result<Self> {
        let mut process = Self::new(world.workloads().await?, issuer.token(&OPERATOR)?, 1);
        process.acquire("uid-of-kube-system").await?;
        Ok(process)
    }

    pub(crate) fn new(channel: Channel, token: String, number: u8) -> Self {
        Self {
            client: OperatorClient::new(channel),
            token,
            fence: Fence {
                control_epoch: 0,
                process: format!("{number:02x}").repeat(16),
            },
        }
    }

    /// The same, as if it had been given this epoch.
    pub(crate) fn with_epoch(mut self, epoch: u64) -> Self {
        self.fence.control_epoch = epoch;
        self
    }

    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>> {
        with_token(message, &self.token)
    }

    pub(crate) fn client(&self) -> OperatorClient<Channel> {
        self.client.clone()
    }

    pub(crate) fn fence(&self) -> Option<Fence> {
        Some(self.fence.clone())
    }

    /// Becomes the process that may change anything.
    pub(crate) async fn acquire(&mut self, cluster_uid: &str) -> Result<u64> {
        let message = AcquireControlEpochRequest {
            process: self.fence.process.clone(),
            cluster_uid: cluster_uid.to_owned(),
        };
        let acquired = self
            .client
            .acquire_control_epoch(self.request(message)?)
            .await?;
        self.fence.control_epoch = acquired.into_inner().control_epoch;
        Ok(self.fence.control_epoch)
    }

    pub(crate) async fn ring(
        &self,
        object: &ObjectRef,
        access: Vec<Binding>,
    ) -> Result<Result<KeyRingState, Status>> {
        let message = ApplyKeyRingRequest {
            fence: self.fence(),
            object: Some(object.clone()),
            access,
            keep_access: false,
        };
        let applied = self.client().apply_key_ring(self.request(message)?).await;
        Ok(applied.map(tonic::Response::into_inner))
    }

    pub(crate) async fn key(
        &self,
        object: &ObjectRef,
        ring: &str,
    ) -> Result<Result<KeyState, Status>> {
        let message = ApplyKeyRequest {
            fence: self.fence(),
            object: Some(object.clone()),
            ring: ring.to_owned(),
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
            rotation: None,
            access: Vec::new(),
            keep_access: false,
        };
        let applied = self.client().apply_key(self.request(message)?).await;
        Ok(applied.map(tonic::Response::into_inner))
    }

    pub(crate) async fn secret(
        &self,
        object: &ObjectRef,
        ring: &str,
        access: Vec<Binding>,
    ) -> Result<Result<SecretState, Status>> {
        let message = secret_request(self.fence(), object, ring, access);
        let applied = self.client().apply_secret(self.request(message)?).await;
        Ok(applied.map(tonic::Response::into_inner))
    }

    pub(crate) async fn release(
        &self,
        kind: ObjectKind,
        object: &ObjectRef,
    ) -> Result<Result<String, Status>> {
        let message = ReleaseRequest {
            fence: self.fence(),
            kind: kind.into(),
            object: Some(object.clone()),
        };
        let released = self.client().release(self.request(message)?).await;
        Ok(released.map(|answer| answer.into_inner().kept))
    }
}

/// A custom resource whose namespace has the uid `NAMESPACE_UID`.
pub(crate) fn object(namespace: &str, namespace_uid: &str, name: &str, uid: &str) -> ObjectRef {
    ObjectRef {
        namespace: namespace.to_owned(),
        namespace_uid: namespace_uid.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

pub(crate) fn secret_request(
    fence: Option<Fence>,
    object: &ObjectRef,
    ring: &str,
    access: Vec<Binding>,
) -> ApplySecretRequest {
    ApplySecretRequest {
        fence,
        object: Some(object.clone()),
        ring: ring.to_owned(),
        source: Some(generated(32)),
        rotation: None,
        access,
        keep_access: false,
    }
}

/// A random `password` of so many characters.
pub(crate) fn generated(length: u32) -> SecretSource {
    let field = GeneratedField {
        name: "password".to_owned(),
        kind: Some(Kind::Random(RandomText {
            length,
            ..RandomText::default()
        })),
    };
    SecretSource {
        source: Some(Source::Generate(GeneratedSource {
            fields: vec![field],
        })),
    }
}

pub(crate) fn reader(pod: &Pod) -> Binding {
    Binding {
        role: AccessRole::SecretReader.into(),
        service_account: pod.account.to_owned(),
        service_account_uid: pod.account_uid.to_owned(),
    }
}

/// The word of a refusal.
pub(crate) fn word<T>(outcome: Result<T, Status>) -> Result<String> {
    let status = outcome.err().context("was not refused")?;
    let word = status.metadata().get("strongroom-reason");
    let word = word.with_context(|| format!("no word: {status}"))?;
    Ok(word.to_str()?.to_owned())
}
