//! TLS with the key service under the clock of a story, and with any certificate at either of its ports.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use strongroom_core::{Clock, UnixMillis};
use strongroom_hack::installation::{Installation, Settings};
use strongroom_runtime::SystemClock;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The clocks of all programs of an installation; time passes as the story wants it. Only builds with fault points follow.
#[derive(Clone, Debug)]
pub struct StoryClock {
    file: PathBuf,
}

impl StoryClock {
    /// Prepares the clock for settings that are not laid out yet.
    pub fn of(settings: &mut Settings) -> Self {
        let file = settings.root.with_extension("clocks");
        settings
            .environment
            .push(("STRONGROOM_CLOCKS".to_owned(), file.display().to_string()));
        Self { file }
    }

    /// Starts it; the programs read it from their start on.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn start(&self) -> Result<()> {
        self.set(0, 0)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As `start`.
    pub fn skip(&self, time: Duration) -> Result<()> {
        let (skipped, turned) = self.read();
        self.set(skipped + time.as_secs(), turned)
    }

    /// Turns the wall clock to so many seconds ahead of where it was at the start; the boot clock goes on.
    ///
    /// # Errors
    /// As `start`.
    pub fn turn(&self, seconds: i64) -> Result<()> {
        let (skipped, _) = self.read();
        self.set(skipped, seconds)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        Ok(fs::remove_file(&self.file)?)
    }

    fn set(&self, skipped: u64, turned: i64) -> Result<()> {
        let folder = self.file.parent().context("it lies in a folder")?;
        fs::create_dir_all(folder)?;
        // A program may read at any moment, so that the file is always whole.
        let mut next = tempfile::NamedTempFile::new_in(folder)?;
        write!(next, "{skipped} {turned}")?;
        next.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))?;
        next.persist(&self.file)?;
        Ok(())
    }

    fn read(&self) -> (u64, i64) {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let (skipped, turned) = text.split_once(' ').unwrap_or_default();
        (skipped.parse().unwrap_or(0), turned.parse().unwrap_or(0))
    }
}

impl Clock for StoryClock {
    fn now(&self) -> UnixMillis {
        let (skipped, turned) = self.read();
        let now = SystemClock.now().plus(Duration::from_secs(skipped));
        UnixMillis::new(now.as_i64() + turned * 1000)
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + Duration::from_secs(self.read().0)
    }
}

/// A certificate with its key and the root that it trusts.
#[derive(Debug)]
pub struct Credentials {
    root: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Credentials {
    /// Those that `Installation::administrator` made.
    ///
    /// # Errors
    /// When they are not there.
    pub fn of_administrator(installation: &Installation, name: &str) -> Result<Self> {
        let read =
            |suffix: &str| fs::read(installation.path("etc").join(format!("{name}{suffix}")));
        Ok(Self {
            root: CertificateDer::from_pem_slice(&read("-root.crt")?)?,
            chain: chain(&read(".crt")?)?,
            key: PrivateKeyDer::from_pem_slice(&read(".key")?)?,
        })
    }

    /// Those that a plugin of another node keeps.
    ///
    /// # Errors
    /// When they are not there.
    pub fn of_node(identity: &Path) -> Result<Self> {
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(identity)?)?;
        let text = |value: &serde_json::Value| {
            let text = value.as_str().context("the identity is whole")?;
            Ok::<_, anyhow::Error>(text.to_owned())
        };
        let certificate = &identity["certificate"];
        let key = text(&certificate["key"])?;
        Ok(Self {
            root: CertificateDer::from(hex::decode(text(&identity["root"])?)?),
            chain: chain(text(&certificate["chainPem"])?.as_bytes())?,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        })
    }

    /// Another certificate, with the same root to trust.
    #[must_use]
    pub fn showing(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Self {
            root: self.root.clone(),
            chain,
            key,
        }
    }

    /// How somebody connects who shows this certificate.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub fn config(&self, clock: &StoryClock) -> Result<ClientConfig> {
        let Self { root, chain, key } = self.clone();
        let clock = Arc::new(clock.clone());
        Ok(strongroom_auth::client_tls(&root, chain, key, clock)?)
    }

    /// How somebody connects who trusts the same root and shows nothing.
    ///
    /// # Errors
    /// As `config`.
    pub fn stranger_config(&self, clock: &StoryClock) -> Result<ClientConfig> {
        let mut config = self.config(clock)?;
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        Ok(config)
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?)
}

/// Connects and shakes hands. With TLS 1.3 the server judges the client afterwards.
///
/// # Errors
/// When the handshake fails on this side.
pub async fn connect(
    address: &str,
    credentials: &Credentials,
    clock: &StoryClock,
) -> Result<TlsStream<TcpStream>> {
    shake_hands(address, credentials.config(clock)?).await
}

/// Speaks gRPC over one connection, which is not made again.
///
/// # Errors
/// As `connect`, and when the server turns away whom it sees.
pub async fn channel(
    address: &str,
    credentials: &Credentials,
    clock: &StoryClock,
) -> Result<Channel> {
    speak(address, credentials.config(clock)?).await
}

/// The same without a certificate to show.
///
/// # Errors
/// As `channel`.
pub async fn stranger(address: &str, trusted: &Credentials, clock: &StoryClock) -> Result<Channel> {
    speak(address, trusted.stranger_config(clock)?).await
}

async fn speak(address: &str, config: ClientConfig) -> Result<Channel> {
    speak_over(shake_hands(address, config).await?).await
}

/// Speaks gRPC over a connection that is there, which is not made again.
///
/// # Errors
/// When the server turns away whom it sees.
pub async fn speak_over(stream: TlsStream<TcpStream>) -> Result<Channel> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = service_fn(move |_| {
        let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
        async move { stream.map_err(io::Error::from) }
    });
    let endpoint = Endpoint::from_static("http://key-service.strongroom.dev");
    Ok(endpoint.connect_with_connector(connector).await?)
}

async fn shake_hands(address: &str, config: ClientConfig) -> Result<TlsStream<TcpStream>> {
    greet(TcpStream::connect(address).await?, config).await
}

/// Shakes hands over a connection that is there.
///
/// # Errors
/// As `connect`.
pub async fn greet(stream: TcpStream, config: ClientConfig) -> Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector
        .connect(strongroom_auth::server_name(), stream)
        .await?)
}

/// Shows nothing, whatever the server wants to see.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
