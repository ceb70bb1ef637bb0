//! The key service as the operator sees it: bounded calls over the first endpoint that answers, each with the operator's own
//! token as it is on the disk now, and failures sorted by what they mean for an object.

use std::sync::Arc;

use strongroom_api::strongroom::v1::{
    self as wire, ObjectEvent, WatchObjectsRequest, operator_client::OperatorClient,
};
use strongroom_core::Clock;
use strongroom_runtime::{
    Chain,
    key_service::{CallError, KeyServiceClient, KeyServiceConfig, KeyServiceConfigError},
    metrics::{Metrics, Requests},
    tls::{CallFailure, Trust},
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// 128 files with templates of 16 KiB.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Calls, by their names in metrics.
const METHODS: [&str; 9] = [
    "AcquireControlEpoch",
    "DescribeInstallation",
    "ApplyKeyRing",
    "ApplyKey",
    "ApplySecret",
    "ApplyBundle",
    "RequestRotation",
    "Release",
    "WatchObjects",
];
const OUTCOMES: [&str; 4] = ["ok", "refused", "stale", "away"];

/// Why the key service gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not answer, not in time, or not now. It will.
    #[error("the key service does not answer: {0}")]
    Away(String),
    /// Another process has the control epoch.
    #[error("another operator has taken over")]
    Stale,
    /// It does not take the operator for the one of this cluster.
    #[error("the key service refuses the operator: {0}")]
    NotWelcome(String),
    /// It refuses what is asked for.
    #[error("{sentence}")]
    Refused {
        /// Its word for it.
        reason: String,
        /// What it says.
        sentence: String,
    },
}

impl Failure {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Refused { .. } => OUTCOMES[1],
            Self::Stale => OUTCOMES[2],
            Self::Away(_) | Self::NotWelcome(_) => OUTCOMES[3],
        }
    }
}

/// The client of the key service.
pub struct Service {
    client: KeyServiceClient,
    requests: Requests,
}

impl Service {
    /// Prepares a client, which connects at its first call. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// See [`KeyServiceConfigError`].
    pub fn new(
        config: &KeyServiceConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, KeyServiceConfigError> {
        Ok(Self {
            client: KeyServiceClient::new(config, clock)?,
            requests: metrics.requests(&METHODS, &OUTCOMES),
        })
    }

    /// What is trusted, where that follows a bundle.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.client.trust()
    }

    /// Makes a call, and counts it.
    async fn call<M, R, F>(
        &self,
        method: &'static str,
        message: M,
        call: impl Fn(OperatorClient<Channel>, Request<M>) -> F + Send + Sync,
    ) -> Result<R, Failure>
    where
        M: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let mut observed = self.requests.observe(method);
        let at = |channel, request| {
            let client = OperatorClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            call(client, request)
        };
        let answer = self.client.call(message, at).await;
        let answer = answer.map_err(|error| match error {
            CallError::Token(_) => Failure::NotWelcome(Chain(&error).to_string()),
            CallError::Failed(failure) => sort(failure),
        });
        observed.outcome(match &answer {
            Ok(_) => OUTCOMES[0],
            Err(failure) => failure.outcome(),
        });
        answer
    }

    /// Asks for the next control epoch.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; so do all calls.
    pub async fn acquire_control_epoch(
        &self,
        process: &str,
        cluster_uid: &str,
    ) -> Result<u64, Failure> {
        let message = wire::AcquireControlEpochRequest {
            process: process.to_owned(),
            cluster_uid: cluster_uid.to_owned(),
        };
        let answer = self
            .call(METHODS[0], message, |mut client, request| async move {
                client.acquire_control_epoch(request).await
            })
            .await?;
        Ok(answer.control_epoch)
    }

    /// Asks how the installation is.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn describe_installation(
        &self,
    ) -> Result<wire::DescribeInstallationResponse, Failure> {
        let message = wire::DescribeInstallationRequest {};
        self.call(METHODS[1], message, |mut client, request| async move {
            client.describe_installation(request).await
        })
        .await
    }

    /// Says what a ring shall be.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn apply_key_ring(
        &self,
        message: wire::ApplyKeyRingRequest,
    ) -> Result<wire::KeyRingState, Failure> {
        self.call(METHODS[2], message, |mut client, request| async move {
            client.apply_key_ring(request).await
        })
        .await
    }

    /// Says what a key shall be.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn apply_key(
        &self,
        message: wire::ApplyKeyRequest,
    ) -> Result<wire::KeyState, Failure> {
        self.call(METHODS[3], message, |mut client, request| async move {
            client.apply_key(request).await
        })
        .await
    }

    /// Says what a secret shall be.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn apply_secret(
        &self,
        message: wire::ApplySecretRequest,
    ) -> Result<wire::SecretState, Failure> {
        self.call(METHODS[4], message, |mut client, request| async move {
            client.apply_secret(request).await
        })
        .await
    }

    /// Says what a bundle shall be.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn apply_bundle(
        &self,
        message: wire::ApplyBundleRequest,
    ) -> Result<wire::BundleState, Failure> {
        self.call(METHODS[5], message, |mut client, request| async move {
            client.apply_bundle(request).await
        })
        .await
    }

    /// Asks for a rotation, once.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn request_rotation(
        &self,
        message: wire::RequestRotationRequest,
    ) -> Result<wire::RequestRotationResponse, Failure> {
        self.call(METHODS[6], message, |mut client, request| async move {
            client.request_rotation(request).await
        })
        .await
    }

    /// Lets go of what an object held.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn release(&self, message: wire::ReleaseRequest) -> Result<String, Failure> {
        let answer = self
            .call(METHODS[7], message, |mut client, request| async move {
                client.release(request).await
            })
            .await?;
        Ok(answer.kept)
    }

    /// Opens the stream of objects that changed.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn watch(&self) -> Result<Changes, Failure> {
        let message = WatchObjectsRequest {};
        let stream = self
            .call(METHODS[8], message, |mut client, request| async move {
                client.watch_objects(request).await
            })
            .await?;
        Ok(Changes(stream))
    }
}

/// What the key service says of objects, as it happens.
pub struct Changes(Streaming<ObjectEvent>);

impl Changes {
    /// Waits for the next; none when the key service has ended the stream.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn next(&mut self) -> Result<Option<ObjectEvent>, Failure> {
        let next = self.0.message().await;
        next.map_err(|status| sort(CallFailure::sort("the stream of changes", &status)))
    }
}

/// Sorts a failure by what it means for an object.
fn sort(failure: CallFailure) -> Failure {
    use tonic::Code;
    match failure {
        CallFailure::Away { cause } => Failure::Away(cause),
        CallFailure::Refused {
            code,
            reason,
            sentence,
        } => match code {
            Code::Aborted if reason == "StaleControlEpoch" => Failure::Stale,
            Code::Unauthenticated | Code::PermissionDenied => Failure::NotWelcome(sentence),
            Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound => {
                Failure::Refused { reason, sentence }
            }
            _ => Failure::Away(sentence),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut status: Status, reason: &'static str) -> Failure {
        let reason = reason.parse().unwrap();
        status.metadata_mut().insert("strongroom-reason", reason);
        sort(CallFailure::sort("192.0.2.1:1", &status))
    }

    #[test]
    fn stale_epoch_is_no_other_conflict() {
        assert_eq!(
            sorted(Status::aborted("late"), "StaleControlEpoch"),
            Failure::Stale
        );
        assert!(matches!(
            sorted(Status::aborted("etag"), "Conflict"),
            Failure::Away(_)
        ));
    }

    #[test]
    fn only_what_is_wrong_with_an_object_is_a_refusal() {
        let refused = sorted(Status::failed_precondition("no ring"), "RingNotFound");
        assert!(matches!(refused, Failure::Refused { reason, .. } if reason == "RingNotFound"));
        for passing in [Status::unavailable("store"), Status::resource_exhausted("")] {
            assert!(matches!(sorted(passing, ""), Failure::Away(_)));
        }
        for operator in [Status::unauthenticated(""), Status::permission_denied("")] {
            assert!(matches!(sorted(operator, ""), Failure::NotWelcome(_)));
        }
    }
}
