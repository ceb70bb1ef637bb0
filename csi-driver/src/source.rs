//! The key service as the driver sees it: bounded reads over the first endpoint that answers, each with the driver's own
//! token as it is on the disk now, and errors sorted by what they mean for a volume.

use std::sync::Arc;

use strongroom_api::strongroom::v1::{
    ReadForPodRequest, VolumeFile, Want, WatchEvent, WatchRequest, pods_client::PodsClient,
};
use strongroom_core::{Clock, SecretBytes};
pub use strongroom_runtime::tls::{NotBelieved, TokenError};
use strongroom_runtime::{
    key_service::{CallError, KeyServiceClient, KeyServiceConfig, KeyServiceConfigError},
    tls::{CallFailure, Pin, Trust},
};
use tokio_stream::Stream;
use tonic::{Code, Streaming, transport::Channel};

use crate::request::Wanted;

/// 64 secrets of 64 KiB, with their paths.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// The key service's words for what is not there.
const ABSENCES: [&str; 3] = ["NotFound", "AwaitingValue", "FieldMissing"];

/// Why the key service gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The driver has nothing to show.
    #[error("the driver's own token cannot be used")]
    Token(#[source] TokenError),
    /// It does not answer, or not in time.
    #[error("the key service does not answer: {cause}")]
    Away {
        /// The first sentence of why.
        cause: String,
    },
    /// It answers that it cannot now, or that the pod may not. The sentence is its own.
    #[error("{sentence}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its word for it, or nothing.
        reason: String,
        /// What it says.
        sentence: String,
    },
    /// It is another one than before, or an older state of it.
    #[error("the key service that answers is not believed")]
    NotBelieved(#[source] NotBelieved),
}

impl SourceError {
    /// Whether what was asked for is not there, in place of being refused or out of reach.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if ABSENCES.contains(&reason.as_str()))
    }
}

/// What a volume asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The pod's token.
    pub token: Arc<SecretBytes>,
    /// The pod.
    pub pod_uid: String,
    /// What it asks for.
    pub wanted: Wanted,
    /// The etag of what the volume holds, or empty.
    pub have: String,
}

/// What a volume shall hold.
pub enum Answer {
    /// What it holds.
    Same,
    /// Other files.
    Files {
        /// Their etag.
        etag: String,
        /// All of them.
        files: Vec<VolumeFile>,
    },
}

/// The client of the key service.
pub struct Source {
    client: KeyServiceClient,
    pin: Pin,
}

impl Source {
    /// Prepares a client, which connects at its first call. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// See [`KeyServiceConfigError`].
    pub fn new(
        config: &KeyServiceConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyServiceConfigError> {
        Ok(Self {
            client: KeyServiceClient::new(config, clock)?,
            pin: Pin::new(config.instance_id),
        })
    }

    /// What is trusted, where that may come after the driver.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.client.trust()
    }

    /// Reads what a volume shall hold.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn read(&self, ask: &Ask) -> Result<Answer, SourceError> {
        let message = ReadForPodRequest {
            pod_token: ask.token_text(),
            pod_uid: ask.pod_uid.clone(),
            want: Some(ask.want()),
            have: ask.have.clone(),
        };
        let response = self
            .client
            .call(message, |channel, request| async move {
                pods(channel).read_for_pod(request).await
            })
            .await?;
        self.pin
            .check(&response.instance_id, response.store_epoch)
            .map_err(SourceError::NotBelieved)?;
        // An answer that repeats the etag without saying so changes nothing either.
        Ok(if response.not_modified {
            Answer::Same
        } else {
            Answer::Files {
                etag: response.etag,
                files: response.files,
            }
        })
    }

    /// Opens the stream of changes.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn watch(
        &self,
        changes: impl Stream<Item = WatchRequest> + Send + 'static,
    ) -> Result<Events, SourceError> {
        let (endpoint, stream) = self
            .client
            .call_once(changes, |channel, request| async move {
                pods(channel).watch(request).await
            })
            .await?;
        Ok(Events { endpoint, stream })
    }
}

fn pods(channel: Channel) -> PodsClient<Channel> {
    PodsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

impl Ask {
    /// The token as text; it was text when it came.
    pub fn token_text(&self) -> String {
        String::from_utf8_lossy(self.token.expose()).into_owned()
    }

    /// What is wanted, as the key service reads it.
    pub fn want(&self) -> Want {
        match &self.wanted {
            Wanted::Secrets(secrets) => Want {
                secrets: secrets.clone(),
                ..Want::default()
            },
            Wanted::Bundle(bundle) => Want {
                bundle: bundle.clone(),
                ..Want::default()
            },
        }
    }
}

/// What the key service says about volumes, as it happens.
pub struct Events {
    endpoint: String,
    stream: Streaming<WatchEvent>,
}

impl Events {
    /// Waits for the next event; none when the key service has ended the stream.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, SourceError> {
        let next = self.stream.message().await;
        next.map_err(|status| CallFailure::sort(&self.endpoint, &status).into())
    }
}

impl From<CallError> for SourceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Token(error) => Self::Token(error),
            CallError::Failed(failure) => failure.into(),
        }
    }
}

impl From<CallFailure> for SourceError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Away { cause } => Self::Away { cause },
            CallFailure::Refused {
                code,
                reason,
                sentence,
            } => Self::Refused {
                code,
                reason,
                sentence,
            },
        }
    }
}
