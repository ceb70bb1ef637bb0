//! The key service as the driver sees it: bounded reads over the first endpoint that answers, each with the driver's own
//! token as it is on the disk now, and errors sorted by what they mean for a volume.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use strongroom_api::strongroom::v1::{
    ReadForPodRequest, ReadForPodResponse, VolumeFile, Want, WatchEvent, WatchRequest,
    pods_client::PodsClient,
};
use strongroom_core::{Clock, SecretBytes};
use strongroom_runtime::tls::{self, Bearer, CallFailure, Pin, TlsError, Trust};
pub use strongroom_runtime::tls::{NotBelieved, TokenError};
use tokio_stream::Stream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::{config::KeyService, request::Wanted};

/// 64 secrets of 64 KiB, with their paths.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// The key service's words for what is not there.
const ABSENCES: [&str; 3] = ["NotFound", "AwaitingValue", "FieldMissing"];

/// Why the driver cannot know its key service.
#[derive(Debug, thiserror::Error)]
pub enum SourceConfigError {
    /// The root's file cannot be read.
    #[error("cannot read the root certificate {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection can be prepared.
    #[error("the root certificate of the key service cannot be used")]
    Tls(#[source] TlsError),
}

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
    endpoints: Vec<(String, Channel)>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
    bearer: Bearer,
    pin: Pin,
    deadline: Duration,
    trust: Option<Arc<Trust>>,
}

impl Source {
    /// Prepares a client, which connects at its first call. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// See [`SourceConfigError`].
    pub fn new(config: &KeyService, clock: Arc<dyn Clock>) -> Result<Self, SourceConfigError> {
        let trust = config
            .ca_bundle
            .as_ref()
            .map(|file| Arc::new(Trust::new(file)));
        let tls = match (&trust, &config.ca_file, config.ca_sha256) {
            (Some(trust), ..) => tls::following(trust.clone(), clock),
            (None, Some(path), _) => {
                let pem = std::fs::read(path).map_err(|source| SourceConfigError::Read {
                    path: path.clone(),
                    source,
                })?;
                tls::trusting(&pem, clock)
            }
            (None, None, digest) => tls::pinned(digest.unwrap_or_default(), clock),
        };
        let tls = Arc::new(tls.map_err(SourceConfigError::Tls)?);
        let endpoint = |address| (format!("{address}"), tls::channel(address, tls.clone()));
        Ok(Self {
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            preferred: AtomicUsize::new(0),
            bearer: Bearer::new(config.token_file.clone()),
            pin: Pin::new(config.instance_id),
            deadline: config.deadline,
            trust,
        })
    }

    /// What is trusted, where that may come after the driver.
    pub fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.clone()
    }

    /// Reads what a volume shall hold.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn read(&self, ask: &Ask) -> Result<Answer, SourceError> {
        let reading = self.read_anywhere(ask);
        let response = tokio::time::timeout(self.deadline, reading)
            .await
            .unwrap_or_else(|_| {
                Err(SourceError::Away {
                    cause: format!("nothing within {:?}", self.deadline),
                })
            })?;
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

    /// Tries one endpoint after the other, and the first of them once more: a connection may have ended with the token
    /// that it was opened with, which shows only when it is used.
    async fn read_anywhere(&self, ask: &Ask) -> Result<ReadForPodResponse, SourceError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for attempt in 0..=self.endpoints.len() {
            let index = (first + attempt) % self.endpoints.len();
            match self.read_at(index, ask).await {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error @ SourceError::Away { .. }) => {
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| SourceError::Away {
            cause: "no endpoint is configured".to_owned(),
        }))
    }

    async fn read_at(&self, index: usize, ask: &Ask) -> Result<ReadForPodResponse, SourceError> {
        let mut request = Request::new(ReadForPodRequest {
            pod_token: ask.token_text(),
            pod_uid: ask.pod_uid.clone(),
            want: Some(ask.want()),
            have: ask.have.clone(),
        });
        self.bearer.sign(&mut request).map_err(SourceError::Token)?;
        let response = self.client(index).read_for_pod(request).await;
        response
            .map(tonic::Response::into_inner)
            .map_err(|status| sort(&self.endpoints[index].0, &status))
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
        let index = self.preferred.load(Ordering::Relaxed);
        let mut request = Request::new(changes);
        self.bearer.sign(&mut request).map_err(SourceError::Token)?;
        match self.client(index).watch(request).await {
            Ok(response) => Ok(Events {
                endpoint: self.endpoints[index].0.clone(),
                stream: response.into_inner(),
            }),
            Err(status) => {
                let error = sort(&self.endpoints[index].0, &status);
                if matches!(error, SourceError::Away { .. }) {
                    let next = (index + 1) % self.endpoints.len();
                    self.preferred.store(next, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    fn client(&self, index: usize) -> PodsClient<Channel> {
        PodsClient::new(self.endpoints[index].1.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
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
        next.map_err(|status| sort(&self.endpoint, &status))
    }
}

/// Sorts an answer by what it means for a volume.
fn sort(endpoint: &str, status: &Status) -> SourceError {
    match CallFailure::sort(endpoint, status) {
        CallFailure::Away { cause } => SourceError::Away { cause },
        CallFailure::Refused {
            code,
            reason,
            sentence,
        } => SourceError::Refused {
            code,
            reason,
            sentence,
        },
    }
}
