//! The encryption context: public pairs that a ciphertext is bound to, and their one canonical form.
//!
//! Values are public to whoever holds the ciphertext, but they may name people: `Debug` shows the keys alone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Why pairs do not make a context. The caller sent them, and it is the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The same key came twice.
    #[error("the context has the key {key:?} twice")]
    Duplicate {
        /// The key that came twice.
        key: String,
    },
    /// A key without a character.
    #[error("the context has an empty key")]
    EmptyKey,
    /// More bytes than fit.
    #[error(
        "the context is longer than {} bytes",
        EncryptionContext::MAX_CANONICAL_LEN
    )]
    TooLong,
}

/// Pairs that a message is bound to. Whoever opens it names the same pairs, in any order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptionContext {
    pairs: BTreeMap<String, Vec<u8>>,
    canonical_len: usize,
}

impl EncryptionContext {
    /// The longest canonical form in bytes: pairs and their length prefixes.
    pub const MAX_CANONICAL_LEN: usize = 8 * 1024;

    /// Makes a context without pairs.
    pub const fn new() -> Self {
        Self {
            pairs: BTreeMap::new(),
            canonical_len: 0,
        }
    }

    /// Makes a context from pairs in any order.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ContextError>
    where
        K: Into<String>,
        V: Into<Vec<u8>>,
    {
        pairs
            .into_iter()
            .try_fold(Self::new(), |context, (key, value)| {
                context.with(key, value)
            })
    }

    /// Adds a pair.
    pub fn with(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) -> Result<Self, ContextError> {
        let (key, value) = (key.into(), value.into());
        if key.is_empty() {
            return Err(ContextError::EmptyKey);
        }
        let canonical_len = self.canonical_len + 2 * PREFIX_LEN + key.len() + value.len();
        match self.pairs.entry(key) {
            Entry::Occupied(pair) => Err(ContextError::Duplicate {
                key: pair.key().clone(),
            }),
            Entry::Vacant(_) if canonical_len > Self::MAX_CANONICAL_LEN => {
                Err(ContextError::TooLong)
            }
            Entry::Vacant(place) => {
                place.insert(value);
                self.canonical_len = canonical_len;
                Ok(self)
            }
        }
    }

    /// Gives the one byte string of these pairs: sorted by key bytes, each key and value after its length (u32, big
    /// endian). No two contexts have the same one.
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.canonical_len);
        for (key, value) in &self.pairs {
            push(&mut bytes, key.as_bytes());
            push(&mut bytes, value);
        }
        bytes
    }

    /// Lists the pairs in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Tells whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

const PREFIX_LEN: usize = size_of::<u32>();

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    let len =
        u32::try_from(part.len()).expect("a part is shorter than the whole, which is bounded");
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(part);
}

impl fmt::Debug for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionContext")?;
        f.debug_set().entries(self.pairs.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
        btree_map(".{1,12}", vec(any::<u8>(), 0..12), 0..6)
    }

    proptest! {
        #[test]
        fn order_does_not_matter(pairs in pairs()) {
            let forwards = EncryptionContext::from_pairs(pairs.clone()).unwrap();
            let backwards = EncryptionContext::from_pairs(pairs.into_iter().rev()).unwrap();
            prop_assert_eq!(forwards.canonical(), backwards.canonical());
        }

        #[test]
        fn different_pairs_have_different_forms(one in pairs(), other in pairs()) {
            let same = one == other;
            let canonical = |pairs| EncryptionContext::from_pairs(pairs).unwrap().canonical();
            prop_assert_eq!(canonical(one) == canonical(other), same);
        }
    }

    #[test]
    fn pairs_sort_by_bytes_behind_their_lengths() {
        let context = EncryptionContext::from_pairs([("b", "x"), ("Z", "")]).unwrap();
        assert_eq!(
            context.canonical(),
            b"\x00\x00\x00\x01Z\x00\x00\x00\x00\x00\x00\x00\x01b\x00\x00\x00\x01x"
        );
        assert_eq!(EncryptionContext::new().canonical(), b"");
    }

    #[test]
    fn moving_a_byte_between_key_and_value_changes_the_form() {
        let canonical = |key, value| {
            EncryptionContext::from_pairs([(key, value)])
                .unwrap()
                .canonical()
        };
        assert_ne!(canonical("ab", "c"), canonical("a", "bc"));
    }

    #[test]
    fn a_duplicate_is_refused_by_name() {
        let error = EncryptionContext::from_pairs([("pod", "a"), ("pod", "a")]).unwrap_err();
        assert_eq!(error, ContextError::Duplicate { key: "pod".into() });
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(
            EncryptionContext::from_pairs([("", "a")]),
            Err(ContextError::EmptyKey)
        );
    }

    #[test]
    fn the_limit_counts_the_length_prefixes() {
        let value_of = |len: usize| vec![0u8; len];
        let fits = EncryptionContext::MAX_CANONICAL_LEN - 2 * PREFIX_LEN - 1;
        let context = EncryptionContext::from_pairs([("k", value_of(fits))]).unwrap();
        assert_eq!(
            context.canonical().len(),
            EncryptionContext::MAX_CANONICAL_LEN
        );
        let error = EncryptionContext::from_pairs([("k", value_of(fits + 1))]).unwrap_err();
        assert_eq!(error, ContextError::TooLong);
        assert_eq!(context.with("l", ""), Err(ContextError::TooLong));
    }

    #[test]
    fn debug_shows_keys_but_no_values() {
        let context = EncryptionContext::from_pairs([("user", "alice")]).unwrap();
        assert_eq!(format!("{context:?}"), r#"EncryptionContext{"user"}"#);
    }
}
