//! Fields of a secret: their names, and how the key service makes what they hold.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::VALUE_BYTES_MAX;

/// Most fields of a secret.
pub const FIELDS_MAX: usize = 64;
/// Most bytes of a text that a generated field always holds.
pub const FIXED_TEXT_BYTES_MAX: usize = 4096;
/// Most bytes of a field's name.
const NAME_BYTES_MAX: usize = 253;

/// The name of a field, which is also the name of a file: as a key of a Kubernetes Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(String);

/// The text is no name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a field's name has 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, '.', '_' and '-', is not '.' and does not begin with '..'"
)]
pub struct InvalidFieldName;

impl FieldName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
        // A volume keeps its own files under names that begin with two dots.
        if fits && text != "." && !text.starts_with("..") {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidFieldName)
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why fields cannot be those of a secret. The caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// None, or too many.
    #[error("a secret has 1 to {FIELDS_MAX} fields")]
    Count,
    /// The same name twice.
    #[error("the field {0} is there twice")]
    Duplicate(FieldName),
    /// A random text that is too short to be one, or too long.
    #[error(
        "a random text has {} to {} characters",
        RandomText::LENGTH_MIN,
        RandomText::LENGTH_MAX
    )]
    Length,
    /// A fixed text that is too long.
    #[error("the text of the field {0} has more than {FIXED_TEXT_BYTES_MAX} bytes")]
    FixedText(FieldName),
    /// All fields together are too long.
    #[error("all fields together have more than {VALUE_BYTES_MAX} bytes")]
    TooLong,
}

/// The characters of a random text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// A-Z, a-z, 0-9.
    Alphanumeric,
    /// 0-9, a-f.
    Hex,
    /// The 94 printable characters of ASCII without the space.
    Printable,
}

impl Alphabet {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Alphanumeric, Self::Hex, Self::Printable];

    /// Its characters; a power of two or not, a draw prefers none of them.
    #[must_use]
    pub const fn characters(self) -> &'static [u8] {
        match self {
            Self::Alphanumeric => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => b"0123456789abcdef",
            Self::Printable => {
                b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"
            }
        }
    }

    /// The character that a random byte stands for. Bytes beyond the last whole round of the alphabet stand for none, since
    /// they would prefer its first characters.
    pub(super) fn character(self, random: u8) -> Option<u8> {
        let characters = self.characters();
        let whole = 256 / characters.len() * characters.len();
        let place = usize::from(random);
        (place < whole).then(|| characters[place % characters.len()])
    }
}

/// A random text to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RandomText {
    length: usize,
    alphabet: Alphabet,
}

impl RandomText {
    /// The shortest one.
    pub const LENGTH_MIN: usize = 8;
    /// The longest one.
    pub const LENGTH_MAX: usize = 1024;
    /// The length when none is given.
    pub const LENGTH_DEFAULT: usize = 32;

    /// A text of so many characters.
    ///
    /// # Errors
    /// `Length`.
    pub fn new(length: usize, alphabet: Alphabet) -> Result<Self, FieldsError> {
        if (Self::LENGTH_MIN..=Self::LENGTH_MAX).contains(&length) {
            Ok(Self { length, alphabet })
        } else {
            Err(FieldsError::Length)
        }
    }

    /// How many characters it has.
    #[must_use]
    pub const fn length(self) -> usize {
        self.length
    }

    /// Of which characters.
    #[must_use]
    pub const fn alphabet(self) -> Alphabet {
        self.alphabet
    }
}

/// What the key service puts into a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Always this text; not secret.
    Fixed(String),
    /// Another text for each version.
    Random(RandomText),
}

impl FieldKind {
    fn len(&self) -> usize {
        match self {
            Self::Fixed(text) => text.len(),
            Self::Random(random) => random.length(),
        }
    }
}

/// A field that the key service makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedField {
    /// Its name.
    pub name: FieldName,
    /// What it holds.
    pub kind: FieldKind,
}

/// The fields of a secret that the key service makes; they fit into a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFields(Vec<GeneratedField>);

impl GeneratedFields {
    /// Takes fields that can be those of a secret.
    ///
    /// # Errors
    /// See `FieldsError`.
    pub fn new(fields: Vec<GeneratedField>) -> Result<Self, FieldsError> {
        check_names(fields.iter().map(|field| &field.name))?;
        for GeneratedField { name, kind } in &fields {
            if matches!(kind, FieldKind::Fixed(text) if text.len() > FIXED_TEXT_BYTES_MAX) {
                return Err(FieldsError::FixedText(name.clone()));
            }
        }
        let bytes: usize = fields.iter().map(|field| field.kind.len()).sum();
        if bytes > VALUE_BYTES_MAX {
            return Err(FieldsError::TooLong);
        }
        Ok(Self(fields))
    }

    /// The fields, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &GeneratedField> {
        self.0.iter()
    }
}

/// The names of the fields of a secret that a person sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNames(Vec<FieldName>);

impl FieldNames {
    /// Takes names that can be those of a secret's fields.
    ///
    /// # Errors
    /// `Count` or `Duplicate`.
    pub fn new(names: Vec<FieldName>) -> Result<Self, FieldsError> {
        check_names(names.iter())?;
        Ok(Self(names))
    }

    /// The names, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &FieldName> {
        self.0.iter()
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a FieldName>) -> Result<(), FieldsError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(FieldsError::Duplicate(name.clone()));
        }
    }
    if (1..=FIELDS_MAX).contains(&seen.len()) {
        Ok(())
    } else {
        Err(FieldsError::Count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FieldName {
        text.parse().expect("a name of a field")
    }

    fn fixed(field: &str, text: String) -> GeneratedField {
        GeneratedField {
            name: name(field),
            kind: FieldKind::Fixed(text),
        }
    }

    #[test]
    fn names_are_keys_of_a_kubernetes_secret_and_nothing_else() {
        for good in [
            "password",
            "tls.crt",
            ".dockerconfigjson",
            "A_b-9",
            &"x".repeat(253),
        ] {
            let parsed = good.parse::<FieldName>().map(|name| name.to_string());
            assert_eq!(parsed, Ok(good.to_owned()));
        }
        for bad in [
            "",
            ".",
            "..",
            "..data",
            "a/b",
            "a b",
            "é",
            "a\n",
            &"x".repeat(254),
        ] {
            assert_eq!(bad.parse::<FieldName>(), Err(InvalidFieldName), "{bad:?}");
        }
    }

    #[test]
    fn every_character_of_an_alphabet_stands_for_equally_many_bytes() {
        for alphabet in Alphabet::ALL {
            let characters: Vec<u8> = (0..=u8::MAX)
                .filter_map(|b| alphabet.character(b))
                .collect();
            let times = |wanted: u8| characters.iter().filter(|it| **it == wanted).count();
            let rounds = 256 / alphabet.characters().len();
            for character in alphabet.characters() {
                assert_eq!(times(*character), rounds, "{alphabet:?} {character}");
            }
        }
    }

    #[test]
    fn alphabets_have_the_characters_that_they_promise() {
        let of = |wanted: fn(&u8) -> bool| (0..=u8::MAX).filter(wanted).collect::<Vec<u8>>();
        let sorted = |alphabet: Alphabet| {
            let mut characters = alphabet.characters().to_vec();
            characters.sort_unstable();
            characters
        };
        assert_eq!(
            sorted(Alphabet::Alphanumeric),
            of(u8::is_ascii_alphanumeric)
        );
        assert_eq!(sorted(Alphabet::Printable), of(u8::is_ascii_graphic));
        assert_eq!(sorted(Alphabet::Hex), b"0123456789abcdef");
    }

    #[test]
    fn random_texts_have_limits() {
        for length in [0, 7, 1025] {
            let refused = RandomText::new(length, Alphabet::Hex);
            assert_eq!(refused, Err(FieldsError::Length), "{length}");
        }
        for length in [8, 1024] {
            assert!(RandomText::new(length, Alphabet::Hex).is_ok(), "{length}");
        }
    }

    #[test]
    fn fields_have_limits_and_names_of_their_own() {
        let many = |count| {
            (0..count)
                .map(|number| name(&format!("f{number}")))
                .collect()
        };
        assert_eq!(FieldNames::new(many(0)), Err(FieldsError::Count));
        assert!(FieldNames::new(many(64)).is_ok());
        assert_eq!(FieldNames::new(many(65)), Err(FieldsError::Count));
        assert_eq!(
            FieldNames::new(vec![name("a"), name("a")]),
            Err(FieldsError::Duplicate(name("a")))
        );
    }

    #[test]
    fn fixed_texts_fit_one_by_one_and_all_together() {
        let long = |count| {
            (0..count)
                .map(|n| fixed(&format!("f{n}"), "x".repeat(4096)))
                .collect()
        };
        assert!(GeneratedFields::new(long(16)).is_ok());
        assert_eq!(GeneratedFields::new(long(17)), Err(FieldsError::TooLong));
        assert_eq!(
            GeneratedFields::new(vec![fixed("a", "x".repeat(4097))]),
            Err(FieldsError::FixedText(name("a")))
        );
    }
}
