//! The key service as programs in a cluster reach it: one root, the program's own token, the first endpoint that answers.

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use strongroom_core::{Clock, InstanceId};
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    configuration::{duration, parsed_if_there, sha256_if_there},
    tls::{self, Bearer, CallFailure, RemoteAddress, RootDigest, TlsError, TokenError, Trust},
};

const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// More would not be reached within a deadline.
const ENDPOINTS_MAX: usize = 8;

/// `keyService` of a configuration file: the way to the port for workloads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeyServiceConfig {
    /// Addresses of its TLS port for workloads, HOST:PORT, in the order in which they are tried.
    pub endpoints: Vec<RemoteAddress>,
    /// File of its root certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of its root certificate, hexadecimal; the server sends the certificate itself along.
    #[serde(default, deserialize_with = "sha256_if_there")]
    pub ca_sha256: Option<RootDigest>,
    /// File of a mounted ConfigMap `strongroom-ca`, which may come later: its first roots are trusted, others only if those
    /// signed them.
    pub ca_bundle: Option<PathBuf>,
    /// The program's own token, which kubelet replaces; read for each call.
    #[serde(default = "default_token_file")]
    pub token_file: PathBuf,
    /// The only instance that is believed.
    #[serde(default, deserialize_with = "parsed_if_there")]
    pub instance_id: Option<InstanceId>,
    /// Longest time for one call, over all endpoints.
    #[serde(default = "default_deadline", deserialize_with = "duration")]
    pub deadline: Duration,
}

fn default_token_file() -> PathBuf {
    PathBuf::from("/var/run/secrets/strongroom.dev/token")
}

fn default_deadline() -> Duration {
    Duration::from_secs(10)
}

/// Which roots are trusted.
enum Roots<'a> {
    /// Those in a file.
    File(&'a Path),
    /// The one with a digest.
    Digest(RootDigest),
    /// Those of the first bundle, and what they signed.
    Bundle(&'a Path),
}

impl KeyServiceConfig {
    /// Tells which value cannot be, in a sentence.
    ///
    /// # Errors
    ///
    /// The first such sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=ENDPOINTS_MAX).contains(&self.endpoints.len()) {
            return Err("keyService.endpoints: 1 to 8");
        }
        self.roots()?;
        let files = [self.ca_file.as_ref(), self.ca_bundle.as_ref()];
        let mut files = files.into_iter().flatten().chain([&self.token_file]);
        if !files.all(|file| file.is_absolute()) {
            return Err(
                "keyService.caFile, keyService.caBundle, keyService.tokenFile: absolute paths",
            );
        }
        if !DEADLINES.contains(&self.deadline) {
            return Err("keyService.deadline: between 100ms and 60s");
        }
        Ok(())
    }

    fn roots(&self) -> Result<Roots<'_>, &'static str> {
        match (&self.ca_file, self.ca_sha256, &self.ca_bundle) {
            (Some(file), None, None) => Ok(Roots::File(file)),
            (None, Some(digest), None) => Ok(Roots::Digest(digest)),
            (None, None, Some(bundle)) => Ok(Roots::Bundle(bundle)),
            _ => Err("keyService: exactly one of caFile, caSha256 and caBundle"),
        }
    }
}

/// Why a program cannot know its key service. Whoever wrote the configuration mends it.
#[derive(Debug, thiserror::Error)]
pub enum KeyServiceConfigError {
    /// A value cannot be.
    #[error("{0}")]
    Value(&'static str),
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

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The program has nothing to show.
    #[error("the program's own token cannot be used")]
    Token(#[source] TokenError),
    /// Nobody answered, or the key service said no.
    #[error(transparent)]
    Failed(CallFailure),
}

impl CallError {
    fn away(cause: String) -> Self {
        Self::Failed(CallFailure::Away { cause })
    }

    /// Tells whether another endpoint might answer.
    fn passes(&self) -> bool {
        match self {
            Self::Token(_) => false,
            Self::Failed(CallFailure::Away { .. }) => true,
            Self::Failed(CallFailure::Refused { code, .. }) => *code == Code::Unavailable,
        }
    }
}

/// Connections to the key service, which open at their first call.
pub struct KeyServiceClient {
    endpoints: Vec<(String, Channel)>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
    bearer: Bearer,
    deadline: Duration,
    trust: Option<Arc<Trust>>,
}

impl KeyServiceClient {
    /// Prepares the connections. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// See [`KeyServiceConfigError`].
    pub fn new(
        config: &KeyServiceConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyServiceConfigError> {
        config.check().map_err(KeyServiceConfigError::Value)?;
        let mut trust = None;
        let tls = match config.roots().map_err(KeyServiceConfigError::Value)? {
            Roots::File(path) => {
                let read = |source| KeyServiceConfigError::Read {
                    path: path.to_owned(),
                    source,
                };
                tls::trusting(&std::fs::read(path).map_err(read)?, clock)
            }
            Roots::Digest(digest) => tls::pinned(digest, clock),
            Roots::Bundle(path) => {
                let bundle = trust.insert(Arc::new(Trust::new(path)));
                tls::following(bundle.clone(), clock)
            }
        };
        let tls = Arc::new(tls.map_err(KeyServiceConfigError::Tls)?);
        let endpoint = |address| (format!("{address}"), tls::channel(address, tls.clone()));
        Ok(Self {
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            preferred: AtomicUsize::new(0),
            bearer: Bearer::new(config.token_file.clone()),
            deadline: config.deadline,
            trust,
        })
    }

    /// What is trusted, where that follows a bundle.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    /// Makes a call, within the deadline, at the endpoint that answered last, then at the others, and at the first once more:
    /// a connection may have ended with the token that it was opened with, which shows only when it is used.
    ///
    /// # Errors
    ///
    /// The first failure, where no endpoint answered.
    pub async fn call<M, R, F>(
        &self,
        message: M,
        call: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, CallError>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let all = async {
            let mut failure = None;
            for attempt in 0..=self.endpoints.len() {
                let index = (first + attempt) % self.endpoints.len();
                match self.call_at(index, message.clone(), &call).await {
                    Err(error) if error.passes() => {
                        failure.get_or_insert(error);
                    }
                    answer => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return answer;
                    }
                }
            }
            Err(failure.unwrap_or_else(|| CallError::away("no endpoint is configured".to_owned())))
        };
        let late = |_| CallError::away(format!("nothing within {:?}", self.deadline));
        tokio::time::timeout(self.deadline, all)
            .await
            .map_err(late)?
    }

    /// Makes a call once, of a message that cannot be sent again; the next one goes to another endpoint if nobody answered.
    /// It is not bounded.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn call_once<M, R, F>(
        &self,
        message: M,
        call: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<(String, R), CallError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let index = self.preferred.load(Ordering::Relaxed);
        let answer = self.call_at(index, message, &call).await;
        if answer.as_ref().is_err_and(CallError::passes) {
            let next = (index + 1) % self.endpoints.len();
            self.preferred.store(next, Ordering::Relaxed);
        }
        answer.map(|answer| (self.endpoints[index].0.clone(), answer))
    }

    async fn call_at<M, R, F>(
        &self,
        index: usize,
        message: M,
        call: &impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, CallError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let (name, channel) = &self.endpoints[index];
        let mut request = Request::new(message);
        self.bearer.sign(&mut request).map_err(CallError::Token)?;
        match call(channel.clone(), request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(CallError::Failed(CallFailure::sort(name, &status))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use tempfile::TempDir;

    use super::*;
    use crate::SystemClock;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn config(more: &str) -> KeyServiceConfig {
        let text = format!("{{endpoints: ['a:1', 'b:1'], tokenFile: /token{more}}}");
        serde_yaml_ng::from_str(&text).unwrap()
    }

    #[test]
    fn the_root_is_pinned_in_exactly_one_way() {
        let digest = format!(", caSha256: {DIGEST}");
        for way in [", caFile: /a", ", caBundle: /a", &digest] {
            assert_eq!(config(way).check(), Ok(()));
        }
        for ways in [
            String::new(),
            format!("{digest}, caFile: /a"),
            ", caBundle: /a, caFile: /a".to_owned(),
        ] {
            let refusal = config(&ways).check().unwrap_err();
            assert_eq!(
                refusal,
                "keyService: exactly one of caFile, caSha256 and caBundle"
            );
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let check = |change: &dyn Fn(&mut KeyServiceConfig), name| {
            let mut config = config(", caFile: /a");
            change(&mut config);
            let refusal = config.check().unwrap_err();
            assert!(refusal.contains(name), "{refusal}");
        };
        check(&|it| it.endpoints.clear(), "keyService.endpoints");
        check(
            &|it| it.endpoints = vec![it.endpoints[0].clone(); 9],
            "keyService.endpoints",
        );
        check(
            &|it| it.deadline = Duration::from_secs(61),
            "keyService.deadline",
        );
        check(&|it| it.token_file = "token".into(), "absolute paths");
        check(&|it| it.ca_file = Some("root".into()), "absolute paths");
    }

    /// A client with a token, and what its calls are answered with, one after the other.
    struct Stage {
        client: KeyServiceClient,
        folder: TempDir,
        answers: Mutex<Vec<Status>>,
    }

    impl Stage {
        fn new(answers: Vec<Status>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("token"), "token").unwrap();
            let mut config = config(&format!(", caSha256: {DIGEST}, deadline: 1s"));
            config.token_file = folder.path().join("token");
            Self {
                client: KeyServiceClient::new(&config, Arc::new(SystemClock)).unwrap(),
                folder,
                answers: Mutex::new(answers),
            }
        }

        /// Calls, and tells how many answers are left.
        async fn call(&self) -> (Result<(), CallError>, usize) {
            let answer = self.client.call((), |_, _| async {
                match self.answers.lock().unwrap().pop() {
                    Some(status) => Err(status),
                    None => Ok(Response::new(())),
                }
            });
            (answer.await, self.answers.lock().unwrap().len())
        }
    }

    fn nobody() -> Status {
        Status::from_error(Box::new(io::Error::other("nobody there")))
    }

    #[tokio::test]
    async fn every_endpoint_is_asked_and_the_first_once_more() {
        let two = Stage::new(vec![nobody(), Status::unavailable("store")]);
        assert!(matches!(two.call().await, (Ok(()), 0)));
        assert_eq!(two.client.preferred.load(Ordering::Relaxed), 0);

        let one = Stage::new(vec![nobody()]);
        assert!(matches!(one.call().await, (Ok(()), 0)));
        assert_eq!(one.client.preferred.load(Ordering::Relaxed), 1);

        let four = Stage::new(vec![
            nobody(),
            nobody(),
            nobody(),
            Status::unavailable("store"),
        ]);
        let (answer, left) = four.call().await;
        assert_eq!(left, 1);
        let first = answer.unwrap_err();
        assert!(
            matches!(&first, CallError::Failed(CallFailure::Refused { sentence, .. }) if sentence == "store"),
            "{first}"
        );
    }

    #[tokio::test]
    async fn refusal_is_an_answer() {
        let stage = Stage::new(vec![nobody(), Status::permission_denied("no role")]);
        let (answer, left) = stage.call().await;
        assert!(matches!(
            answer,
            Err(CallError::Failed(CallFailure::Refused {
                code: Code::PermissionDenied,
                ..
            }))
        ));
        assert_eq!(left, 1);
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_sent() {
        let stage = Stage::new(vec![nobody()]);
        fs::remove_file(stage.folder.path().join("token")).unwrap();
        assert!(matches!(
            stage.call().await,
            (Err(CallError::Token(TokenError::Read { .. })), 1)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let stage = Stage::new(Vec::new());
        let answer: Result<(), _> = stage.client.call((), |_, _| std::future::pending()).await;
        let Err(CallError::Failed(CallFailure::Away { cause })) = answer else {
            panic!("nobody answered");
        };
        assert_eq!(cause, "nothing within 1s");
    }
}
