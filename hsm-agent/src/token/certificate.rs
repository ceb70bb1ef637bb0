//! Certificates of the certificate authority: built here, signed in the token. The caller chooses which of the three,
//! its key and its time, and nothing else.
#![forbid(unsafe_code)]

use std::{cell::Cell, time::Duration};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints,
    PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
    date_time_ymd,
};
use strongroom_core::InstanceId;
use strongroom_crypto::P256PublicKey;
use strongroom_hsm::{CaCertificateRequest, CaSubject, HsmError, Reason, Validity};

use super::{Keys, OperationError, keys, sign, sign::SignError};
use crate::pkcs11::Session;

/// Names below which the server intermediate may issue.
const SERVER_NAMES: &str = "strongroom.dev";
/// The last second of the year 9999, beyond which X.509 has no time.
const LAST_S: i64 = 253_402_300_799;

/// Makes a certificate.
pub(super) fn issue(
    session: &Session,
    keys: &Keys,
    request: &CaCertificateRequest,
) -> Result<Vec<u8>, OperationError> {
    let CaCertificateRequest {
        instance,
        subject,
        validity,
    } = request;
    keys.check_instance(*instance)?;
    let signer = TokenSigner::new(session, &keys.certificate_authority);
    let made = build(&signer, *instance, subject, *validity)?;
    match (made, signer.failure.take()) {
        (Ok(certificate), None) => Ok(certificate.der().to_vec()),
        (_, Some(failure)) => Err(failure.into()),
        (Err(error), None) => Err(invalid(format!("the certificate cannot be made: {error}"))),
    }
}

fn build(
    signer: &TokenSigner<'_>,
    instance: InstanceId,
    subject: &CaSubject,
    validity: Validity,
) -> Result<Result<Certificate, rcgen::Error>, OperationError> {
    let mut root = common(instance, "root", validity)?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let (name, usage, public_key) = match subject {
        CaSubject::Root => return Ok(root.self_signed(signer)),
        CaSubject::ServerIntermediate { public_key } => {
            ("server", ExtendedKeyUsagePurpose::ServerAuth, public_key)
        }
        CaSubject::ClientIntermediate { public_key } => {
            ("client", ExtendedKeyUsagePurpose::ClientAuth, public_key)
        }
    };
    let mut intermediate = common(instance, name, validity)?;
    intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    intermediate.use_authority_key_identifier_extension = true;
    if usage == ExtendedKeyUsagePurpose::ServerAuth {
        intermediate.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(SERVER_NAMES.to_owned())],
            excluded_subtrees: Vec::new(),
        });
    }
    intermediate.extended_key_usages = vec![usage];
    let public_key = subject_key(public_key)?;
    Ok(intermediate.signed_by(&public_key, &Issuer::from_params(&root, signer)))
}

/// What all three have: names of the instance, a random serial number, the right to issue.
fn common(
    instance: InstanceId,
    name: &str,
    validity: Validity,
) -> Result<CertificateParams, OperationError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Strongroom");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Strongroom {name} {instance}"));
    params.serial_number = Some(serial_number());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).ok().filter(|_| seconds <= LAST_S);
        let seconds =
            seconds.ok_or_else(|| invalid("the validity lies outside of 1970 to 9999"))?;
        Ok::<_, OperationError>(date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
    };
    params.not_before = time(validity.not_before_s())?;
    params.not_after = time(validity.not_after_s())?;
    Ok(params)
}

/// Positive and 16 bytes long, whatever was drawn.
fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = strongroom_crypto::random::public_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn subject_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, OperationError> {
    P256PublicKey::from_spki(der).map_err(|error| invalid(error.to_string()))?;
    SubjectPublicKeyInfo::from_der(der).map_err(|error| invalid(error.to_string()))
}

fn invalid(sentence: impl Into<String>) -> OperationError {
    HsmError::new(Reason::InvalidRequest, sentence).into()
}

/// The certificate authority's key as rcgen wants it.
struct TokenSigner<'a> {
    session: &'a Session,
    key: &'a keys::SigningKey,
    point: &'a [u8],
    /// What rcgen's error cannot carry.
    failure: Cell<Option<SignError>>,
}

impl<'a> TokenSigner<'a> {
    fn new(session: &'a Session, key: &'a keys::SigningKey) -> Self {
        let spki = key.public.spki();
        // A SubjectPublicKeyInfo of P-256 ends with the point: one byte of form and two coordinates.
        let point = &spki[spki.len() - 65..];
        Self {
            session,
            key,
            point,
            failure: Cell::new(None),
        }
    }
}

impl PublicKeyData for TokenSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TokenSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match sign::sign(self.session, self.key, message) {
            Ok(signature) => Ok(der_signature(signature.as_bytes())),
            Err(failure) => {
                self.failure.set(Some(failure));
                Err(rcgen::Error::RemoteKeyError)
            }
        }
    }
}

/// Writes r and s as certificates hold them: a DER sequence of two integers.
fn der_signature(signature: &[u8; 64]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let integers = [der_integer(r), der_integer(s)].concat();
    // Two integers of at most 35 bytes: every length fits into one byte.
    [&[0x30, integers.len() as u8], integers.as_slice()].concat()
}

/// Writes an unsigned number without needless zeros, but with one where the first bit would mean a sign.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros.min(number.len() - 1)..];
    let sign: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
    [&[0x02, (sign.len() + digits.len()) as u8], sign, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_shortest_and_positive() {
        for (number, expected) in [
            (vec![0, 0, 1], "020101"),
            (vec![0, 0x80], "02020080"),
            (vec![0x7f, 0xff], "02027fff"),
            (vec![0, 0], "020100"),
        ] {
            assert_eq!(hex::encode(der_integer(&number)), expected);
        }
    }

    #[test]
    fn a_signature_is_a_sequence_of_both() {
        let mut signature = [0; 64];
        signature[31] = 5;
        signature[32] = 0xff;
        let s = format!("0221 00ff{}", "00".repeat(31)).replace(' ', "");
        assert_eq!(
            hex::encode(der_signature(&signature)),
            format!("3026020105{s}")
        );
    }
}
