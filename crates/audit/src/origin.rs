//! Names of logs: `strongroom.dev/<instance>/<replica>`, also the key name of their checkpoints.

use std::{fmt, str::FromStr};

const PREFIX: &str = "strongroom.dev/";
const REPLICA_MAX: usize = 63;

/// Identifies the log of one replica of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    instance: [u8; 16],
    replica: String,
}

/// A text or a replica name that names no log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "log origin is not strongroom.dev/<instance>/<replica> with 32 hexadecimal digits and a \
     replica of 1 to 63 characters of a-z, 0-9, '-' and '.'"
)]
pub struct InvalidOrigin;

impl Origin {
    /// Names the log of `replica`, which is 1 to 63 characters of `a-z0-9.-`.
    pub fn new(instance: [u8; 16], replica: &str) -> Result<Self, InvalidOrigin> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        if replica.is_empty() || replica.len() > REPLICA_MAX || !replica.bytes().all(allowed) {
            return Err(InvalidOrigin);
        }
        Ok(Self {
            instance,
            replica: replica.to_owned(),
        })
    }

    /// The instance's id.
    pub fn instance(&self) -> [u8; 16] {
        self.instance
    }

    /// The replica's name.
    pub fn replica(&self) -> &str {
        &self.replica
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", hex::encode(self.instance), self.replica)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidOrigin)?;
        let (instance, replica) = rest.split_once('/').ok_or(InvalidOrigin)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(instance, &mut bytes).map_err(|_| InvalidOrigin)?;
        let origin = Self::new(bytes, replica)?;
        if origin.to_string() == text {
            Ok(origin)
        } else {
            Err(InvalidOrigin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        let text = "strongroom.dev/000102030405060708090a0b0c0d0e0f/key-service-0";
        let origin: Origin = text.parse().unwrap();
        assert_eq!(origin.to_string(), text);
        assert_eq!(origin.replica(), "key-service-0");
        for wrong in [
            "strongroom.dev/000102030405060708090A0B0C0D0E0F/key-service-0",
            "strongroom.dev/000102030405060708090a0b0c0d0e0f/",
            "strongroom.dev/000102030405060708090a0b0c0d0e0f/a b",
            "strongroom.dev/000102030405060708090a0b0c0d0e0f/a/b",
            "example.org/000102030405060708090a0b0c0d0e0f/a",
        ] {
            assert_eq!(wrong.parse::<Origin>(), Err(InvalidOrigin), "{wrong}");
        }
    }
}
