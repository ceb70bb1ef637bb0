//! Names of things: instance, ring, key, key version, KEK generation and secret.
//!
//! The four identifiers are random and never derived from a name, so that whoever reuses a name inherits nothing.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lower-case hexadecimal digits")]
pub struct ParseIdError;

/// The text is not `<epoch>.<number>`, two decimal numbers without leading zeros, the second at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key version is `<epoch>.<number>`, and the number is at least 1")]
pub struct ParseVersionError;

/// Zero where a count starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} start at 1")]
pub struct ZeroError {
    what: &'static str,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = 16;

            /// Takes 16 bytes that the caller drew at random or read back.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Gives the 16 bytes, as formats hold them.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::id::write_hex(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ParseIdError;

            fn from_str(text: &str) -> Result<Self, $crate::ParseIdError> {
                $crate::id::parse_hex(text).map(Self)
            }
        }
    };
}

pub(crate) use random_id;

random_id! {
    /// One installation: everything that `init` made in one act.
    InstanceId
}
random_id! {
    /// A key ring. Its owner is recorded in its head, never in this id.
    RingId
}
random_id! {
    /// A key, across all its versions.
    KeyId
}
random_id! {
    /// A secret, across all its versions.
    SecretId
}

/// Writes all digits as one number: each call of a formatter costs as much as its digits.
pub(crate) fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:032x}", u128::from_be_bytes(*bytes))
}

pub(crate) fn parse_hex(text: &str) -> Result<[u8; 16], ParseIdError> {
    let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| ParseIdError)?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Ok(bytes)
}

fn hex_digit(digit: u8) -> Result<u8, ParseIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseIdError),
    }
}

/// Counts the restores of the store: a restored store gets a new one, so that no version id is made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreEpoch(u32);

impl StoreEpoch {
    /// The epoch of a store that was never restored.
    pub const FIRST: Self = Self(1);

    /// Takes an epoch that was read back.
    pub const fn new(epoch: u32) -> Self {
        Self(epoch)
    }

    /// Gives the number, as formats hold it.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StoreEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! count_from_one {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// The first of its kind.
            pub const FIRST: Self = Self(NonZeroU32::MIN);

            /// Takes a number that is at least 1.
            pub const fn new(number: u32) -> Result<Self, ZeroError> {
                match NonZeroU32::new(number) {
                    Some(number) => Ok(Self(number)),
                    None => Err(ZeroError { what: $what }),
                }
            }

            /// Gives the number, as formats hold it.
            pub const fn get(self) -> u32 {
                self.0.get()
            }

            /// Gives the one that follows, or `None` when the numbers are used up.
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

count_from_one! {
    /// The number of a key version within one store epoch.
    VersionNumber, "version numbers"
}
count_from_one! {
    /// The number of a ring's KEK.
    Generation, "KEK generations"
}

/// A key version: the store epoch in which it was made, and its number there. Its text is `<epoch>.<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId {
    /// The store epoch in which the version was made.
    pub epoch: StoreEpoch,
    /// Its number within that epoch.
    pub number: VersionNumber,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, number } = self;
        write!(f, "{epoch}.{number}")
    }
}

impl FromStr for VersionId {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let (epoch, number) = text.split_once('.').ok_or(ParseVersionError)?;
        let number = VersionNumber::new(decimal(number)?).map_err(|_| ParseVersionError)?;
        Ok(Self {
            epoch: StoreEpoch::new(decimal(epoch)?),
            number,
        })
    }
}

/// Reads a decimal in the one way in which it is written: `parse` alone would take `+1` and `01`.
fn decimal(text: &str) -> Result<u32, ParseVersionError> {
    let number: u32 = text.parse().map_err(|_| ParseVersionError)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(ParseVersionError)
    }
}

/// Where a KEK belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KekPlace {
    /// The instance.
    pub instance: InstanceId,
    /// The ring.
    pub ring: RingId,
    /// Which of the ring's KEKs.
    pub generation: Generation,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_what_it_wrote(bytes: [u8; 16]) {
            let id = KeyId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn a_version_reads_back_what_it_wrote(epoch: u32, number in 1..=u32::MAX) {
            let number = VersionNumber::new(number).unwrap();
            let version = VersionId { epoch: StoreEpoch::new(epoch), number };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn an_id_is_written_as_lower_case_hexadecimal() {
        let id = RingId::from_bytes(*b"\x00\x01\x7f\x80\xff\xabABCDEFGHIJ");
        assert_eq!(id.to_string(), "00017f80ffab4142434445464748494a");
    }

    #[test]
    fn an_id_has_one_text_only() {
        for text in [
            "",
            "0123456789abcdef0123456789abcde",
            "0123456789abcdef0123456789abcdef0",
            "0123456789ABCDEF0123456789abcdef",
            "0x23456789abcdef0123456789abcdef",
            " 123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(text.parse::<InstanceId>(), Err(ParseIdError), "{text:?}");
        }
    }

    #[test]
    fn a_version_has_one_text_only() {
        for text in [
            "",
            "1",
            "1.",
            ".1",
            "1.0",
            "01.1",
            "1.01",
            "+1.1",
            "1.1.1",
            "1. 1",
            "4294967296.1",
        ] {
            assert_eq!(
                text.parse::<VersionId>(),
                Err(ParseVersionError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn versions_sort_by_epoch_first() {
        let version = |text: &str| text.parse::<VersionId>().unwrap();
        assert!(version("1.9") < version("1.10") && version("1.10") < version("2.1"));
    }

    #[test]
    fn counts_start_at_one_and_end() {
        assert_eq!(
            VersionNumber::new(0).unwrap_err().to_string(),
            "version numbers start at 1"
        );
        assert_eq!(Generation::FIRST.next(), Generation::new(2).ok());
        assert_eq!(Generation::new(u32::MAX).unwrap().next(), None);
    }
}
