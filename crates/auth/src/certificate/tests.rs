//! Each way in which a certificate that verifies is still nobody's identity.

use expect_test::expect;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SerialNumber,
};

use rustls_pki_types::CertificateDer;

use super::*;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[0xab, 0x01, 0xff]));
    params
}

fn certificate(params: &CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

fn refused(params: &CertificateParams) -> IdentityError {
    identity(&certificate(params)).unwrap_err()
}

#[test]
fn client_certificate_gives_name_and_serial() {
    let identity = identity(&certificate(&params(r#"it's "me" \"#))).unwrap();
    assert_eq!(&*identity.name, r#"it's "me" \"#);
    assert_eq!(&*identity.serial, "ab01ff");
}

#[test]
fn end_of_a_certificate_is_read_to_the_second() {
    let mut params = params("a");
    params.not_after = rcgen::date_time_ymd(2001, 9, 9) + std::time::Duration::from_secs(6400);
    assert_eq!(
        not_after(&certificate(&params)).unwrap(),
        UnixMillis::new(1_000_000_000_000)
    );
}

#[test]
fn names_that_look_like_others_are_refused() {
    for name in [
        "",
        "administrator\n",
        "a\0b",
        "аdministrator",
        &"x".repeat(65),
    ] {
        let error = refused(&params(name));
        assert!(matches!(error, IdentityError::Name(_)), "{name:?}: {error}");
    }
}

#[test]
fn number_of_names_is_one() {
    let mut none = params("a");
    none.distinguished_name = DistinguishedName::new();
    none.distinguished_name.push(DnType::OrganizationName, "a");
    assert!(matches!(
        refused(&none),
        IdentityError::NameCount { count: 0 }
    ));

    // rcgen keeps one value of each type, so that the second common name goes in by its number.
    let mut two = params("a");
    let common_name = DnType::CustomDnType(vec![2, 5, 4, 3]);
    two.distinguished_name
        .push(common_name, DnValue::Utf8String("administrator".to_owned()));
    assert!(matches!(
        refused(&two),
        IdentityError::NameCount { count: 2 }
    ));
}

#[test]
fn authority_is_refused() {
    let mut params = params("a");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert!(matches!(refused(&params), IdentityError::Authority));
}

#[test]
fn usage_other_than_client_authentication_alone_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    for usages in [
        vec![],
        vec![ServerAuth],
        vec![Any],
        vec![ClientAuth, ServerAuth],
    ] {
        let mut params = params("a");
        params.extended_key_usages = usages;
        let error = refused(&params);
        assert!(matches!(error, IdentityError::Usage), "{params:?}: {error}");
    }
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let good = certificate(&params("a"));
    let cut = CertificateDer::from(good[..good.len() - 1].to_vec());
    let longer = CertificateDer::from([&good[..], &[0]].concat());
    // A second usage extension: which one counts is anybody's guess.
    let mut twice = params("a");
    let usage = [0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1].to_vec();
    twice.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], usage)];
    for bad in [
        cut,
        longer,
        CertificateDer::from(vec![]),
        certificate(&twice),
    ] {
        let error = identity(&bad).unwrap_err();
        assert!(matches!(error, IdentityError::Malformed), "{error}");
    }
}

#[test]
fn errors_say_whose_fault_it_is() {
    let text: Vec<_> = [
        IdentityError::Malformed,
        IdentityError::Authority,
        IdentityError::Usage,
        IdentityError::NameCount { count: 2 },
        IdentityError::Name(InvalidCommonName),
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    expect![[r#"
        the certificate is not X.509 in DER
        the certificate belongs to an authority, not to a client
        the certificate is not for client authentication alone
        the certificate has 2 common names instead of one
        the common name of the certificate is not acceptable"#]]
    .assert_eq(&text.join("\n"));
}
