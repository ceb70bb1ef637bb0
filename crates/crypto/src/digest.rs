//! Keyed digests of what callers send: equal inputs can be told, but nobody without the key can try guesses against them.

use aws_lc_rs::hmac;
use strongroom_core::{EncryptionContext, KeyUse};

use crate::derive::{Label, derive_hmac_key, hmac as mac_over};
use crate::kek::Kek;

/// What is digested. Digests of different subjects never compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An encryption context in its canonical form.
    Context,
    /// A request, for idempotency.
    Request,
    /// A version of a secret, by its ids alone: what it holds is not digested.
    SecretVersion,
    /// What a pod's volume holds, by ids of versions and not by what they hold.
    Volume,
}

impl Subject {
    const fn byte(self) -> u8 {
        match self {
            Self::Context => 1,
            Self::Request => 2,
            Self::SecretVersion => 3,
            Self::Volume => 4,
        }
    }
}

/// Makes the digests of one instance.
#[derive(Debug)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// Derives the key from the system ring's KEK. Another generation of the KEK gives another key.
    pub fn derive(kek: &Kek) -> Self {
        let instance = kek.place().instance;
        Self(derive_hmac_key(
            kek.key(),
            Label::Digest,
            KeyUse::Fingerprint,
            instance.as_bytes(),
        ))
    }

    /// Computes the digest of some bytes.
    pub fn digest(&self, subject: Subject, bytes: &[u8]) -> [u8; 32] {
        mac_over(&self.0, &[&[subject.byte()], bytes])
    }

    /// Computes the digest of an encryption context.
    pub fn context(&self, context: &EncryptionContext) -> [u8; 32] {
        self.digest(Subject::Context, &context.canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_digest_depends_on_bytes_subject_instance_and_key() {
        let digest = |instance, secret, subject, bytes: &[u8]| {
            DigestKey::derive(&testing::kek(instance, [secret; 32])).digest(subject, bytes)
        };
        let one = digest(1, 1, Subject::Context, b"a");
        assert_eq!(one, digest(1, 1, Subject::Context, b"a"));
        assert_ne!(one, digest(1, 1, Subject::Context, b"b"));
        assert_ne!(one, digest(1, 1, Subject::Request, b"a"));
        assert_ne!(one, digest(2, 1, Subject::Context, b"a"));
        assert_ne!(one, digest(1, 2, Subject::Context, b"a"));
    }

    #[test]
    fn a_digest_is_not_the_plain_hash() {
        let context = EncryptionContext::from_pairs([("user", "alice")]).unwrap();
        let digest = DigestKey::derive(&testing::kek(1, [1; 32])).context(&context);
        assert_ne!(digest, crate::derive::sha256(&context.canonical()));
    }
}
