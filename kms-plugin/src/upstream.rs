//! The key service as the plugin sees it: bounded calls over the first way that works, and errors sorted by what they
//! mean here.

mod paths;

use std::{collections::HashMap, error::Error, pin::Pin, sync::Arc, time::Duration};

use strongroom_api::strongroom::kms::v1::{
    DecryptRequest, EncryptRequest, EncryptResponse, ProbeRequest, ProbeResponse,
    etcd_keys_client::EtcdKeysClient,
};
use strongroom_runtime::socket;
use tokio::sync::Semaphore;
use tonic::{Code, Response, Status, transport::Channel};
use zeroize::Zeroizing;

use crate::{config::Config, snapshot::Snapshot};

pub use paths::{PathView, Paths};

/// The metadata in which the key service says in one word why it refuses a certificate.
const REASON: &str = "strongroom-reason";
/// That word, when there is a newer certificate of the same node.
const SUPERSEDED: &str = "Superseded";
/// How long a call may wait for others to end before it is refused, so that a slow key service piles nothing up.
const QUEUE_WAIT: Duration = Duration::from_millis(500);
/// What the key service says is shown to operators, but not at any length.
const MAX_CAUSE_CHARS: usize = 200;

/// Why a call of the key service failed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It does not answer, or not in time.
    #[error("the key service does not answer: {cause}")]
    Away {
        /// The first sentence of why.
        cause: String,
    },
    /// It answers that it cannot use the key.
    #[error("the etcd key cannot be used: {cause}")]
    Unusable {
        /// The code that it gave.
        code: Code,
        /// Its sentence.
        cause: String,
    },
    /// The activation is no longer the primary.
    #[error("the etcd key was rotated a moment ago")]
    Moved,
    /// It does not accept the request as it is.
    #[error("the key service refused the request")]
    Refused,
    /// The plugin has too much under way.
    #[error("too many requests are under way")]
    Busy,
    /// The key service has no room: for requests, or in its audit log.
    #[error("the key service has no room for the request: {cause}")]
    Exhausted {
        /// Its sentence.
        cause: String,
    },
}

/// The client of the key service. A clone is another handle to the same connections.
#[derive(Clone, Debug)]
pub struct Upstream {
    paths: Paths,
    slots: Arc<Semaphore>,
}

/// A call that is under way.
type Calling<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl Upstream {
    /// Prepares a client, which connects at its first call. Must be called within a runtime.
    pub fn new(config: &Config) -> Self {
        Self {
            paths: Paths::new(&config.key_service),
            slots: Arc::new(Semaphore::new(config.concurrency)),
        }
    }

    /// The ways to the key service.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Calls, and once more if the certificate was renewed under the call. Every call can be repeated: none changes
    /// anything.
    async fn call<T>(
        &self,
        probing: bool,
        call: impl Fn(EtcdKeysClient<Channel>) -> Calling<T>,
    ) -> Result<T, UpstreamError> {
        let shown = self.paths.shown();
        match self.call_once(probing, &call).await {
            Err(UpstreamError::Away { .. }) if self.paths.shown() != shown => {
                self.call_once(probing, &call).await
            }
            outcome => outcome,
        }
    }

    /// Tries one way after the other until one is answered.
    async fn call_once<T>(
        &self,
        probing: bool,
        call: &impl Fn(EtcdKeysClient<Channel>) -> Calling<T>,
    ) -> Result<T, UpstreamError> {
        let mut failure: Option<UpstreamError> = None;
        for candidate in self.paths.candidates(probing) {
            let attempt = self.paths.begin(&candidate);
            match call(candidate.client()).await {
                Ok(response) => {
                    attempt.answered();
                    return Ok(response.into_inner());
                }
                Err(status) => {
                    let error = self.failed(attempt, status);
                    if !error.may_differ_elsewhere() {
                        return Err(error);
                    }
                    failure = Some(match failure {
                        None => error,
                        Some(first) => first.or(error),
                    });
                }
            }
        }
        Err(failure.unwrap_or_else(|| UpstreamError::Away {
            cause: "this node has no certificate yet; enrol it with `kms-plugin enrol`".to_owned(),
        }))
    }

    /// Sorts what came back over one way, and notes whether that way works.
    fn failed(&self, attempt: paths::Attempt, status: Status) -> UpstreamError {
        let reason = status.metadata().get(REASON);
        let superseded = reason.is_some_and(|reason| reason == SUPERSEDED);
        let error = match sort(status) {
            UpstreamError::Away { cause } if self.paths.are_several() => UpstreamError::Away {
                cause: format!("{}: {cause}", attempt.name()),
            },
            error => error,
        };
        match &error {
            // Failed, which it says by being dropped.
            UpstreamError::Away { .. } if superseded => attempt.superseded(),
            UpstreamError::Away { .. } => drop(attempt),
            _ => attempt.answered(),
        }
        error
    }

    /// Asks whether the key can be used now. Takes no slot: a probe must tell the truth under load too.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`].
    pub async fn probe(&self, instance_id: String) -> Result<ProbeResponse, UpstreamError> {
        self.call(true, |mut client| {
            let instance_id = instance_id.clone();
            Box::pin(async move { client.probe(ProbeRequest { instance_id }).await })
        })
        .await
    }

    /// Seals a seed under the primary of a snapshot.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`].
    pub async fn encrypt(
        &self,
        snapshot: &Snapshot,
        seed: &Zeroizing<Vec<u8>>,
        request_id: &str,
    ) -> Result<EncryptResponse, UpstreamError> {
        let _slot = self.slot().await?;
        let request = EncryptRequest {
            instance_id: snapshot.instance.to_string(),
            key_id: snapshot.primary.key_id.clone(),
            plaintext: seed.to_vec(),
            request_id: request_id.to_owned(),
            annotations: snapshot.annotations(&snapshot.primary),
        };
        self.call(false, |mut client| {
            let request = request.clone();
            Box::pin(async move { client.encrypt(request).await })
        })
        .await
    }

    /// Opens what was sealed under one of the key ids that the snapshot knows.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`].
    pub async fn decrypt(
        &self,
        snapshot: &Snapshot,
        sealed: Sealed,
    ) -> Result<Vec<u8>, UpstreamError> {
        let _slot = self.slot().await?;
        let Sealed {
            key_id,
            ciphertext,
            request_id,
            annotations,
        } = sealed;
        let instance_id = snapshot.instance.to_string();
        let request = DecryptRequest {
            instance_id,
            key_id,
            ciphertext,
            request_id,
            annotations,
        };
        let response = self
            .call(false, |mut client| {
                let request = request.clone();
                Box::pin(async move { client.decrypt(request).await })
            })
            .await?;
        Ok(response.plaintext)
    }

    async fn slot(&self) -> Result<impl Drop + use<>, UpstreamError> {
        match tokio::time::timeout(QUEUE_WAIT, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Busy),
        }
    }
}

impl UpstreamError {
    /// Whether another way may bring more than this one: nobody answered, or what did cannot use the key now.
    const fn may_differ_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Away { .. }
                | Self::Unusable {
                    code: Code::Unavailable,
                    ..
                }
        )
    }

    /// The more telling of two failures: an answer says more than silence, and two silences are told together.
    fn or(self, later: Self) -> Self {
        match (self, later) {
            (Self::Away { cause: first }, Self::Away { cause: then }) => Self::Away {
                cause: printable(&format!("{first}; {then}")),
            },
            (Self::Away { .. }, later) => later,
            (first, _) => first,
        }
    }
}

/// What kube-apiserver asks to open.
#[derive(Clone)]
pub struct Sealed {
    /// The key id that it stored.
    pub key_id: String,
    /// The sealed seed.
    pub ciphertext: Vec<u8>,
    /// Its id of the operation.
    pub request_id: String,
    /// The annotations that it stored.
    pub annotations: HashMap<String, Vec<u8>>,
}

/// Sorts an answer by what it means for the plugin.
fn sort(status: Status) -> UpstreamError {
    // Only an error of the connection has a source; what the key service sent has none.
    if let Some(source) = status.source() {
        return UpstreamError::Away {
            cause: innermost(source),
        };
    }
    let cause = || printable(status.message());
    match status.code() {
        Code::Aborted => UpstreamError::Moved,
        Code::InvalidArgument | Code::NotFound | Code::OutOfRange => UpstreamError::Refused,
        Code::ResourceExhausted => UpstreamError::Exhausted { cause: cause() },
        // A certificate that is not accepted closes one way, and says nothing about the key.
        Code::DeadlineExceeded | Code::Cancelled | Code::Ok | Code::Unauthenticated => {
            UpstreamError::Away { cause: cause() }
        }
        code @ (Code::Unavailable
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::AlreadyExists
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unknown) => UpstreamError::Unusable {
            code,
            cause: cause(),
        },
    }
}

/// The connector's own sentence is the most telling one: path, owner, or that nobody listens.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        if error.is::<socket::ConnectError>() {
            return printable(&strongroom_runtime::Chain(error).to_string());
        }
        error = source;
    }
    printable(&error.to_string())
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_CAUSE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_key_is_unusable_by_the_services_own_sentence() {
        let error = sort(Status::failed_precondition("key etcd is disabled\n"));
        assert_eq!(
            error.to_string(),
            "the etcd key cannot be used: key etcd is disabled"
        );
    }

    #[test]
    fn what_is_not_the_keys_fault_is_not_called_unusable() {
        for status in [
            Status::deadline_exceeded("late"),
            Status::resource_exhausted("busy"),
        ] {
            let error = sort(status);
            assert!(
                matches!(
                    error,
                    UpstreamError::Away { .. } | UpstreamError::Exhausted { .. }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_full_audit_log_is_named() {
        let error = sort(Status::resource_exhausted("the audit log is full"));
        assert_eq!(
            error.to_string(),
            "the key service has no room for the request: the audit log is full"
        );
    }

    #[test]
    fn a_refused_certificate_says_nothing_about_the_key() {
        let error = sort(Status::unauthenticated("the certificate has expired"));
        assert!(matches!(error, UpstreamError::Away { .. }), "{error}");
    }

    #[test]
    fn an_answer_says_more_than_silence() {
        let silence = || UpstreamError::Away {
            cause: "socket: nobody".to_owned(),
        };
        let answer = || sort(Status::unavailable("the HSM is away"));
        assert_eq!(silence().or(answer()).to_string(), answer().to_string());
        assert_eq!(answer().or(silence()).to_string(), answer().to_string());
        assert_eq!(
            silence().or(silence()).to_string(),
            "the key service does not answer: socket: nobody; socket: nobody"
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let error = sort(Status::unavailable("x".repeat(10_000)));
        assert!(error.to_string().len() < 300);
    }
}
