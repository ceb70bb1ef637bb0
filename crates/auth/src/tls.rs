//! The TLS configurations of the product: TLS 1.3, aws-lc-rs, certificates on both sides (or tokens on the client's), time
//! from a `Clock`.
//!
//! The server trusts the `client` intermediate itself and not the root above it, so that no certificate of the root's other
//! intermediate can be a client. It keeps no sessions: a resumed one would outlive its certificate.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientCertVerifierBuilder, NoServerSessionStorage, ResolvesServerCert,
        VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use strongroom_core::Clock;

/// What every server certificate is for, whatever the address: port-forwards and node addresses verify alike.
pub const SERVER_NAME: &str = "key-service.strongroom.dev";

/// HTTP/2: gRPC knows nothing else.
const ALPN: &[u8] = b"h2";

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What should be trusted is no certificate.
    #[error("the certificate to be trusted cannot be read")]
    Anchor(#[source] rustls::Error),
    /// The verifier refuses what should be trusted.
    #[error("the certificate to be trusted cannot verify others")]
    Verifier(#[source] VerifierBuilderError),
    /// Chain and key do not belong together, or the key is of no known type.
    #[error("certificate and private key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// TLS 1.3 is missing from the provider: a fault of the build.
    #[error("the cryptographic provider has no TLS 1.3")]
    Provider(#[source] rustls::Error),
}

/// The one provider of cryptography, never taken from a process-wide default.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// `SERVER_NAME` as clients pass it to the handshake.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the name is a valid DNS name")
}

/// Makes a server that takes only clients with a certificate issued by `client_intermediate` (DER).
///
/// # Errors
/// See `TlsError`.
pub fn server_tls(
    certificate: Arc<dyn ResolvesServerCert>,
    client_intermediate: &[u8],
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let verifier = clients(client_intermediate)?.build();
    server(certificate, verifier.map_err(TlsError::Verifier)?, clock)
}

/// Makes the same server, which also takes clients without any certificate: those that are about to get their first.
/// A certificate that is shown must be good.
///
/// # Errors
/// See `TlsError`.
pub fn enrolling_server_tls(
    certificate: Arc<dyn ResolvesServerCert>,
    client_intermediate: &[u8],
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let verifier = clients(client_intermediate)?
        .allow_unauthenticated()
        .build();
    server(certificate, verifier.map_err(TlsError::Verifier)?, clock)
}

/// Makes the same server, which asks nobody for a certificate: who calls is said by what each call carries.
///
/// # Errors
/// See `TlsError`.
pub fn token_server_tls(
    certificate: Arc<dyn ResolvesServerCert>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    server(certificate, WebPkiClientVerifier::no_client_auth(), clock)
}

fn clients(client_intermediate: &[u8]) -> Result<ClientCertVerifierBuilder, TlsError> {
    let anchors = Arc::new(anchor(client_intermediate)?);
    Ok(WebPkiClientVerifier::builder_with_provider(
        anchors,
        provider(),
    ))
}

fn server(
    certificate: Arc<dyn ResolvesServerCert>,
    verifier: Arc<dyn ClientCertVerifier>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Makes a client that shows `chain` and takes only servers below `root` (DER). Connect with `server_name()`.
///
/// # Errors
/// See `TlsError`.
pub fn client_tls(
    root: &[u8],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let anchors = Arc::new(anchor(root)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(anchors, provider())
        .build()
        .map_err(TlsError::Verifier)?;
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn anchor(certificate: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut anchors = RootCertStore::empty();
    anchors
        .add(CertificateDer::from(certificate))
        .map_err(TlsError::Anchor)?;
    Ok(anchors)
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

#[cfg(test)]
mod tests;
