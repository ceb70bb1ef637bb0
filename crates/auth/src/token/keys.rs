//! The public keys of one issuer, from a JSON Web Key Set (RFC 7517) such as an API server serves it.
//!
//! A key's type fixes its algorithm: what a token says of itself never chooses how it is verified.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::json;

/// How many keys one cluster can have: an old and a new one, while it changes them, and room.
pub const ISSUER_KEYS_MAX: usize = 16;

/// Longest key set that is read.
const SET_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a key.
const NAME_MAX: usize = 256;
/// Below 2048 bits it is too weak, above 8192 too slow.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a key set cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerKeysError {
    /// It is not what an API server serves under `/openid/v1/jwks`.
    #[error(
        "this is no JSON Web Key Set: an object with the list `keys`, each member once, at most {SET_BYTES_MAX} bytes"
    )]
    Form,
    /// No token could be verified with it, or verifying would take too long.
    #[error("a key set has 1 to {ISSUER_KEYS_MAX} keys, this one {count}")]
    Count {
        /// How many it has.
        count: usize,
    },
    /// The keys of a cluster are told apart by name.
    #[error("two keys are named {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// One of the keys cannot be used.
    #[error("key {index} of the set cannot be used")]
    Key {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: KeyError,
    },
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Tokens say by name which key signed them.
    #[error("its `kid` is missing or has not 1 to {NAME_MAX} characters")]
    Name,
    /// Whoever reads the file could make tokens.
    #[error("it is a private or symmetric key, which nobody but its API server may have")]
    Private,
    /// It was made for something else.
    #[error("it is not for signatures: `use` or `key_ops` says otherwise")]
    Use,
    /// No API server signs with such a key.
    #[error("its type is neither RSA nor EC with P-256, P-384 or P-521")]
    Type,
    /// It is said to be for an algorithm that its type does not have here.
    #[error("its `alg` is not {expected}, the one algorithm of its type")]
    Algorithm {
        /// What it would have to be.
        expected: &'static str,
    },
    /// Its numbers cannot be read.
    #[error("`{member}` is missing or not in base64url of the right length")]
    Number {
        /// Which.
        member: &'static str,
    },
    /// Too short to be safe or too long to be quick.
    #[error("an RSA key has 2048 to 8192 bits, this one {bits}")]
    RsaSize {
        /// How many it has.
        bits: usize,
    },
    /// It is not a public key, whatever it is.
    #[error("it is no public key of its type")]
    Invalid,
}

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub struct IssuerKeys(Vec<IssuerKey>);

impl IssuerKeys {
    /// Reads a key set.
    ///
    /// # Errors
    /// See `IssuerKeysError`. One key that cannot be used refuses the set, so that nobody wonders later.
    pub fn from_jwks(set: &[u8]) -> Result<Self, IssuerKeysError> {
        if set.len() > SET_BYTES_MAX {
            return Err(IssuerKeysError::Form);
        }
        let set = json::object(set).map_err(|_| IssuerKeysError::Form)?;
        let list = set.get("keys").and_then(Value::as_array);
        let list = list.ok_or(IssuerKeysError::Form)?;
        let count = list.len();
        if !(1..=ISSUER_KEYS_MAX).contains(&count) {
            return Err(IssuerKeysError::Count { count });
        }
        let mut keys: Vec<IssuerKey> = Vec::with_capacity(count);
        for (index, key) in list.iter().enumerate() {
            let key = key.as_object().ok_or(IssuerKeysError::Form)?;
            let key =
                IssuerKey::parse(key).map_err(|source| IssuerKeysError::Key { index, source })?;
            if keys.iter().any(|other| other.name == key.name) {
                return Err(IssuerKeysError::SameName { name: key.name });
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// The key with this name, if it is for this algorithm.
    pub(super) fn find(&self, name: &str, algorithm: &str) -> Option<&IssuerKey> {
        let mut keys = self.0.iter();
        keys.find(|key| key.name == name && key.algorithm == algorithm)
    }

    /// Whether one key is in both, under whatever name.
    pub(super) fn share_one(&self, others: &Self) -> bool {
        let mut keys = self.0.iter();
        keys.any(|key| others.0.iter().any(|other| key.is_the_same_as(other)))
    }
}

#[derive(Clone)]
pub(super) struct IssuerKey {
    name: String,
    algorithm: &'static str,
    key: ParsedPublicKey,
}

/// Its name and algorithm.
impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {}", self.name, self.algorithm)
    }
}

impl IssuerKey {
    fn parse(key: &Map<String, Value>) -> Result<Self, KeyError> {
        let name = text(key, "kid").filter(|name| (1..=NAME_MAX).contains(&name.len()));
        let name = name.ok_or(KeyError::Name)?.to_owned();
        check_public(key)?;
        check_use(key)?;
        let (algorithm, parsed) = match text(key, "kty") {
            Some("RSA") => ("RS256", parse_rsa(key)?),
            Some("EC") => parse_ec(key)?,
            _ => return Err(KeyError::Type),
        };
        match key.get("alg") {
            Some(said) if said.as_str() != Some(algorithm) => Err(KeyError::Algorithm {
                expected: algorithm,
            }),
            Some(_) | None => Ok(Self {
                name,
                algorithm,
                key: parsed,
            }),
        }
    }

    pub(super) fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(text, signature).is_ok()
    }

    fn is_the_same_as(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.key.as_ref() == other.key.as_ref()
    }
}

fn text<'a>(key: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    key.get(member).and_then(Value::as_str)
}

/// `d` is the private part of every asymmetric type, `k` a symmetric key.
fn check_public(key: &Map<String, Value>) -> Result<(), KeyError> {
    let secret = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    if secret.iter().any(|member| key.contains_key(*member)) {
        Err(KeyError::Private)
    } else {
        Ok(())
    }
}

fn check_use(key: &Map<String, Value>) -> Result<(), KeyError> {
    let signs = key.get("use").is_none_or(|said| said == "sig");
    let verify = |operation: &Value| operation == "verify";
    let verifies = |said: &Value| matches!(said.as_array(), Some(list) if list.iter().any(verify));
    if signs && key.get("key_ops").is_none_or(verifies) {
        Ok(())
    } else {
        Err(KeyError::Use)
    }
}

fn parse_rsa(key: &Map<String, Value>) -> Result<ParsedPublicKey, KeyError> {
    let modulus = number(key, "n")?;
    let exponent = number(key, "e")?;
    let bits = match modulus.first() {
        None | Some(0) => return Err(KeyError::Number { member: "n" }),
        Some(first) => modulus.len() * 8 - first.leading_zeros() as usize,
    };
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    // Odd, at least 3 and at most 32 bits: with 1 every text would be its own signature.
    let plain = matches!(exponent.as_slice(), [first, .., last] if *first != 0 && last % 2 == 1)
        || matches!(exponent.as_slice(), [only] if *only > 1 && only % 2 == 1);
    if !plain || exponent.len() > 4 {
        return Err(KeyError::Number { member: "e" });
    }
    let components = RsaPublicKeyComponents {
        n: modulus,
        e: exponent,
    };
    components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| KeyError::Invalid)
}

fn parse_ec(key: &Map<String, Value>) -> Result<(&'static str, ParsedPublicKey), KeyError> {
    let (algorithm, verification, length): (_, &'static EcdsaVerificationAlgorithm, _) =
        match text(key, "crv") {
            Some("P-256") => ("ES256", &ECDSA_P256_SHA256_FIXED, 32),
            Some("P-384") => ("ES384", &ECDSA_P384_SHA384_FIXED, 48),
            Some("P-521") => ("ES512", &ECDSA_P521_SHA512_FIXED, 66),
            _ => return Err(KeyError::Type),
        };
    let mut point = vec![4];
    for member in ["x", "y"] {
        let coordinate = number(key, member)?;
        if coordinate.len() != length {
            return Err(KeyError::Number { member });
        }
        point.extend(coordinate);
    }
    let parsed = ParsedPublicKey::new(verification, point).map_err(|_| KeyError::Invalid)?;
    Ok((algorithm, parsed))
}

fn number(key: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let decoded = text(key, member).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    decoded.ok_or(KeyError::Number { member })
}

#[cfg(test)]
mod tests;
