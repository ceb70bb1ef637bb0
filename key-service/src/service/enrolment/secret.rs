//! The secret of an invitation: 32 random bytes, as text once, as a hash from then on.

use aws_lc_rs::digest::{Context, SHA256};
use strongroom_core::{InstanceId, NodeIdentity, SecretBytes, SecretHash};
use zeroize::Zeroizing;

const BYTES: usize = 32;

/// A secret before it is given away, or as somebody gave it to us.
pub(super) struct Secret(Zeroizing<[u8; BYTES]>);

impl Secret {
    pub(super) fn draw() -> Self {
        Self(Zeroizing::new(strongroom_crypto::random::public_bytes()))
    }

    /// Reads 64 hexadecimal digits, and nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        hex::decode_to_slice(text, bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// The text for the administrator.
    pub(super) fn into_text(self) -> SecretBytes {
        let mut text = vec![0; 2 * BYTES];
        hex::encode_to_slice(self.0.as_slice(), &mut text).expect("two digits for each byte");
        SecretBytes::new(text)
    }

    /// What the store keeps. No guess is likelier than another, so that one round without salt is enough; it fits only
    /// one identity of one instance.
    pub(super) fn hash(&self, instance: InstanceId, identity: &NodeIdentity) -> SecretHash {
        let mut digest = Context::new(&SHA256);
        digest.update(b"strongroom/enrolment/v1\0");
        digest.update(instance.as_bytes());
        // Role and node have no zero byte.
        digest.update(identity.to_string().as_bytes());
        digest.update(&[0]);
        digest.update(self.0.as_slice());
        let digest = digest.finish();
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::NodeRole;

    use super::*;

    const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

    fn identity(node: &str) -> NodeIdentity {
        NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: node.parse().expect("a node's name"),
        }
    }

    #[test]
    fn text_of_a_secret_gives_the_same_hash() {
        let secret = Secret::draw();
        let hash = secret.hash(INSTANCE, &identity("cp-2"));
        let text = secret.into_text();
        let text = std::str::from_utf8(text.expose()).expect("is text");
        assert_eq!(text.len(), 64);
        let read = Secret::parse(text).expect("was just written");
        assert_eq!(read.hash(INSTANCE, &identity("cp-2")), hash);
    }

    #[test]
    fn secret_fits_one_node_of_one_instance() {
        let secret = Secret::draw();
        let hash = secret.hash(INSTANCE, &identity("cp-2"));
        assert_ne!(secret.hash(INSTANCE, &identity("cp-3")), hash);
        let other = InstanceId::from_bytes([2; 16]);
        assert_ne!(secret.hash(other, &identity("cp-2")), hash);
        assert_ne!(Secret::draw().hash(INSTANCE, &identity("cp-2")), hash);
    }

    #[test]
    fn hash_is_frozen() {
        let secret = Secret::parse(&"ab".repeat(32)).expect("is hexadecimal");
        expect_test::expect!["3f75a6c8eebe74b258ab374cd53045c89eebb6963812c0a1c0a62bdb996f889f"]
            .assert_eq(&hex::encode(secret.hash(INSTANCE, &identity("cp-2"))));
    }

    #[test]
    fn anything_else_is_no_secret() {
        for text in ["", "ab", &"g".repeat(64), &"ab".repeat(33)] {
            assert!(Secret::parse(text).is_none(), "{text:?}");
        }
    }
}
