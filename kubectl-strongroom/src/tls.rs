//! The client's side of TLS: version 1.3 only, one pinned root, one fixed server name.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{AlertDescription, ClientConfig, RootCertStore, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{
    CertificateDer, DnsName, PrivateKeyDer, ServerName,
    pem::{self, PemObject},
};

/// The name in the key service's certificate, whatever its address.
pub const SERVER_NAME: &str = "key-service.strongroom.dev";

/// Why no TLS connection can be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {what} {path:?}")]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{what} {path:?} is not usable")]
    Use {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{what} {path:?} holds no certificate")]
    Empty { what: &'static str, path: PathBuf },
    #[error("the root that the key service published is not usable")]
    Published,
    #[error("TLS 1.3 is not available")]
    Version(#[source] rustls::Error),
}

const ROOT: &str = "the root certificate";
const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the private key";

/// What the server's certificate must lead to.
pub(crate) enum TrustedRoot {
    File(PathBuf),
    Pem(String),
}

impl TrustedRoot {
    fn load(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::File(path) => {
                for root in load_certificates(ROOT, path)? {
                    roots.add(root).map_err(|source| TlsError::Use {
                        what: ROOT,
                        path: path.clone(),
                        source,
                    })?;
                }
            }
            Self::Pem(text) => {
                let parsed: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(text.as_bytes()).collect();
                for root in parsed.map_err(|_| TlsError::Published)? {
                    roots.add(root).map_err(|_| TlsError::Published)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(TlsError::Published);
        }
        Ok(roots)
    }
}

/// Loads the files, and makes a client of them that trusts `root` alone.
pub(crate) fn client_config(
    root: &TrustedRoot,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig, TlsError> {
    let roots = root.load()?;
    let chain = load_certificates(CERTIFICATE, certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read {
        what: KEY,
        path: key.to_owned(),
        source,
    })?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Version)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|source| TlsError::Use {
            what: KEY,
            path: key.to_owned(),
            source,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn load_certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(read)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

/// The name that a server must prove.
pub(crate) fn server_name() -> ServerName<'static> {
    DnsName::try_from(SERVER_NAME)
        .map(ServerName::DnsName)
        .expect("the constant is a DNS name")
}

/// Finds the alert by which a server refuses the client's certificate.
pub(crate) fn certificate_alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) if refuses_certificate(*alert) => Some(*alert),
        _ => None,
    }
}

const fn refuses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

/// What such an alert says about the certificate.
pub(crate) const fn refusal(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "it has expired or is not valid yet",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::UnknownCA => "another authority issued it",
        AlertDescription::UnsupportedCertificate => "it is not for clients",
        _ => "it is not valid for this instance",
    }
}
