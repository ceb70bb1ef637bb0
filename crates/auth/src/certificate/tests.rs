//! Each way in which a certificate that verifies is still nobody's identity.

use expect_test::expect;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, SerialNumber,
};

use rustls_pki_types::CertificateDer;
use strongroom_core::{InstanceId, NodeIdentity, NodeRole};

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

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

fn node_params(uris: &[&str]) -> CertificateParams {
    let mut params = params("kms-plugin");
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    params
}

#[test]
fn certificate_of_a_node_gives_role_node_and_serial() {
    let identity = NodeIdentity {
        role: NodeRole::KmsPlugin,
        node: "cp-2.example".parse().unwrap(),
    };
    let uri = node_uri(INSTANCE, &identity);
    assert_eq!(
        uri,
        "strongroom://01010101010101010101010101010101/kms-plugin/cp-2.example"
    );
    let read = node_credential(&certificate(&node_params(&[&uri])), INSTANCE).unwrap();
    assert_eq!((read.identity, read.serial.as_str()), (identity, "ab01ff"));
}

#[test]
fn node_is_no_person_and_no_application() {
    let node = node_params(&["strongroom://01010101010101010101010101010101/kms-plugin/cp-2"]);
    assert!(matches!(refused(&node), IdentityError::OfNode));
    let mut named = params("administrator");
    named.subject_alt_names = vec![SanType::DnsName("administrator".try_into().unwrap())];
    assert!(matches!(refused(&named), IdentityError::OfNode));
}

#[test]
fn only_one_uri_of_this_instance_names_a_node() {
    let ours = "strongroom://01010101010101010101010101010101/kms-plugin/cp-2";
    for uris in [
        vec![],
        vec![ours, ours],
        vec!["strongroom://02020202020202020202020202020202/kms-plugin/cp-2"],
        vec!["strongroom://01010101010101010101010101010101/other/cp-2"],
        vec!["strongroom://01010101010101010101010101010101/kms-plugin/"],
        vec!["strongroom://01010101010101010101010101010101/kms-plugin/cp-2/x"],
        vec!["https://01010101010101010101010101010101/kms-plugin/cp-2"],
    ] {
        let error = node_credential(&certificate(&node_params(&uris)), INSTANCE).unwrap_err();
        assert!(
            matches!(error, IdentityError::NotOfNode),
            "{uris:?}: {error}"
        );
    }
    let administrator = certificate(&params("administrator"));
    let error = node_credential(&administrator, INSTANCE).unwrap_err();
    assert!(matches!(error, IdentityError::NotOfNode), "{error}");
}

#[test]
fn node_with_another_usage_is_refused() {
    let mut params =
        node_params(&["strongroom://01010101010101010101010101010101/kms-plugin/cp-2"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let error = node_credential(&certificate(&params), INSTANCE).unwrap_err();
    assert!(matches!(error, IdentityError::Usage), "{error}");
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
        IdentityError::OfNode,
        IdentityError::NotOfNode,
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    expect![[r#"
        the certificate is not X.509 in DER
        the certificate belongs to an authority, not to a client
        the certificate is not for client authentication alone
        the certificate has 2 common names instead of one
        the common name of the certificate is not acceptable
        the certificate has a subject alternative name, so it belongs to a node
        the certificate does not belong to a node of this instance"#]]
    .assert_eq(&text.join("\n"));
}
