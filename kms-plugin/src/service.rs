//! The transport: KMS v2 messages in and out, errors to codes, one metric and at most one line for each call.

use strongroom_api::kubernetes::kms::v2::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest,
    StatusResponse, key_management_service_server,
};
use strongroom_runtime::{
    metrics::{Metrics, Observation, Requests},
    socket::{Peer, Peers},
};
use tonic::{Code, Request, Response, Status};

use crate::{
    plugin::{DecryptError, EncryptError},
    probe::Unusable,
    upstream::UpstreamError,
};

/// The version of the interface. It must not change while an API server runs.
pub(crate) const VERSION: &str = "v2";
/// The only text that means healthy. There is no other: a key that cannot be used is an error of the call, because
/// kube-apiserver goes on writing when it gets a text (kubernetes/kubernetes #138950).
pub(crate) const HEALTHY: &str = "ok";

/// An encryption plugin.
pub trait KeyManagement: Send + Sync + 'static {
    /// Returns the key id in force, from memory.
    ///
    /// # Errors
    ///
    /// When the key cannot be used as far as is known.
    fn status(&self) -> Result<String, Unusable>;

    /// Seals a seed under the key id that `status` returns.
    fn encrypt(
        &self,
        request: EncryptRequest,
    ) -> impl Future<Output = Result<EncryptResponse, EncryptError>> + Send;

    /// Opens a seed that was sealed under any key id that is known.
    fn decrypt(
        &self,
        request: DecryptRequest,
    ) -> impl Future<Output = Result<Vec<u8>, DecryptError>> + Send;
}

/// Serves an encryption plugin over gRPC.
#[derive(Debug)]
pub struct Transport<K> {
    plugin: K,
    api_servers: Peers,
    requests: Requests,
}

impl<K: KeyManagement> Transport<K> {
    /// Serves a plugin and counts what it does. Seeds are for API servers; who else may connect gets `Status` alone.
    pub fn new(plugin: K, api_servers: Peers, metrics: &Metrics) -> Self {
        let requests = metrics.requests(&["Status", "Encrypt", "Decrypt"], CODES);
        Self {
            plugin,
            api_servers,
            requests,
        }
    }

    fn check_is_api_server<T>(
        &self,
        request: &Request<T>,
        observation: &mut Observation,
    ) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>();
        if peer.is_some_and(|peer| self.api_servers.allows(peer.uid)) {
            Ok(())
        } else {
            observation.outcome(DENIED);
            Err(Status::permission_denied(
                "only the API servers in listen.peers may have seeds sealed or opened",
            ))
        }
    }
}

#[tonic::async_trait]
impl<K: KeyManagement> key_management_service_server::KeyManagementService for Transport<K> {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let mut observation = self.requests.observe("Status");
        let outcome = self.plugin.status();
        observation.outcome(label(&outcome));
        // Not logged: it is polled, and the change of health was logged when it happened.
        let key_id = outcome.map_err(|error| Status::new(error.code(), error.to_string()))?;
        let (version, healthz) = (VERSION.to_owned(), HEALTHY.to_owned());
        Ok(Response::new(StatusResponse {
            version,
            healthz,
            key_id,
        }))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        let mut observation = self.requests.observe("Encrypt");
        self.check_is_api_server(&request, &mut observation)?;
        let request = request.into_inner();
        let uid = printable(&request.uid);
        let outcome = self.plugin.encrypt(request).await;
        observation.outcome(label(&outcome));
        outcome
            .map(Response::new)
            .map_err(|error| refuse("Encrypt", &uid, &error))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        let mut observation = self.requests.observe("Decrypt");
        self.check_is_api_server(&request, &mut observation)?;
        let request = request.into_inner();
        let uid = printable(&request.uid);
        let outcome = self.plugin.decrypt(request).await;
        observation.outcome(label(&outcome));
        outcome
            .map(|plaintext| Response::new(DecryptResponse { plaintext }))
            .map_err(|error| refuse("Decrypt", &uid, &error))
    }
}

/// The start of kube-apiserver's id of an operation, which its own log shows too.
fn printable(uid: &str) -> String {
    uid.chars()
        .filter(|character| !character.is_control())
        .take(64)
        .collect()
}

fn refuse(method: &'static str, uid: &str, error: &impl RpcError) -> Status {
    tracing::warn!(method, uid, code = ?error.code(), %error, "request failed");
    Status::new(error.code(), error.to_string())
}

/// An error with a place among gRPC's codes. Its text goes to kube-apiserver and holds no secret.
pub trait RpcError: std::error::Error {
    /// Returns the code.
    fn code(&self) -> Code;
}

impl RpcError for Unusable {
    fn code(&self) -> Code {
        match self {
            Self::NotYet { .. } | Self::Stale { .. } => Code::Unavailable,
            Self::Key { .. } | Self::Refused(_) => Code::FailedPrecondition,
        }
    }
}

impl RpcError for UpstreamError {
    fn code(&self) -> Code {
        match self {
            Self::Away { .. } => Code::Unavailable,
            Self::Unusable { .. } => Code::FailedPrecondition,
            Self::Moved => Code::Aborted,
            Self::Refused => Code::InvalidArgument,
            Self::Busy | Self::Exhausted { .. } => Code::ResourceExhausted,
        }
    }
}

impl RpcError for EncryptError {
    fn code(&self) -> Code {
        match self {
            Self::Unusable(error) => error.code(),
            Self::Upstream(error) => error.code(),
            Self::Request => Code::InvalidArgument,
            Self::Answer(_) => Code::Internal,
            Self::Late(_) => Code::DeadlineExceeded,
        }
    }
}

impl RpcError for DecryptError {
    fn code(&self) -> Code {
        match self {
            Self::Unusable(error) => error.code(),
            Self::Upstream(error) => error.code(),
            Self::UnknownKeyId => Code::NotFound,
            Self::CannotOpen => Code::InvalidArgument,
            Self::Late(_) => Code::DeadlineExceeded,
        }
    }
}

/// The label of a call that is not for this peer.
const DENIED: &str = "PERMISSION_DENIED";

/// The labels that [`label`] gives, and `DENIED`.
const CODES: &[&str] = &[
    "OK",
    DENIED,
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "INTERNAL",
];

fn label<T, E: RpcError>(outcome: &Result<T, E>) -> &'static str {
    let Err(error) = outcome else { return "OK" };
    match error.code() {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Unavailable => "UNAVAILABLE",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::Aborted => "ABORTED",
        _ => "INTERNAL",
    }
}
