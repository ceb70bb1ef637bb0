//! Certificates of servers and administrators, issued by the two intermediates of the instance.
//!
//! The certificates of root and intermediates themselves are made in the token; here are only the intermediates' keys.

mod issuer;
mod key;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use issuer::{Issuer, Signed, SignedForNode};
pub use key::IntermediateKey;
pub use request::NodeRequest;
use strongroom_auth::InvalidCommonName;

/// The longest time for which a certificate counts.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a key pair or a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The library makes no key pair.
    #[error("cannot make a key pair")]
    Generate,
    /// A certificate of the certificate authority, or its key, is not what it should be.
    #[error("the {certificate} certificate of this instance, or its private key, cannot be used")]
    Authority {
        /// Which one: `root`, `server` or `client`.
        certificate: &'static str,
        /// What is wrong with it.
        #[source]
        source: Source,
    },
    /// A certificate would count longer than the one that vouches for it.
    #[error("the {certificate} certificate of this instance ends too early to issue others")]
    Ending {
        /// Which one: `server` or `client`.
        certificate: &'static str,
    },
    /// The request is longer than any real one.
    #[error("a certificate request has at most {} bytes", request::LEN_MAX)]
    RequestLength,
    /// The request cannot be read.
    #[error("this is no certificate request (PKCS#10) in PEM")]
    RequestForm,
    /// Whoever asks does not show that the key is his.
    #[error(
        "the certificate request is not signed by its own key, or with an algorithm of the past"
    )]
    RequestSignature,
    /// A key that we do not certify.
    #[error(
        "the key of the certificate request must be P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits"
    )]
    RequestKey,
    /// A name that no certificate gets.
    #[error("the certificate cannot have this name")]
    Name(#[source] InvalidCommonName),
    /// Too short or too long.
    #[error("a certificate counts for 1 second to 24 hours")]
    Lifetime,
    /// The library does not put the certificate together.
    #[error("the certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
    /// The TLS library does not take what was just made.
    #[error("the server's certificate cannot be used for TLS")]
    Tls(#[source] rustls::Error),
}
