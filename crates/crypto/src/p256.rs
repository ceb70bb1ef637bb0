//! Verifying ECDSA P-256 with SHA-256: signatures over KEK records and certificates, made in the token.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

/// All of a P-256 SubjectPublicKeyInfo but its uncompressed point's coordinates. DER leaves no other way to write it, so
/// the length tells this form from every other that the library would read.
const SPKI_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const SPKI_LEN: usize = SPKI_PREFIX.len() + 64;

/// The bytes are not the SubjectPublicKeyInfo of a P-256 key with an uncompressed point on the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no P-256 public key in DER (SubjectPublicKeyInfo)")]
pub struct PublicKeyError;

/// The signature was not made by this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

/// A P-256 public key.
#[derive(Clone)]
pub struct P256PublicKey {
    spki: [u8; SPKI_LEN],
    fixed: ParsedPublicKey,
    der: ParsedPublicKey,
}

impl P256PublicKey {
    /// Reads a DER SubjectPublicKeyInfo; refuses every other curve, algorithm and point format.
    pub fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        let spki: [u8; SPKI_LEN] = der.try_into().map_err(|_| PublicKeyError)?;
        let parse = |algorithm| ParsedPublicKey::new(algorithm, spki).map_err(|_| PublicKeyError);
        Ok(Self {
            spki,
            fixed: parse(&ECDSA_P256_SHA256_FIXED)?,
            der: parse(&ECDSA_P256_SHA256_ASN1)?,
        })
    }

    /// Makes the key from its uncompressed point, as a token gives it: 0x04, then both coordinates.
    pub fn from_point(point: &[u8; 65]) -> Result<Self, PublicKeyError> {
        Self::from_spki(&[&SPKI_PREFIX[..SPKI_PREFIX.len() - 1], point].concat())
    }

    /// Gives the DER SubjectPublicKeyInfo, which is what is pinned.
    pub const fn spki(&self) -> &[u8; SPKI_LEN] {
        &self.spki
    }

    /// Verifies a signature as tokens make it: r and s, 32 bytes each.
    pub fn verify_fixed(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.fixed
            .verify_sig(message, signature)
            .map_err(|_| SignatureError)
    }

    /// Verifies a signature as certificates hold it: a DER sequence of r and s.
    pub fn verify_der(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.der
            .verify_sig(message, signature)
            .map_err(|_| SignatureError)
    }
}

impl PartialEq for P256PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for P256PublicKey {}

impl fmt::Debug for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P256PublicKey(")?;
        self.spki[SPKI_PREFIX.len()..]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
        ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    };

    use super::*;

    fn key_pair(algorithm: &'static EcdsaSigningAlgorithm) -> (EcdsaKeyPair, Vec<u8>) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        (pair, spki)
    }

    #[test]
    fn both_encodings_verify_as_themselves_alone() {
        let (fixed, fixed_spki) = key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (der, der_spki) = key_pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
        let sign = |pair: &EcdsaKeyPair| pair.sign(&SystemRandom::new(), b"record").unwrap();

        let key = P256PublicKey::from_spki(&fixed_spki).unwrap();
        assert_eq!(key.verify_fixed(b"record", sign(&fixed).as_ref()), Ok(()));
        assert_eq!(
            key.verify_der(b"record", sign(&fixed).as_ref()),
            Err(SignatureError)
        );

        let key = P256PublicKey::from_spki(&der_spki).unwrap();
        assert_eq!(key.verify_der(b"record", sign(&der).as_ref()), Ok(()));
        assert_eq!(
            key.verify_fixed(b"record", sign(&der).as_ref()),
            Err(SignatureError)
        );
    }

    #[test]
    fn another_message_key_or_signature_is_refused() {
        let (pair, spki) = key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (_, other) = key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let mut signature = pair
            .sign(&SystemRandom::new(), b"record")
            .unwrap()
            .as_ref()
            .to_vec();
        let verify = |spki: &[u8], message: &[u8], signature: &[u8]| {
            P256PublicKey::from_spki(spki)
                .unwrap()
                .verify_fixed(message, signature)
        };
        assert_eq!(verify(&spki, b"record", &signature), Ok(()));
        assert_eq!(verify(&spki, b"recorc", &signature), Err(SignatureError));
        assert_eq!(verify(&other, b"record", &signature), Err(SignatureError));
        assert_eq!(
            verify(&spki, b"record", &signature[..63]),
            Err(SignatureError)
        );
        signature[40] ^= 1;
        assert_eq!(verify(&spki, b"record", &signature), Err(SignatureError));
    }

    #[test]
    fn only_p256_on_the_curve_in_der_is_a_key() {
        let (_, spki) = key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (_, p384) = key_pair(&ECDSA_P384_SHA384_ASN1_SIGNING);
        let refused = |der: &[u8]| P256PublicKey::from_spki(der) == Err(PublicKeyError);
        assert!(refused(b""));
        assert!(refused(&p384));
        assert!(refused(&spki[SPKI_PREFIX.len() - 1..]), "a bare point");
        assert!(refused(&[&spki[..], &[0]].concat()), "a byte behind it");
        let mut off_the_curve = spki;
        off_the_curve[SPKI_LEN - 1] ^= 1;
        assert!(refused(&off_the_curve));
    }

    #[test]
    fn a_point_makes_the_same_key() {
        let (_, spki) = key_pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let point = spki[SPKI_PREFIX.len() - 1..].try_into().unwrap();
        assert_eq!(
            P256PublicKey::from_point(point),
            P256PublicKey::from_spki(&spki)
        );
    }

    /// RFC 6979, A.2.5: key, message `sample`, SHA-256.
    const RFC_6979_POINT: &str = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
         7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    const RFC_6979_R: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
    const RFC_6979_S: &str = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    /// The order of the group.
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn the_known_answer_of_rfc_6979_verifies_and_its_edges_do_not() {
        let point = hex::decode(RFC_6979_POINT).unwrap();
        let key = P256PublicKey::from_point(&point.try_into().unwrap()).unwrap();
        let verify =
            |r: &str, s: &str| key.verify_fixed(b"sample", &hex::decode([r, s].concat()).unwrap());
        assert_eq!(verify(RFC_6979_R, RFC_6979_S), Ok(()));
        let edges = [
            (RFC_6979_S, RFC_6979_R),
            (ZERO, ZERO),
            (ZERO, RFC_6979_S),
            (RFC_6979_R, ZERO),
            (ORDER, RFC_6979_S),
            (RFC_6979_R, ORDER),
            (RFC_6979_R, ""),
        ];
        for (r, s) in edges {
            assert_eq!(verify(r, s), Err(SignatureError), "{r} {s}");
        }
    }
}
