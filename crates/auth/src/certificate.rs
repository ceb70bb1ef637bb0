//! From a client certificate to an identity. The handshake has verified chain and time; this reads what it does not look at.
//!
//! A TLS verifier takes a certificate without extended key usage for one of any usage. Here it has no identity.

mod node;

use strongroom_core::{CertificateIdentity, UnixMillis};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::common_name::{InvalidCommonName, check_common_name};

pub use node::{node_credential, node_uri};

/// Why a certificate is nobody's identity. The fault is with whoever issued it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("the certificate is not X.509 in DER")]
    Malformed,
    /// It may issue others.
    #[error("the certificate belongs to an authority, not to a client")]
    Authority,
    /// Client authentication is not its one usage.
    #[error("the certificate is not for client authentication alone")]
    Usage,
    /// No common name, or several.
    #[error("the certificate has {count} common names instead of one")]
    NameCount {
        /// How many.
        count: usize,
    },
    /// Its name could be taken for another one.
    #[error("the common name of the certificate is not acceptable")]
    Name(#[source] InvalidCommonName),
    /// It names somebody by more than its common name, as certificates of nodes do.
    #[error("the certificate has a subject alternative name, so it belongs to a node")]
    OfNode,
    /// It does not name a node of this instance.
    #[error("the certificate does not belong to a node of this instance")]
    NotOfNode,
}

/// Reads who the person or application with a verified client certificate (DER) is. A node is neither.
///
/// # Errors
/// See `IdentityError`.
pub fn identity(leaf: &[u8]) -> Result<CertificateIdentity, IdentityError> {
    let certificate = parse(leaf)?;
    check_not_authority(&certificate)?;
    check_usage(&certificate)?;
    let alternative = certificate.subject_alternative_name();
    if alternative.map_err(|_| IdentityError::Malformed)?.is_some() {
        return Err(IdentityError::OfNode);
    }
    Ok(CertificateIdentity {
        name: common_name(&certificate)?.into(),
        serial: serial(&certificate).into(),
    })
}

/// Reads until when a certificate (DER) counts. A handshake checks this once; a connection can last longer.
///
/// # Errors
/// `IdentityError::Malformed`.
pub fn not_after(leaf: &[u8]) -> Result<UnixMillis, IdentityError> {
    let seconds = parse(leaf)?.validity().not_after.timestamp();
    Ok(UnixMillis::new(seconds.saturating_mul(1000)))
}

fn parse(leaf: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(leaf) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(IdentityError::Malformed),
    }
}

fn check_not_authority(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| IdentityError::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        Err(IdentityError::Authority)
    } else {
        Ok(())
    }
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| IdentityError::Malformed)?;
    let usage = usage.ok_or(IdentityError::Usage)?.value;
    if usage.client_auth && !usage.any && !usage.server_auth {
        Ok(())
    } else {
        Err(IdentityError::Usage)
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<String, IdentityError> {
    let names: Vec<_> = certificate.subject().iter_common_name().collect();
    let [name] = names.as_slice() else {
        return Err(IdentityError::NameCount { count: names.len() });
    };
    let name = name
        .as_str()
        .map_err(|_| IdentityError::Name(InvalidCommonName))?;
    check_common_name(name).map_err(IdentityError::Name)?;
    Ok(name.to_owned())
}

/// The serial without the zero byte that only marks a DER integer as positive.
fn serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => bytes,
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
