//! What the issuer makes must pass the verifiers of `strongroom_auth`; what it must not sign is refused by name.
//!
//! The requests under `testdata` were made with OpenSSL 3: rcgen makes no key or signature that weak, and no such wishes.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SignatureAlgorithm,
    SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::{ClientConnection, ServerConnection, sign::SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use strongroom_auth::{client_tls, identity, node_credential, not_after, server_name, server_tls};
use strongroom_core::{Clock, InstanceId, NodeIdentity, NodeRole, UnixMillis};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

/// 2030-01-01.
const NOW: UnixMillis = UnixMillis::new(1_893_456_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Stands still.
struct Still(UnixMillis);

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        self.0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// What `init` makes, with a root key that is not in a token. All of it ends with the year 2030.
struct Instance {
    root: Vec<u8>,
    server: (Vec<u8>, IntermediateKey),
    client: (Vec<u8>, IntermediateKey),
}

impl Instance {
    fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("root", 1), KeyPair::generate().unwrap());
        let root = root.unwrap();
        let intermediate = |name, usage| {
            let key = IntermediateKey::generate().unwrap();
            let public_key = SubjectPublicKeyInfo::from_der(key.public_key_spki()).unwrap();
            let mut params = authority(name, 0);
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&public_key, &root).unwrap();
            (certificate.der().to_vec(), key)
        };
        Self {
            server: intermediate("server", ExtendedKeyUsagePurpose::ServerAuth),
            client: intermediate("client", ExtendedKeyUsagePurpose::ClientAuth),
            root: root.der().to_vec(),
        }
    }

    fn issuer(&self) -> Issuer {
        self.issuer_with(&self.server, &self.client).unwrap()
    }

    fn issuer_with(
        &self,
        server: &(Vec<u8>, IntermediateKey),
        client: &(Vec<u8>, IntermediateKey),
    ) -> Result<Issuer, PkiError> {
        Issuer::new(
            &self.root,
            (&server.0, server.1.pkcs8()),
            (&client.0, client.1.pkcs8()),
        )
    }
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2031, 1, 1));
    params
}

fn request(key: &KeyPair) -> String {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .pem()
        .unwrap()
}

fn request_with(algorithm: &'static SignatureAlgorithm) -> String {
    request(&KeyPair::generate_for(algorithm).unwrap())
}

fn sign(issuer: &Issuer, request: &str) -> Result<Signed, PkiError> {
    issuer.sign_client_request(request, "administrator", HOUR, NOW)
}

fn chain(signed: &Signed) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(signed.chain_pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// Whether a client with this certificate and the server of this issuer accept each other.
fn accepted(issuer: &Issuer, signed: &Signed, key: &KeyPair, now: UnixMillis) -> bool {
    let clock: Arc<dyn Clock> = Arc::new(Still(now));
    let leaf = issuer.server_leaf(now).unwrap();
    let resolver = Arc::new(SingleCertAndKey::from((*leaf).clone()));
    let server = server_tls(resolver, issuer.client_anchor(), clock.clone()).unwrap();
    let root = CertificateDer::from_pem_slice(issuer.root_pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let client = client_tls(&root, chain(signed), key, clock).unwrap();

    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), server_name()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    true
}

#[test]
fn administrator_and_server_accept_each_other_for_the_lifetime() {
    let issuer = Instance::new().issuer();
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let signed = sign(&issuer, &request(&key)).unwrap();
        assert!(accepted(&issuer, &signed, &key, NOW), "{algorithm:?}");
        assert!(
            accepted(&issuer, &signed, &key, NOW.plus(HOUR)),
            "{algorithm:?}"
        );
        let late = NOW.plus(HOUR + Duration::from_secs(1));
        assert!(!accepted(&issuer, &signed, &key, late), "{algorithm:?}");
    }
}

#[test]
fn certificate_has_the_name_and_serial_that_are_recorded() {
    let issuer = Instance::new().issuer();
    let request = request_with(&PKCS_ECDSA_P256_SHA256);
    let (first, second) = (
        sign(&issuer, &request).unwrap(),
        sign(&issuer, &request).unwrap(),
    );
    let read = identity(&chain(&first)[0]).unwrap();
    assert_eq!(
        (&*read.name, &*read.serial),
        ("administrator", first.serial.as_str())
    );
    assert_eq!(first.serial.len(), 32);
    assert_ne!(first.serial, second.serial);
}

fn plugin_of(node: &str) -> NodeIdentity {
    NodeIdentity {
        role: NodeRole::KmsPlugin,
        node: node.parse().unwrap(),
    }
}

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

#[test]
fn certificate_of_a_node_names_instance_role_and_node_for_a_day() {
    let issuer = Instance::new().issuer();
    let key = KeyPair::generate().unwrap();
    let asked = NodeRequest::parse(&request(&key)).unwrap();
    let identity_of = plugin_of("cp-2.example");
    let odd = UnixMillis::new(NOW.as_i64() + 999);
    let signed = issuer
        .sign_node_request(&asked, INSTANCE, &identity_of, odd)
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(signed.chain_pem.as_bytes()).unwrap();
    let read = node_credential(&leaf, INSTANCE).unwrap();
    assert_eq!(read.identity, identity_of);
    assert_eq!(read.serial, signed.certificate.serial);
    assert_eq!(signed.certificate.not_before, NOW);
    assert_eq!(signed.certificate.not_after, NOW.plus(LIFETIME_MAX));
    assert_eq!(not_after(&leaf).unwrap(), signed.certificate.not_after);
    assert_eq!(&signed.certificate.key, asked.key_digest());
    assert!(identity(&leaf).is_err(), "it is nobody on the native port");
    let other = InstanceId::from_bytes([2; 16]);
    assert!(node_credential(&leaf, other).is_err());
}

#[test]
fn one_key_has_one_digest_whatever_the_request_says() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let digest = |key| *NodeRequest::parse(&request(key)).unwrap().key_digest();
    assert_eq!(digest(&key), digest(&key));
    assert_ne!(digest(&key), digest(&other));
}

#[test]
fn root_follows_the_server_where_only_its_digest_is_known() {
    let instance = Instance::new();
    let issuer = instance.issuer();
    let leaf = issuer.server_leaf_with_root(NOW).unwrap();
    assert_eq!(leaf.cert.len(), 3);
    assert_eq!(leaf.cert[2].to_vec(), instance.root);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &instance.root);
    assert_eq!(issuer.root_digest(), digest.as_ref());
}

#[test]
fn pem_has_lines_of_64_characters() {
    let pem = Instance::new().issuer().root_pem();
    let (first, rest) = pem.split_once('\n').unwrap();
    assert_eq!(first, "-----BEGIN CERTIFICATE-----");
    let body: Vec<_> = rest
        .lines()
        .take_while(|line| !line.starts_with('-'))
        .collect();
    let (last, full) = body.split_last().unwrap();
    assert!(
        full.iter().all(|line| line.len() == 64) && last.len() <= 64,
        "{pem}"
    );
}

#[test]
fn wishes_of_a_request_are_ignored() {
    let issuer = Instance::new().issuer();
    let signed = sign(&issuer, include_str!("testdata/rsa-2048-with-wishes.pem")).unwrap();
    let leaf = chain(&signed).remove(0);
    let (_, certificate) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=administrator");
    let mut extensions: Vec<_> = certificate
        .extensions()
        .iter()
        .map(|extension| extension.oid.to_id_string())
        .collect();
    extensions.sort();
    // Identifier of the key, key usage, basic constraints, identifier of the issuer's key, extended key usage.
    assert_eq!(
        extensions,
        [
            "2.5.29.14",
            "2.5.29.15",
            "2.5.29.19",
            "2.5.29.35",
            "2.5.29.37"
        ]
    );
    assert!(!certificate.is_ca());
    assert!(identity(&leaf).is_ok(), "for client authentication alone");
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    let issuer = Instance::new().issuer();
    let p521 = request_with(&PKCS_ECDSA_P521_SHA512);
    for request in [include_str!("testdata/rsa-1024.pem"), &p521] {
        let error = sign(&issuer, request).unwrap_err();
        assert!(matches!(error, PkiError::RequestKey), "{error}");
    }
}

#[test]
fn request_that_its_own_key_did_not_sign_is_refused() {
    let issuer = Instance::new().issuer();
    let sound = request_with(&PKCS_ED25519);
    let mut der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(sound.as_bytes())
        .unwrap()
        .to_vec();
    *der.last_mut().unwrap() ^= 1;
    let changed = pem_of(&der);
    for request in [changed.as_str(), include_str!("testdata/rsa-2048-sha1.pem")] {
        let error = sign(&issuer, request).unwrap_err();
        assert!(matches!(error, PkiError::RequestSignature), "{error}");
    }
}

fn pem_of(der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn text_that_is_no_request_is_refused() {
    let issuer = Instance::new().issuer();
    let certificate = issuer.root_pem();
    let key = KeyPair::generate().unwrap().serialize_pem();
    for text in ["", "nonsense", &certificate, &key, &pem_of(&[0x30, 0])] {
        let error = sign(&issuer, text).unwrap_err();
        assert!(matches!(error, PkiError::RequestForm), "{text:?}: {error}");
    }
    let long = request_with(&PKCS_ED25519) + &" ".repeat(16 * 1024);
    assert!(matches!(sign(&issuer, &long), Err(PkiError::RequestLength)));
}

#[test]
fn names_and_lifetimes_have_limits() {
    let issuer = Instance::new().issuer();
    let request = request_with(&PKCS_ED25519);
    let sign = |name, lifetime| issuer.sign_client_request(&request, name, lifetime, NOW);
    for name in ["", "a\nb", "é"] {
        assert!(
            matches!(sign(name, HOUR), Err(PkiError::Name(_))),
            "{name:?}"
        );
    }
    for lifetime in [
        Duration::ZERO,
        Duration::from_millis(999),
        LIFETIME_MAX + HOUR,
    ] {
        assert!(
            matches!(sign("a", lifetime), Err(PkiError::Lifetime)),
            "{lifetime:?}"
        );
    }
    let signed = sign("a", LIFETIME_MAX).unwrap();
    assert_eq!(
        not_after(&chain(&signed)[0]).unwrap(),
        NOW.plus(LIFETIME_MAX)
    );
}

#[test]
fn server_certificate_counts_for_a_day_in_all() {
    let leaf = Instance::new().issuer().server_leaf(NOW).unwrap();
    let (_, certificate) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
    let validity = certificate.validity();
    assert_eq!(
        certificate.raw_serial().len(),
        16,
        "drawn, not derived from the key"
    );
    let seconds = |time: &x509_parser::time::ASN1Time| time.timestamp() - NOW.as_i64() / 1000;
    assert_eq!(
        (seconds(&validity.not_before), seconds(&validity.not_after)),
        (-3600, 23 * 3600)
    );
}

#[test]
fn nothing_outlives_its_intermediate() {
    let issuer = Instance::new().issuer();
    let request = request_with(&PKCS_ED25519);
    // Half an hour before the intermediates end.
    let late = UnixMillis::new(1_924_992_000_000 - 1_800_000);
    let error = issuer
        .sign_client_request(&request, "a", HOUR, late)
        .unwrap_err();
    assert!(
        matches!(
            error,
            PkiError::Ending {
                certificate: "client"
            }
        ),
        "{error}"
    );
    let error = issuer.server_leaf(late).unwrap_err();
    assert!(
        matches!(
            error,
            PkiError::Ending {
                certificate: "server"
            }
        ),
        "{error}"
    );
}

#[test]
fn parts_of_another_instance_are_refused_by_name() {
    let (ours, other) = (Instance::new(), Instance::new());
    let swapped_key = (ours.client.0.clone(), IntermediateKey::generate().unwrap());
    let check = |issuer: Result<Issuer, PkiError>, expected: &str| match issuer.unwrap_err() {
        PkiError::Authority {
            certificate,
            source,
        } => {
            assert_eq!(format!("{certificate}: {source}"), expected);
        }
        error => panic!("{error}"),
    };
    check(
        ours.issuer_with(&other.server, &ours.client),
        "server: the root did not sign the certificate",
    );
    check(
        ours.issuer_with(&ours.server, &other.client),
        "client: the root did not sign the certificate",
    );
    check(
        ours.issuer_with(&ours.server, &swapped_key),
        "client: the private key belongs to another certificate",
    );
}

#[test]
fn private_keys_are_not_in_debug() {
    let instance = Instance::new();
    let shown = format!("{:?} {:?}", instance.issuer(), instance.client.1);
    let debug = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    assert!(
        !shown.contains(&debug(&instance.client.1.pkcs8().expose()[40..48])),
        "{shown}"
    );
    assert!(shown.contains("SecretBytes(redacted)"), "{shown}");
}
