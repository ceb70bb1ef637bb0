//! Connects to a socket of ours: path, socket and listener are checked before the first byte, each time.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};
use tower::Service;

use super::{
    OVERFLOW_UID,
    path::{PathError, check_folders, check_socket},
};

/// A listener on this machine accepts at once or is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a socket was not used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The path, a folder on the way or the socket is not fit.
    #[error("the socket's path is not fit")]
    Path(#[source] PathError),
    /// Nobody answers.
    #[error("nobody answers on {}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another user listens there.
    #[error("the listener on {} is uid {actual}, not {expected}", path.display())]
    Listener {
        /// The path.
        path: PathBuf,
        /// Who should listen.
        expected: u32,
        /// Who does.
        actual: u32,
    },
}

/// Connects to the socket at a path on which `owner` listens.
///
/// # Errors
///
/// When anything is not as it should be; nothing was sent then.
pub async fn connect(path: &Path, owner: u32) -> Result<UnixStream, ConnectError> {
    check_folders(path, owner).map_err(ConnectError::Path)?;
    let failed = |source| ConnectError::Connect {
        path: path.to_owned(),
        source,
    };
    check_socket(path, owner).map_err(|error| match error {
        // Not there yet, or gone: the listener is away, and nothing is wrong with the path.
        PathError::Examine { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            failed(source)
        }
        error => ConnectError::Path(error),
    })?;
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let actual = stream.peer_cred().map_err(failed)?.uid();
    if actual != owner || actual == OVERFLOW_UID {
        return Err(ConnectError::Listener {
            path: path.to_owned(),
            expected: owner,
            actual,
        });
    }
    Ok(stream)
}

/// Makes checked connections for a tonic channel.
#[derive(Clone, Debug)]
pub struct Connector {
    path: Arc<Path>,
    owner: u32,
}

impl Connector {
    /// Connects to the socket at a path on which `owner` listens.
    pub fn new(path: &Path, owner: u32) -> Self {
        Self {
            path: path.into(),
            owner,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { path, owner } = self.clone();
        Box::pin(async move { connect(&path, owner).await.map(TokioIo::new) })
    }
}

/// Returns a channel that connects at its first call and again after a loss. Must be called within a runtime.
pub fn channel(path: &Path, owner: u32) -> Channel {
    // The authority is what the servers of kubernetes' clients expect too; nothing resolves it.
    Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector_lazy(Connector::new(path, owner))
}
