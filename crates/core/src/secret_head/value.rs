//! What one version of a secret holds, how it is made of random bytes, and its one form as a plaintext to be sealed.

use std::{collections::BTreeMap, fmt};

use zeroize::Zeroizing;

use super::field::{FIELDS_MAX, FieldKind, FieldName, GeneratedFields, RandomText};
use crate::SecretBytes;

/// Most bytes of all fields together.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A map from field to bytes. Wiped when dropped; `Debug` shows names alone.
pub struct SecretValue(BTreeMap<FieldName, SecretBytes>);

/// Why bytes cannot be a version. The caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No field, or too many.
    #[error("a secret has 1 to {FIELDS_MAX} fields")]
    Count,
    /// More than fits.
    #[error("all fields together have more than {VALUE_BYTES_MAX} bytes")]
    TooLong,
}

/// An opened plaintext is not the form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not the form of a secret's value")]
pub struct MalformedValue;

const PREFIX_LEN: usize = size_of::<u32>();

impl SecretValue {
    /// Takes the bytes of all fields.
    ///
    /// # Errors
    /// See `ValueError`.
    pub fn new(fields: BTreeMap<FieldName, SecretBytes>) -> Result<Self, ValueError> {
        if !(1..=FIELDS_MAX).contains(&fields.len()) {
            return Err(ValueError::Count);
        }
        let bytes: usize = fields.values().map(SecretBytes::len).sum();
        if bytes > VALUE_BYTES_MAX {
            return Err(ValueError::TooLong);
        }
        Ok(Self(fields))
    }

    /// Makes what the fields of a generated secret hold. `fill` fills a buffer with random bytes.
    #[must_use]
    pub fn generate(fields: &GeneratedFields, mut fill: impl FnMut(&mut [u8])) -> Self {
        let made = fields.iter().map(|field| {
            let bytes = match &field.kind {
                FieldKind::Fixed(text) => SecretBytes::copy_from(text.as_bytes()),
                FieldKind::Random(random) => random_text(*random, &mut fill),
            };
            (field.name.clone(), bytes)
        });
        // `GeneratedFields` has the same limits.
        Self(made.collect())
    }

    /// The fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&FieldName, &SecretBytes)> {
        self.0.iter()
    }

    /// The names in their order.
    pub fn names(&self) -> impl Iterator<Item = &FieldName> {
        self.0.keys()
    }

    /// The bytes of a field.
    #[must_use]
    pub fn field(&self, name: &FieldName) -> Option<&SecretBytes> {
        self.0.get(name)
    }

    /// The plaintext to be sealed: name and bytes of each field after their lengths (u32, big endian), ordered by name.
    #[must_use]
    pub fn to_plaintext(&self) -> SecretBytes {
        let length = |(name, bytes): (&FieldName, &SecretBytes)| {
            2 * PREFIX_LEN + name.as_str().len() + bytes.len()
        };
        // As long as it will be: a buffer that grew would leave copies behind.
        let mut plaintext = Vec::with_capacity(self.iter().map(length).sum());
        for (name, bytes) in self.iter() {
            push(&mut plaintext, name.as_str().as_bytes());
            push(&mut plaintext, bytes.expose());
        }
        SecretBytes::new(plaintext)
    }

    /// Reads what `to_plaintext` gave, and nothing else.
    ///
    /// # Errors
    /// `MalformedValue`.
    pub fn from_plaintext(mut plaintext: &[u8]) -> Result<Self, MalformedValue> {
        let mut fields = BTreeMap::new();
        while !plaintext.is_empty() {
            let name = std::str::from_utf8(take(&mut plaintext)?).map_err(|_| MalformedValue)?;
            let name: FieldName = name.parse().map_err(|_| MalformedValue)?;
            let bytes = SecretBytes::copy_from(take(&mut plaintext)?);
            let in_order = fields.last_key_value().is_none_or(|(last, _)| *last < name);
            if !in_order {
                return Err(MalformedValue);
            }
            fields.insert(name, bytes);
        }
        Self::new(fields).map_err(|_| MalformedValue)
    }
}

impl IntoIterator for SecretValue {
    type Item = (FieldName, SecretBytes);
    type IntoIter = std::collections::btree_map::IntoIter<FieldName, SecretBytes>;

    /// Gives the fields away in the order of their names.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")?;
        f.debug_set().entries(self.names()).finish()
    }
}

fn push(plaintext: &mut Vec<u8>, part: &[u8]) {
    let len = u32::try_from(part.len()).expect("names and values are shorter than 64 KiB");
    plaintext.extend_from_slice(&len.to_be_bytes());
    plaintext.extend_from_slice(part);
}

fn take<'a>(plaintext: &mut &'a [u8]) -> Result<&'a [u8], MalformedValue> {
    let (len, rest) = plaintext
        .split_first_chunk::<PREFIX_LEN>()
        .ok_or(MalformedValue)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| MalformedValue)?;
    let (part, rest) = rest.split_at_checked(len).ok_or(MalformedValue)?;
    *plaintext = rest;
    Ok(part)
}

/// Draws bytes until enough of them stand for a character.
fn random_text(text: RandomText, fill: &mut impl FnMut(&mut [u8])) -> SecretBytes {
    let mut characters = Vec::with_capacity(text.length());
    let mut drawn = Zeroizing::new([0; 64]);
    while characters.len() < text.length() {
        fill(&mut *drawn);
        let usable = drawn
            .iter()
            .filter_map(|byte| text.alphabet().character(*byte));
        let missing = text.length() - characters.len();
        characters.extend(usable.take(missing));
    }
    SecretBytes::new(characters)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, collection::vec, prelude::*};

    use super::*;
    use crate::secret_head::field::{Alphabet, GeneratedField};

    fn value(fields: &[(&str, &[u8])]) -> SecretValue {
        let field = |(name, bytes): &(&str, &[u8])| {
            let name = name.parse().expect("a name of a field");
            (name, SecretBytes::copy_from(bytes))
        };
        SecretValue::new(fields.iter().map(field).collect()).expect("is small")
    }

    fn shown(value: &SecretValue) -> Vec<(String, Vec<u8>)> {
        let field =
            |(name, bytes): (&FieldName, &SecretBytes)| (name.to_string(), bytes.expose().to_vec());
        value.iter().map(field).collect()
    }

    proptest! {
        #[test]
        fn a_value_reads_back_what_it_wrote(
            fields in btree_map("[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", vec(any::<u8>(), 0..40), 1..8)
        ) {
            let pairs: Vec<(&str, &[u8])> = fields.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            let before = value(&pairs);
            let after = SecretValue::from_plaintext(before.to_plaintext().expose()).unwrap();
            prop_assert_eq!(shown(&before), shown(&after));
        }

        #[test]
        fn bytes_are_a_value_only_in_the_form_in_which_it_is_written(bytes in vec(0..4u8, 0..40)) {
            if let Ok(value) = SecretValue::from_plaintext(&bytes) {
                let plaintext = value.to_plaintext();
                prop_assert_eq!(plaintext.expose(), &bytes);
            }
        }

        #[test]
        fn a_random_text_has_its_length_and_only_characters_of_its_alphabet(
            length in RandomText::LENGTH_MIN..=RandomText::LENGTH_MAX,
            alphabet in prop::sample::select(Alphabet::ALL.to_vec()),
            seed: u64,
        ) {
            let text = random_text(RandomText::new(length, alphabet).unwrap(), &mut noise(seed));
            prop_assert_eq!(text.len(), length);
            prop_assert!(text.expose().iter().all(|byte| alphabet.characters().contains(byte)));
        }
    }

    /// Bytes that look random, from a generator of Sebastiano Vigna (splitmix64).
    fn noise(mut state: u64) -> impl FnMut(&mut [u8]) {
        move |bytes| {
            for byte in bytes {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                *byte = (mixed >> 56) as u8;
            }
        }
    }

    #[test]
    fn plaintext_is_frozen() {
        let plaintext = value(&[("b", b""), ("a", b"xy")]).to_plaintext();
        assert_eq!(
            plaintext.expose(),
            b"\x00\x00\x00\x01a\x00\x00\x00\x02xy\x00\x00\x00\x01b\x00\x00\x00\x00"
        );
    }

    #[test]
    fn a_field_that_is_there_twice_or_out_of_order_is_malformed() {
        let a = b"\x00\x00\x00\x01a\x00\x00\x00\x00".as_slice();
        let b = b"\x00\x00\x00\x01b\x00\x00\x00\x00".as_slice();
        assert!(SecretValue::from_plaintext(&[a, b].concat()).is_ok());
        for malformed in [[a, a], [b, a]] {
            let read = SecretValue::from_plaintext(&malformed.concat());
            assert_eq!(read.err(), Some(MalformedValue));
        }
    }

    #[test]
    fn a_value_has_limits() {
        let of = |length| {
            let fields = [("a", vec![0; length]), ("b", vec![0; 1])];
            let field = |(name, bytes): (&str, Vec<u8>)| {
                (name.parse().expect("a name"), SecretBytes::new(bytes))
            };
            SecretValue::new(fields.into_iter().map(field).collect()).err()
        };
        assert_eq!(of(VALUE_BYTES_MAX - 1), None);
        assert_eq!(of(VALUE_BYTES_MAX), Some(ValueError::TooLong));
        assert_eq!(
            SecretValue::new(BTreeMap::new()).err(),
            Some(ValueError::Count)
        );
    }

    #[test]
    fn generated_fields_hold_their_text_or_what_was_drawn() {
        let field = |name: &str, kind| GeneratedField {
            name: name.parse().expect("a name"),
            kind,
        };
        let hex = RandomText::new(8, Alphabet::Hex).expect("is long enough");
        let fields = GeneratedFields::new(vec![
            field("username", FieldKind::Fixed("api".to_owned())),
            field("password", FieldKind::Random(hex)),
        ]);
        let fields = fields.expect("are two");
        let mut next = 0;
        let made = SecretValue::generate(&fields, |bytes| {
            for byte in bytes {
                *byte = next;
                next += 1;
            }
        });
        assert_eq!(
            shown(&made),
            [
                ("password".to_owned(), b"01234567".to_vec()),
                ("username".to_owned(), b"api".to_vec()),
            ]
        );
    }

    #[test]
    fn debug_shows_names_and_no_bytes() {
        let shown = format!("{:?}", value(&[("key", b"hunter2")]));
        assert_eq!(shown, r#"SecretValue{FieldName("key")}"#);
    }
}
