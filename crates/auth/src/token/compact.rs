//! The compact form of a signed token (RFC 7515): header, payload and signature, each in base64url without padding.
//!
//! The header is read before anything is verified. It picks a key that we already have and says nothing else: members
//! that would bring a key along, or change what is signed, are unknown here and refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{InvalidToken, TOKEN_BYTES_MAX, json};

/// A token taken apart. Nothing of it was verified.
pub(super) struct Compact<'a> {
    pub algorithm: String,
    pub key_id: String,
    /// Header and payload as they were signed.
    pub signed: &'a [u8],
    pub payload: Vec<u8>,
    /// With it, the rest is a credential.
    pub signature: Zeroizing<Vec<u8>>,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidToken::Form)?;
        let (algorithm, key_id) = parse_header(&decode(header)?)?;
        Ok(Self {
            algorithm,
            key_id,
            signed: signed.as_bytes(),
            payload: decode(payload)?,
            signature: Zeroizing::new(decode(signature)?),
        })
    }
}

/// Each text has one form: no padding, no line break, no bits left over. A dot more is no digit.
fn decode(part: &str) -> Result<Vec<u8>, InvalidToken> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) | Err(_) => Err(InvalidToken::Form),
    }
}

fn parse_header(header: &[u8]) -> Result<(String, String), InvalidToken> {
    let header = json::object(header).map_err(|_| InvalidToken::Header)?;
    let (mut algorithm, mut key_id) = (None, None);
    for (name, value) in header {
        match (name.as_str(), value) {
            ("alg", Value::String(value)) => algorithm = Some(value),
            ("kid", Value::String(value)) => key_id = Some(value),
            ("typ", Value::String(value)) if value == "JWT" => {}
            _ => return Err(InvalidToken::Header),
        }
    }
    algorithm.zip(key_id).ok_or(InvalidToken::Header)
}
