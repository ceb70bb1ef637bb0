//! TLS 1.3 with the key service, for clients: one root, one server name whatever the address, time from a `Clock`.
//!
//! Where there is only the root's digest, the server sends its root along, and that one alone is trusted. Nothing is sent
//! before the server has proved itself.

mod address;
mod bearer;
mod bundle;
mod failure;
mod pin;
mod trust;

use std::{fmt, io, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider_of, verify_tls13_signature},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};
use strongroom_core::Clock;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

pub use address::{InvalidAddress, RemoteAddress};
pub use bearer::{Bearer, TokenError};
pub use bundle::BundleError;
pub use failure::CallFailure;
pub use pin::{NotBelieved, Pin};
pub use trust::{Look, Trust, following};

const SERVER_NAME: &str = "key-service.strongroom.dev";
/// For the connection and its handshake. With several endpoints that swallow every packet the next one still comes
/// within the deadline of a call.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(600);
/// A connection over which nothing comes back is given up after both, so that a node that lost power is left.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// SHA-256 of a root certificate in DER.
pub type RootDigest = [u8; 32];

/// What a client with a certificate of its own shows and trusts.
pub struct Credentials<'a> {
    /// DER.
    pub root: &'a [u8],
    /// PEM.
    pub chain_pem: &'a str,
    /// PEM.
    pub key_pem: &'a str,
}

/// Why no TLS connection can be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or the key is not PEM.
    #[error("certificate or private key cannot be read")]
    Read(#[source] pem::Error),
    /// They are not fit for TLS.
    #[error("certificate and private key cannot be used")]
    Use(#[source] Error),
    /// The root is no certificate that could verify anything.
    #[error("the root certificate cannot be used")]
    Root,
}

/// Shows a certificate of the node, and trusts the root that came with it.
///
/// # Errors
///
/// See [`TlsError`].
pub fn known(
    credentials: &Credentials<'_>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let Credentials {
        root,
        chain_pem,
        key_pem,
    } = credentials;
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Read)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(TlsError::Read)?;
    let config = builder(clock)?
        .with_webpki_verifier(verifier([CertificateDer::from(root.to_vec())])?)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Use)?;
    Ok(finished(config))
}

/// Shows nothing, and trusts the roots in a PEM file.
///
/// # Errors
///
/// See [`TlsError`].
pub fn trusting(roots_pem: &[u8], clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let roots = CertificateDer::pem_slice_iter(roots_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Read)?;
    let config = builder(clock)?
        .with_webpki_verifier(verifier(roots)?)
        .with_no_client_auth();
    Ok(finished(config))
}

fn verifier(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|_| TlsError::Root)?;
    }
    // Refuses to verify by no root at all.
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| TlsError::Root)
}

/// Shows nothing, and trusts the root that has this digest.
///
/// # Errors
///
/// See [`TlsError`].
pub fn pinned(root: RootDigest, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let config = builder(clock)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByRoots(PinnedRoot(root))))
        .with_no_client_auth();
    Ok(finished(config))
}

fn builder(
    clock: Arc<dyn Clock>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Use)
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(provider_of::default_provider())
}

/// The digest by which a root is pinned.
pub fn root_digest(root: &[u8]) -> RootDigest {
    let digest = digest(&SHA256, root);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Connects, and returns the connection once the server has proved itself.
///
/// # Errors
///
/// When nobody answers in time, or not the key service.
pub async fn connect(
    address: &RemoteAddress,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name");
    let greet = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    tokio::time::timeout(CONNECT_TIMEOUT, greet)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// Returns a channel that connects at its first call and again after a loss. Must be called within a runtime.
pub fn channel(address: &RemoteAddress, config: Arc<ClientConfig>) -> Channel {
    let address = address.clone();
    let connector = service_fn(move |_: Uri| {
        let (address, config) = (address.clone(), config.clone());
        async move { connect(&address, config).await.map(TokioIo::new) }
    });
    settings().connect_with_connector_lazy(connector)
}

/// Speaks gRPC over a connection that is there; it is not made again.
///
/// # Errors
///
/// When the other side does not speak HTTP/2.
pub async fn channel_over(
    stream: TlsStream<TcpStream>,
) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = service_fn(move |_: Uri| {
        let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
        async move { stream.map_err(io::Error::from) }
    });
    settings().connect_with_connector(connector).await
}

fn settings() -> Endpoint {
    // TLS is ours, so tonic must see a scheme without it; requests carry the true one.
    Endpoint::from_static("http://key-service.strongroom.dev")
        .origin(Uri::from_static("https://key-service.strongroom.dev"))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// Says at each handshake by which roots a server is verified.
trait Roots: fmt::Debug + Send + Sync {
    /// None is as good as a root that nobody is below.
    fn roots(&self, sent: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>>;
}

/// The root among the certificates that a server sends.
#[derive(Debug)]
struct PinnedRoot(RootDigest);

impl Roots for PinnedRoot {
    fn roots(&self, sent: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let root = pinned_root(sent, &self.0);
        root.map(|root| root.clone().into_owned())
            .into_iter()
            .collect()
    }
}

/// Verifies a server by roots that are chosen then.
#[derive(Debug)]
struct ByRoots<R>(R);

impl<R: Roots> ServerCertVerifier for ByRoots<R> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = |_| Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let verifier = verifier(self.0.roots(intermediates)).map_err(unknown)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        supported_schemes()
    }
}

fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".to_owned()))
}

fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn supported_schemes() -> Vec<SignatureScheme> {
    provider()
        .signature_verification_algorithms
        .supported_schemes()
}

/// Finds the root with a digest among the certificates that a server sent.
pub fn pinned_root<'a, 'b>(
    sent: &'a [CertificateDer<'b>],
    root: &RootDigest,
) -> Option<&'a CertificateDer<'b>> {
    sent.iter().find(|sent| root_digest(sent) == *root)
}

/// Lets rustls ask our clock.
struct ClockTime(Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let milliseconds = u64::try_from(self.0.now().as_i64()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(
            milliseconds,
        )))
    }
}
