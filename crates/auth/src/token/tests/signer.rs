//! Signs as API servers do.

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(super) struct Signer {
    name: String,
    algorithm: &'static str,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
}

/// One RSA key for all tests: making one takes a while.
pub(super) fn rsa(name: &'static str) -> &'static Signer {
    static KEY: LazyLock<[Signer; 2]> = LazyLock::new(|| {
        ["key", "old"].map(|name| Signer {
            name: name.to_owned(),
            algorithm: "RS256",
            key: Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        })
    });
    KEY.iter().find(|signer| signer.name == name).unwrap()
}

/// The key set of some keys.
pub(super) fn set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn p256(name: &str) -> Self {
        Self::ec(name, "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    pub(super) fn p384(name: &str) -> Self {
        Self::ec(name, "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")
    }

    pub(super) fn p521(name: &str) -> Self {
        Self::ec(name, "ES512", &ECDSA_P521_SHA512_FIXED_SIGNING, "P-521")
    }

    fn ec(
        name: &str,
        algorithm: &'static str,
        signing: &'static EcdsaSigningAlgorithm,
        curve: &'static str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            algorithm,
            key: Key::Ec(EcdsaKeyPair::generate(signing).unwrap(), curve),
        }
    }

    /// The same key under another name.
    pub(super) fn named(&self, name: &str) -> Self {
        let Key::Ec(key, curve) = &self.key else {
            panic!("only keys on curves are copied");
        };
        let pkcs8 = key.to_pkcs8v1().unwrap();
        let copy = EcdsaKeyPair::from_pkcs8(key.algorithm(), pkcs8.as_ref()).unwrap();
        Self {
            name: name.to_owned(),
            algorithm: self.algorithm,
            key: Key::Ec(copy, curve),
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let (kid, alg) = (&self.name, self.algorithm);
        match &self.key {
            Key::Rsa(key) => {
                let public = key.public_key();
                let n = encode(public.modulus().big_endian_without_leading_zero());
                let e = encode(public.exponent().big_endian_without_leading_zero());
                json!({"use": "sig", "kty": "RSA", "kid": kid, "alg": alg, "n": n, "e": e})
            }
            Key::Ec(key, crv) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let (x, y) = (encode(x), encode(y));
                json!({"use": "sig", "kty": "EC", "kid": kid, "crv": crv, "alg": alg, "x": x, "y": y})
            }
        }
    }

    pub(super) fn header(&self) -> String {
        json!({"alg": self.algorithm, "kid": self.name}).to_string()
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), &claims.to_string())
    }

    /// Signs whatever header and claims say.
    pub(super) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = SystemRandom::new();
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Key::Ec(key, _) => {
                let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
        };
        format!("{signed}.{}", encode(signature))
    }

    /// A MAC with the public key as its key: what a verifier takes that lets the header choose.
    pub(super) fn hmac(&self, header: &str, claims: &str) -> String {
        let Key::Rsa(key) = &self.key else {
            panic!("only for RSA");
        };
        let signed = format!("{}.{}", encode(header), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.public_key().as_ref());
        let mac = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", encode(mac))
    }
}
