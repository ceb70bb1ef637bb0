//! Keeps the node's certificate young, without a restart: takes over what `enrol` left on the disk, renews at two thirds
//! of the lifetime, and shows the new certificate once it is on the disk.
//!
//! The key of the next certificate is on the disk before anybody is asked, so that a renewal whose answer was lost is the
//! same request again. Whoever asks for another key holds a copy of ours.

use std::{path::PathBuf, sync::Arc, time::Duration};

use strongroom_api::strongroom::kms::v1::{NodeCertificate, RenewRequest};
use strongroom_core::{Clock, UnixMillis};
use strongroom_runtime::{
    Chain, Condition, fault,
    tls::{self, RootDigest, TlsError},
};
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status};

use crate::{
    config::KeyService,
    identity::{Held, Identity, IdentityError, IdentityFolder, KeyError},
    upstream::Paths,
};

/// How often disk and clock are looked at. The clock may have been turned, and the file replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How soon a renewal that failed is tried again; a third of the lifetime is left.
const RETRY: Duration = Duration::from_secs(10);
/// Longest time for one renewal over one endpoint.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no certificate to show, or not the next one.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("this node is not enrolled; run `kms-plugin enrol`")]
    NotEnrolled,
    #[error("the identity on the disk trusts another root than keyService.rootSha256")]
    OtherRoot,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no endpoint renews the certificate: {0}")]
    Unreachable(String),
    #[error("the key service does not renew the certificate: {0}; enrol this node anew")]
    Refused(String),
}

/// What metrics show of the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The end of the certificate in force, in milliseconds since 1970.
    pub not_after_ms: Option<i64>,
}

/// The background task.
pub struct Renewal {
    folder: PathBuf,
    pin: Option<RootDigest>,
    paths: Paths,
    clock: Arc<dyn Clock>,
    condition: Condition,
    expiry: watch::Sender<Expiry>,
    shown: Option<Arc<Identity>>,
    /// When a renewal may be tried again after one that failed.
    rest: Option<Instant>,
    /// Why the last one failed.
    failure: Option<String>,
    /// The key service has a newer certificate of this node than the one that is shown.
    superseded: bool,
}

impl Renewal {
    /// Prepares the task; none where there are no endpoints.
    pub fn new(
        config: &KeyService,
        paths: Paths,
        clock: Arc<dyn Clock>,
        condition: Condition,
    ) -> Option<Self> {
        let folder = config.identity_dir.clone()?;
        Some(Self {
            folder,
            pin: config.root_sha256,
            paths,
            clock,
            condition,
            expiry: watch::Sender::default(),
            shown: None,
            rest: None,
            failure: None,
            superseded: false,
        })
    }

    /// Where metrics read.
    pub fn expiry(&self) -> watch::Receiver<Expiry> {
        self.expiry.subscribe()
    }

    /// Looks, shows and renews until the shutdown resolves.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            // Not interrupted by the shutdown: what was answered is written.
            self.step().await;
            let paths = self.paths.clone();
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = paths.refused() => self.superseded = true,
                () = &mut shutdown => return,
            }
        }
    }

    async fn step(&mut self) {
        let outcome = self.take_over().await;
        let outcome = match outcome {
            Ok(identity) => self.renew_if_due(identity).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let text = Chain(&error).to_string();
            if self.failure.as_ref() != Some(&text) {
                tracing::warn!(error = text, "the node's certificate");
            }
            self.failure = Some(text);
        }
        self.report();
    }

    /// Shows what is on the disk.
    async fn take_over(&mut self) -> Result<Arc<Identity>, RenewalError> {
        let folder = self.folder.clone();
        let found = blocking(move || IdentityFolder::open(&folder)?.load()).await?;
        let found = found.ok_or(RenewalError::NotEnrolled)?;
        let found = Arc::new(found);
        let shown = self.shown.as_ref().map(|shown| &shown.certificate.serial);
        if shown != Some(&found.certificate.serial) {
            self.show(found.clone())?;
        }
        // What is on the disk, and not what is shown: it may have the key of a renewal whose answer was lost.
        Ok(found)
    }

    fn show(&mut self, identity: Arc<Identity>) -> Result<(), RenewalError> {
        let is_pinned = self
            .pin
            .is_none_or(|pin| pin == tls::root_digest(&identity.root));
        if !is_pinned {
            return Err(RenewalError::OtherRoot);
        }
        let config = Arc::new(tls::known(&identity.credentials(), self.clock.clone())?);
        fault::point!("plugin.renew.before-show");
        self.paths
            .show(|address| tls::channel(address, config.clone()));
        let Held {
            serial,
            not_after_ms,
            ..
        } = &identity.certificate;
        tracing::info!(
            node = identity.node,
            serial,
            not_after_ms,
            "showing the node's certificate"
        );
        self.expiry.send_replace(Expiry {
            not_after_ms: Some(*not_after_ms),
        });
        (self.rest, self.failure, self.superseded) = (None, None, false);
        self.shown = Some(identity);
        Ok(())
    }

    async fn renew_if_due(&mut self, identity: Arc<Identity>) -> Result<(), RenewalError> {
        let now = self.clock.now();
        let due = self.superseded || now >= identity.certificate.due();
        let has_ended = now > identity.certificate.not_after();
        let rests = self.rest.is_some_and(|until| Instant::now() < until);
        if !due || has_ended || rests {
            return Ok(());
        }
        self.rest = Some(Instant::now() + RETRY);
        self.renew(&identity).await
    }

    async fn renew(&mut self, identity: &Identity) -> Result<(), RenewalError> {
        let serial = identity.certificate.serial.clone();
        let (with_key, key) = identity.with_next_key()?;
        self.replace(&serial, with_key).await?;
        fault::point!("plugin.renew.key-written");
        let answer = self.ask(&key.request()?).await?;
        fault::point!("plugin.renew.answered");
        let renewed = Arc::new(identity.renewed(Held::new(answer, key)));
        self.replace(&serial, renewed.clone()).await?;
        self.show(renewed)
    }

    /// Asks one endpoint after the other; all of them give the same answer to the same key.
    async fn ask(&self, request_pem: &str) -> Result<NodeCertificate, RenewalError> {
        let mut failures = Vec::new();
        for mut client in self.paths.endpoints() {
            let mut request = tonic::Request::new(RenewRequest {
                request_pem: request_pem.to_owned(),
            });
            request.set_timeout(CALL_TIMEOUT);
            let answer = tokio::time::timeout(CALL_TIMEOUT, client.renew(request)).await;
            match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if is_refusal(&status) => {
                    return Err(RenewalError::Refused(sentence(&status)));
                }
                Ok(Err(status)) => failures.push(sentence(&status)),
                Err(_) => failures.push("no answer in time".to_owned()),
            }
        }
        Err(RenewalError::Unreachable(failures.join("; ")))
    }

    async fn replace(&self, serial: &str, identity: Arc<Identity>) -> Result<(), IdentityError> {
        let (folder, serial) = (self.folder.clone(), serial.to_owned());
        blocking(move || IdentityFolder::open(&folder)?.replace(&serial, &identity)).await
    }

    /// Says what people must know: no certificate, none that counts, or one that should long be another.
    fn report(&self) {
        let now = self.clock.now();
        let failure = || self.failure.clone().unwrap_or_default();
        match &self.shown {
            None => self.condition.missing(failure()),
            Some(identity) => {
                let Held { not_after_ms, .. } = identity.certificate;
                let end = UnixMillis::new(not_after_ms);
                if now > end {
                    self.condition.missing(format!(
                        "the certificate has expired ({}); enrol this node anew",
                        rfc3339(end)
                    ));
                } else if now >= identity.certificate.overdue() || self.superseded {
                    self.condition.missing(format!(
                        "the certificate expires {} and was not renewed: {}",
                        rfc3339(end),
                        failure()
                    ));
                } else {
                    self.condition.met();
                }
            }
        }
    }
}

fn rfc3339(time: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time.as_i64())
        .map_or_else(|_| "at an unknown time".to_owned(), |time| time.to_string())
}

/// What the key service itself said, and will go on saying.
fn is_refusal(status: &Status) -> bool {
    use std::error::Error;
    status.source().is_none()
        && matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument
        )
}

fn sentence(status: &Status) -> String {
    use std::error::Error;
    let text = match status.source() {
        Some(source) => Chain(source).to_string(),
        None => status.message().to_owned(),
    };
    text.chars()
        .filter(|character| !character.is_control())
        .take(200)
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, IdentityError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("file operations do not panic, and the runtime outlives its tasks")
}
