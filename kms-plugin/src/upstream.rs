//! The key service as the plugin sees it: bounded calls over its socket, and errors sorted by what they mean here.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use strongroom_api::strongroom::kms::v1::{
    DecryptRequest, EncryptRequest, EncryptResponse, ProbeRequest, ProbeResponse,
    etcd_keys_client::EtcdKeysClient,
};
use strongroom_runtime::socket;
use tokio::sync::Semaphore;
use tonic::{Code, Status, transport::Channel};
use zeroize::Zeroizing;

use crate::{config::Config, snapshot::Snapshot};

/// Room for a list of key ids at their largest; a key has a handful.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
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
    /// Too much is under way.
    #[error("too many requests are under way")]
    Busy,
}

/// The client of the key service. A clone is another handle to the same connection.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: EtcdKeysClient<Channel>,
    slots: Arc<Semaphore>,
}

impl Upstream {
    /// Prepares a client, which connects at its first call. Must be called within a runtime.
    pub fn new(config: &Config) -> Self {
        let channel = socket::channel(&config.key_service.socket, config.key_service.uid);
        let client = EtcdKeysClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            client,
            slots: Arc::new(Semaphore::new(config.concurrency)),
        }
    }

    /// Asks whether the key can be used now. Takes no slot: a probe must tell the truth under load too.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`].
    pub async fn probe(&self, instance_id: String) -> Result<ProbeResponse, UpstreamError> {
        let request = ProbeRequest { instance_id };
        let response = self.client.clone().probe(request).await.map_err(sort)?;
        Ok(response.into_inner())
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
        let response = self.client.clone().encrypt(request).await.map_err(sort)?;
        Ok(response.into_inner())
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
        let response = self.client.clone().decrypt(request).await.map_err(sort)?;
        Ok(response.into_inner().plaintext)
    }

    async fn slot(&self) -> Result<impl Drop + use<>, UpstreamError> {
        match tokio::time::timeout(QUEUE_WAIT, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Busy),
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
        Code::ResourceExhausted => UpstreamError::Busy,
        Code::DeadlineExceeded | Code::Cancelled | Code::Ok => {
            UpstreamError::Away { cause: cause() }
        }
        code @ (Code::Unavailable
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
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
                matches!(error, UpstreamError::Away { .. } | UpstreamError::Busy),
                "{error}"
            );
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let error = sort(Status::unavailable("x".repeat(10_000)));
        assert!(error.to_string().len() < 300);
    }
}
