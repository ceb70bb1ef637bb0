//! A key and a request for its certificate, made where the key stays.

use anyhow::Result;
use rcgen::{CertificateParams, DnType, KeyPair};

/// Returns a P-256 key and a certificate signing request, both PEM.
pub(super) fn certificate_request(name: &str) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok((key.serialize_pem(), params.serialize_request(&key)?.pem()?))
}
