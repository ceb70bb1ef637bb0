//! The node's identity: the root that it trusts, its certificate and key, and the key for the next certificate, which is
//! on the disk before anybody is asked to certify it.

mod file;
mod key;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use strongroom_api::strongroom::kms::v1::NodeCertificate;
use strongroom_core::UnixMillis;
use strongroom_runtime::tls::Credentials;

pub use file::{IdentityError, IdentityFolder};
pub use key::{KeyError, PrivateKey};

/// Everything that is on the disk, in one file, so that certificate and key are never of two times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Identity {
    /// The instance that enrolled the node.
    pub instance_id: String,
    /// The node.
    pub node: String,
    /// The root certificate, DER in hexadecimal.
    #[serde(with = "hexadecimal")]
    pub root: Vec<u8>,
    /// The newest certificate.
    pub certificate: Held,
    /// The key for which the next certificate is being asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_key: Option<PrivateKey>,
}

/// A certificate with its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Held {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Milliseconds since 1970.
    pub not_before_ms: i64,
    /// Milliseconds since 1970.
    pub not_after_ms: i64,
    /// The certificate and its intermediate, PEM.
    pub chain_pem: String,
    /// Its key.
    pub key: PrivateKey,
}

impl Held {
    /// Joins the key service's answer with the key that it is for.
    pub fn new(answer: NodeCertificate, key: PrivateKey) -> Self {
        let NodeCertificate {
            chain_pem,
            serial,
            not_before_ms,
            not_after_ms,
            instance_id: _,
        } = answer;
        Self {
            serial,
            not_before_ms,
            not_after_ms,
            chain_pem,
            key,
        }
    }

    /// The moment from which it should be renewed: two thirds of its time.
    pub fn due(&self) -> UnixMillis {
        self.after(2, 3)
    }

    /// The moment from which it should have been renewed, and people are told.
    pub fn overdue(&self) -> UnixMillis {
        self.after(5, 6)
    }

    /// It counts up to this moment.
    pub fn not_after(&self) -> UnixMillis {
        UnixMillis::new(self.not_after_ms)
    }

    fn after(&self, numerator: u32, denominator: u32) -> UnixMillis {
        let start = UnixMillis::new(self.not_before_ms);
        let lifetime: Duration = self.not_after().since(start);
        start.plus(lifetime * numerator / denominator)
    }
}

impl Identity {
    /// What a TLS connection shows and trusts.
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials {
            root: &self.root,
            chain_pem: &self.certificate.chain_pem,
            key_pem: self.certificate.key.expose(),
        }
    }

    /// The same identity with a key for its next certificate; the one that it has, if it has one.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn with_next_key(&self) -> Result<(Arc<Self>, PrivateKey), KeyError> {
        let key = match &self.next_key {
            Some(key) => key.clone(),
            None => PrivateKey::generate()?,
        };
        let next = Self {
            next_key: Some(key.clone()),
            ..self.clone()
        };
        Ok((Arc::new(next), key))
    }

    /// The identity after its renewal.
    #[must_use]
    pub fn renewed(&self, certificate: Held) -> Self {
        Self {
            certificate,
            next_key: None,
            ..self.clone()
        }
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An identity whose certificate nobody would take.
    pub(crate) fn identity(serial: &str) -> Identity {
        Identity {
            instance_id: "0123456789abcdef0123456789abcdef".to_owned(),
            node: "cp-2".to_owned(),
            root: vec![1, 2, 3],
            certificate: Held {
                serial: serial.to_owned(),
                not_before_ms: 0,
                not_after_ms: 24 * 3600 * 1000,
                chain_pem: String::new(),
                key: PrivateKey::generate().unwrap(),
            },
            next_key: None,
        }
    }

    #[test]
    fn a_certificate_is_due_after_two_thirds_of_its_time() {
        let hours = |hours: i64| UnixMillis::new(hours * 3600 * 1000);
        let held = identity("01").certificate;
        assert_eq!(held.due(), hours(16));
        assert_eq!(held.overdue(), hours(20));
        assert_eq!(held.not_after(), hours(24));
    }

    #[test]
    fn the_key_for_the_next_certificate_is_made_once() {
        let (first, key) = identity("01").with_next_key().unwrap();
        let (_, again) = first.with_next_key().unwrap();
        assert_eq!(key.expose(), again.expose());
        assert!(first.renewed(first.certificate.clone()).next_key.is_none());
    }

    #[test]
    fn keys_are_not_in_debug() {
        let (identity, key) = identity("01").with_next_key().unwrap();
        let shown = format!("{identity:?}");
        let secret = key.expose().lines().nth(1).unwrap();
        assert!(
            !shown.contains(secret) && shown.contains("redacted"),
            "{shown}"
        );
    }
}
