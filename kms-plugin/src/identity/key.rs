//! Keys of the node's certificates: made here, never sent, wiped when dropped.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Why there is no key, or no request for it.
#[derive(Debug, thiserror::Error)]
#[error("the key of the node's certificate cannot be used")]
pub struct KeyError(#[source] rcgen::Error);

/// A P-256 key as PKCS#8 in PEM.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<String>);

impl PrivateKey {
    /// Draws a key.
    ///
    /// # Errors
    ///
    /// When the library makes none.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate().map_err(KeyError)?;
        Ok(Self(Zeroizing::new(pair.serialize_pem())))
    }

    /// A request for a certificate (PKCS#10 in PEM) that names nobody: the key service knows who asks.
    ///
    /// # Errors
    ///
    /// When the key is none.
    pub fn request(&self) -> Result<String, KeyError> {
        let pair = KeyPair::from_pem(&self.0).map_err(KeyError)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&pair).map_err(KeyError)?;
        request.pem().map_err(KeyError)
    }

    /// The PEM text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}
