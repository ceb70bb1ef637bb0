//! Issues the certificates that count for a day.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd, string::Ia5String,
};
use rustls::{crypto::aws_lc_rs::sign::any_ecdsa_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use strongroom_auth::{SERVER_NAME, check_common_name, node_uri, not_after};
use strongroom_core::{InstanceId, NodeCertificate, NodeIdentity, SecretBytes, UnixMillis};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    LIFETIME_MAX, PkiError, Source,
    key::Signer,
    request::{self, NodeRequest},
};

/// How far a client's clock may be behind ours when it first sees a new server certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The instance's certificate authority below its root.
#[derive(Debug)]
pub struct Issuer {
    root: CertificateDer<'static>,
    server: Intermediate,
    client: Intermediate,
}

/// A certificate for whoever sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate and its intermediate, PEM.
    pub chain_pem: String,
    /// Its serial number, 32 lower-case hexadecimal digits.
    pub serial: String,
}

/// A certificate for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedForNode {
    /// The certificate and its intermediate, PEM.
    pub chain_pem: String,
    /// What its identity has to know of it.
    pub certificate: NodeCertificate,
}

impl Issuer {
    /// Takes the certificates (DER) that the token signed and the keys (PKCS#8) of the intermediates.
    ///
    /// # Errors
    /// `PkiError::Authority` when any of them cannot be read or does not belong to the others.
    pub fn new(
        root: &[u8],
        server: (&[u8], &SecretBytes),
        client: (&[u8], &SecretBytes),
    ) -> Result<Self, PkiError> {
        let root_certificate = parse(root).map_err(|source| PkiError::Authority {
            certificate: "root",
            source,
        })?;
        Ok(Self {
            server: Intermediate::new("server", &root_certificate, server)?,
            client: Intermediate::new("client", &root_certificate, client)?,
            root: CertificateDer::from(root.to_vec()),
        })
    }

    /// The root, PEM. Clients verify the server with it.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem(&self.root)
    }

    /// The `client` intermediate, DER. The server verifies clients with it.
    #[must_use]
    pub fn client_anchor(&self) -> &[u8] {
        &self.client.certificate
    }

    /// Issues a client certificate with this name for the key of a request (PKCS#10, PEM).
    ///
    /// # Errors
    /// See `PkiError`.
    pub fn sign_client_request(
        &self,
        csr_pem: &str,
        name: &str,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<Signed, PkiError> {
        check_common_name(name).map_err(PkiError::Name)?;
        if !(Duration::from_secs(1)..=LIFETIME_MAX).contains(&lifetime) {
            return Err(PkiError::Lifetime);
        }
        let public_key = request::public_key(csr_pem)?;
        let mut params = leaf(name, ExtendedKeyUsagePurpose::ClientAuth);
        let serial = set_serial(&mut params);
        let certificate = self
            .client
            .issue(params, (now, now.plus(lifetime)), &public_key)?;
        let chain_pem = pem(certificate.der()) + &pem(&self.client.certificate);
        Ok(Signed { chain_pem, serial })
    }

    /// Issues a client certificate for a node's identity and the key of a request (PKCS#10, PEM). It counts for a day.
    ///
    /// # Errors
    /// See `PkiError`.
    pub fn sign_node_request(
        &self,
        request: &NodeRequest,
        instance: InstanceId,
        identity: &NodeIdentity,
        now: UnixMillis,
    ) -> Result<SignedForNode, PkiError> {
        let mut params = leaf(identity.role.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
        let uri = Ia5String::try_from(node_uri(instance, identity)).map_err(PkiError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let serial = set_serial(&mut params);
        // A certificate knows no milliseconds.
        let start = UnixMillis::new(now.as_i64().div_euclid(1000) * 1000);
        let end = start.plus(LIFETIME_MAX);
        let issued = self.client.issue(params, (start, end), &request.key)?;
        Ok(SignedForNode {
            chain_pem: pem(issued.der()) + &pem(&self.client.certificate),
            certificate: NodeCertificate {
                serial,
                key: request.digest,
                not_before: start,
                not_after: end,
            },
        })
    }

    /// SHA-256 of the root certificate in DER: what a node is told to trust.
    #[must_use]
    pub fn root_digest(&self) -> [u8; 32] {
        request::sha256(&self.root)
    }

    /// Issues a certificate as `server_leaf` does, and puts the root behind it, for clients that know only its digest.
    ///
    /// # Errors
    /// See `PkiError`.
    pub fn server_leaf_with_root(&self, now: UnixMillis) -> Result<Arc<CertifiedKey>, PkiError> {
        let leaf = self.server_leaf(now)?;
        let mut chain = leaf.cert.clone();
        chain.push(self.root.clone());
        Ok(Arc::new(CertifiedKey::new(chain, leaf.key.clone())))
    }

    /// Issues a certificate for the server itself, with a new key. It counts for a day of which an hour has passed.
    ///
    /// # Errors
    /// See `PkiError`.
    pub fn server_leaf(&self, now: UnixMillis) -> Result<Arc<CertifiedKey>, PkiError> {
        let (key, pkcs8) = Signer::generate()?;
        let mut params = leaf(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let name = Ia5String::try_from(SERVER_NAME).map_err(PkiError::Sign)?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        set_serial(&mut params);
        let skew = i64::try_from(CLOCK_SKEW.as_millis()).expect("an hour is a small number");
        let start = UnixMillis::new(now.as_i64().saturating_sub(skew));
        let certificate = self
            .server
            .issue(params, (start, start.plus(LIFETIME_MAX)), &key)?;

        let chain = vec![certificate.der().clone(), self.server.certificate.clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.expose()));
        let key = any_ecdsa_type(&key).map_err(PkiError::Tls)?;
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

/// One intermediate with its key.
struct Intermediate {
    name: &'static str,
    certificate: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, Signer>,
    not_after: UnixMillis,
}

impl Intermediate {
    fn new(
        name: &'static str,
        root: &X509Certificate<'_>,
        (certificate, pkcs8): (&[u8], &SecretBytes),
    ) -> Result<Self, PkiError> {
        let unusable = |source| PkiError::Authority {
            certificate: name,
            source,
        };
        let signer = signer_of(root, certificate, pkcs8).map_err(unusable)?;
        let not_after = not_after(certificate).map_err(|error| unusable(error.into()))?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, signer)
            .map_err(|error| unusable(error.into()))?;
        Ok(Self {
            name,
            certificate,
            issuer,
            not_after,
        })
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        (start, end): (UnixMillis, UnixMillis),
        key: &impl PublicKeyData,
    ) -> Result<Certificate, PkiError> {
        if end > self.not_after {
            return Err(PkiError::Ending {
                certificate: self.name,
            });
        }
        let time = |time: UnixMillis| {
            let since = Duration::from_millis(u64::try_from(time.as_i64()).unwrap_or(0));
            date_time_ymd(1970, 1, 1) + since
        };
        (params.not_before, params.not_after) = (time(start), time(end));
        params.signed_by(key, &self.issuer).map_err(PkiError::Sign)
    }
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediate")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The key of an intermediate, once it is sure that root, certificate and key belong together.
fn signer_of(
    root: &X509Certificate<'_>,
    certificate: &[u8],
    pkcs8: &SecretBytes,
) -> Result<Signer, Source> {
    let certificate = parse(certificate)?;
    certificate
        .verify_signature(Some(root.public_key()))
        .map_err(|_| "the root did not sign the certificate")?;
    let signer = Signer::from_pkcs8(pkcs8).ok_or("the private key is not P-256 in PKCS#8")?;
    if certificate.public_key().raw == signer.subject_public_key_info() {
        Ok(signer)
    } else {
        Err("the private key belongs to another certificate".into())
    }
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, Source> {
    match X509Certificate::from_der(certificate)? {
        ([], certificate) => Ok(certificate),
        _ => Err("bytes follow the certificate".into()),
    }
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Draws a serial number: positive and 16 bytes long, whatever the first bits were.
fn set_serial(params: &mut CertificateParams) -> String {
    let mut serial: [u8; 16] = strongroom_crypto::random::public_bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    hex::encode(serial)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
