//! Changes of secrets: what they write, and what must still hold when they are written.

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{KeyHead, NextVersion, RingId, SecretHead, SecretId};

use super::{codec, index, index::SecretName};
use crate::registry::{
    Change, ChangeError, codec as key_codec, path, records::WrappedVersion, state::State,
};

/// What a change takes for granted about secrets.
#[derive(Debug, Default)]
pub(crate) struct SecretExpectations {
    head: Option<((RingId, SecretId), u64)>,
    new_name: Option<SecretName>,
    /// The ring that has no key for secrets yet.
    without_key: Option<RingId>,
}

impl Change {
    /// A new secret, with its first version or without.
    #[must_use]
    pub fn secret(mut self, head: &SecretHead) -> Self {
        self.secrets.new_name = Some(index::name(head));
        self.put_secret(head)
    }

    /// Another head for a secret; refused when the stored one is no longer that of `seq`.
    #[must_use]
    pub fn secret_head(mut self, head: &SecretHead, seq: u64) -> Self {
        self.secrets.head = Some(((head.ring, head.id), seq));
        self.put_secret(head)
    }

    /// The sealed value of a new version; the value of one that lost its last stage goes with it.
    #[must_use]
    pub fn sealed_value(mut self, next: &NextVersion, sealed: Vec<u8>) -> Self {
        let secret = next.head.id;
        let gone = next.dropped.map(|version| path::sealed(secret, version));
        self.deletes.extend(gone.map(|key| key.as_str().to_owned()));
        self.put(
            path::sealed(secret, next.version),
            &wire::SealedValue { sealed },
        )
    }

    /// The key under which the secrets of its ring are sealed; refused when the ring has one.
    #[must_use]
    pub fn secrets_key(mut self, head: &KeyHead, material: &WrappedVersion) -> Self {
        self.secrets.without_key = Some(head.ring);
        self.put(
            path::head(head.ring, head.id),
            &key_codec::encode_head(head),
        )
        .material(head.id, head.primary().version, material)
    }

    fn put_secret(self, head: &SecretHead) -> Self {
        self.put(path::secret(head.ring, head.id), &codec::encode(head))
    }
}

impl SecretExpectations {
    pub(crate) fn check(&self, state: &State) -> Result<(), ChangeError> {
        let secrets = &state.secrets;
        if let Some(((ring, secret), seq)) = self.head
            && secrets.head(ring, secret).map(|stored| stored.seq) != Some(seq)
        {
            return Err(ChangeError::Stale);
        }
        if let Some(name) = &self.new_name
            && secrets.find(name).is_some()
        {
            return Err(ChangeError::NameTaken(name.name.to_string()));
        }
        if self
            .without_key
            .is_some_and(|ring| secrets.key(ring).is_some())
        {
            return Err(ChangeError::Stale);
        }
        Ok(())
    }
}
