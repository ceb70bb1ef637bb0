//! Trust in whatever the ConfigMap `strongroom-ca` said first, as it is mounted into a pod. It may come after the process, and
//! it may be replaced: by roots that the trusted ones signed, which follow, or by somebody else's, which are not believed.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use strongroom_core::Clock;
use tokio::net::TcpStream;

use super::{
    ByRoots, RemoteAddress, Roots, TlsError,
    bundle::{self, BundleError},
    finished,
};
use crate::Condition;

/// What `/readyz` says while nobody has made an instance.
const AWAITING_INIT: &str = "awaiting init";
/// How often the file is looked for, and looked at once it is there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(10);
/// Longest file that is read.
const FILE_MAX: u64 = 256 * 1024;

/// Roots that were believed, and the file in which the next ones come.
pub struct Trust {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    roots: Vec<CertificateDer<'static>>,
    /// What the file held at the last look.
    seen: Option<Vec<u8>>,
    refusal: Option<BundleError>,
}

/// How a look at the file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is nothing to trust yet.
    Missing,
    /// The file holds what is trusted.
    Trusted,
    /// The file holds something else. The roots before are trusted still, if there were any.
    Refused(BundleError),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("file", &self.file).finish()
    }
}

impl Trust {
    /// Trusts what the file says first.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            state: Mutex::default(),
        }
    }

    /// Looks at the file, and takes over what may be taken over. Blocks for as long as a small file takes.
    pub fn look(&self) -> Look {
        let read = read(&self.file);
        let mut state = self.lock();
        match read {
            Ok(bytes) if state.seen.as_ref() != Some(&bytes) => {
                state.take(&bytes);
                state.seen = Some(bytes);
            }
            Ok(_) => {}
            // A pod keeps its last copy of a ConfigMap that is gone; so do we.
            Err(error) => tracing::debug!(file = %self.file.display(), %error, "no roots"),
        }
        match state.refusal {
            Some(refusal) => Look::Refused(refusal),
            None if state.roots.is_empty() => Look::Missing,
            None => Look::Trusted,
        }
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.look();
        self.lock().roots.clone()
    }

    // Each change replaces whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again until the shutdown, and says on `/readyz` what is missing: before init nothing is. The
    /// `endpoints` are those of the key service.
    ///
    /// A kubelet shows a ConfigMap that came after the pod at its next look at the pod, up to two minutes later, and looks at
    /// once when a probe of the pod changes. So as soon as somebody listens at an endpoint while there is no root, the
    /// condition is missing.
    pub async fn watch(
        &self,
        endpoints: &[RemoteAddress],
        condition: Condition,
        shutdown: impl Future<Output = ()>,
    ) {
        tokio::pin!(shutdown);
        loop {
            let look = self.look();
            match look {
                Look::Trusted => condition.met(),
                Look::Missing if somebody_listens(endpoints).await => condition.missing(format!(
                    "the root certificate {} is not there yet",
                    self.file.display()
                )),
                Look::Missing => condition.awaits(AWAITING_INIT),
                // Calls go on with the roots before; somebody should look all the same.
                Look::Refused(refusal) => condition.missing(format!(
                    "the root certificate in {} is not believed: {refusal}",
                    self.file.display()
                )),
            }
            let pause = match look {
                Look::Trusted => LOOK,
                Look::Missing | Look::Refused(_) => LOOK_AGAIN,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut shutdown => return,
            }
        }
    }
}

impl State {
    fn take(&mut self, bytes: &[u8]) {
        let taken = if self.roots.is_empty() {
            bundle::first(bytes)
        } else {
            bundle::next(&self.roots, bytes)
        };
        match taken {
            Ok(roots) => {
                tracing::info!(roots = roots.len(), "roots of the key service are trusted");
                self.roots = roots;
                self.refusal = None;
            }
            Err(refusal) => {
                tracing::error!(%refusal, "strongroom-ca is not believed");
                self.refusal = Some(refusal);
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(FILE_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn somebody_listens(endpoints: &[RemoteAddress]) -> bool {
    for endpoint in endpoints {
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        if let Ok(Ok(_)) = tokio::time::timeout(LOOK_AGAIN, connect).await {
            return true;
        }
    }
    false
}

/// Shows nothing, and trusts what `trust` does at the moment of each handshake.
///
/// # Errors
///
/// See [`TlsError`].
pub fn following(trust: Arc<Trust>, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let config = super::builder(clock)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByRoots(Following(trust))))
        .with_no_client_auth();
    Ok(finished(config))
}

#[derive(Debug)]
struct Following(Arc<Trust>);

impl Roots for Following {
    fn roots(&self, _: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        self.0.roots()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Readiness, tls::bundle::tests::Authority};

    #[test]
    fn first_roots_are_trusted_and_others_in_their_place_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let trust = Trust::new(&file);
        assert_eq!(trust.look(), Look::Missing);

        let (ours, theirs, next) = (
            Authority::new("ours"),
            Authority::new("theirs"),
            Authority::new("next"),
        );
        fs::write(&file, ours.root()).unwrap();
        assert_eq!(trust.look(), Look::Trusted);
        let trusted = trust.roots();

        fs::write(&file, theirs.root()).unwrap();
        assert_eq!(trust.look(), Look::Refused(BundleError::NotSigned));
        fs::remove_file(&file).unwrap();
        assert_eq!(trust.look(), Look::Refused(BundleError::NotSigned));
        assert_eq!(trust.roots(), trusted);

        fs::write(&file, next.root() + &ours.link(&next)).unwrap();
        assert_eq!(trust.look(), Look::Trusted);
        assert_ne!(trust.roots(), trusted);
    }

    #[tokio::test]
    async fn root_that_is_late_is_awaited_and_missed_once_somebody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(folder.path().join("ca.crt"));
        let readiness = Readiness::default();
        let watch = async |endpoints: &[RemoteAddress]| {
            let shutdown = tokio::time::sleep(Duration::ZERO);
            trust
                .watch(endpoints, readiness.condition("root"), shutdown)
                .await;
        };
        watch(&[]).await;
        assert_eq!(readiness.awaiting(), Some(AWAITING_INIT));
        assert!(readiness.is_ready());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        watch(&[endpoint.parse().unwrap()]).await;
        assert!(!readiness.is_ready());

        fs::write(&trust.file, Authority::new("ours").root()).unwrap();
        watch(&[]).await;
        assert!(readiness.is_ready());
        assert_eq!(readiness.awaiting(), None);
    }
}
