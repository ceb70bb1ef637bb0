//! The key service's own access to the cluster: a client certificate signed with the cluster's authority, since a static
//! pod has no service account.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_yaml_ng::Value;

use super::certificate;

/// The user that the RBAC objects name.
const USER: &str = "strongroom:key-service";
/// As long as kubeadm's own.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Clocks of API servers may be late.
const BACKDATE: Duration = Duration::from_secs(300);
/// A run of bootstrap makes a new one when the old one ends so soon.
pub(super) const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Tells whether a kubeconfig of ours leads to the same server and counts beyond `soon`.
pub(super) fn is_good(text: &str, ca: &str, server: &str, soon: Timestamp) -> bool {
    let parts = || {
        let value: Value = serde_yaml_ng::from_str(text).ok()?;
        let cluster = value.get("clusters")?.get(0)?.get("cluster")?;
        let user = value.get("users")?.get(0)?.get("user")?;
        let data = |value: &Value, name: &str| {
            let text = STANDARD.decode(value.get(name)?.as_str()?).ok()?;
            String::from_utf8(text).ok()
        };
        let same = cluster.get("server")?.as_str()? == server
            && data(cluster, "certificate-authority-data")? == ca;
        let end = certificate::ends(&data(user, "client-certificate-data")?)?;
        Some(same && end > soon)
    };
    parts().unwrap_or(false)
}

/// Makes a key, its certificate, and the file that holds both.
pub(super) fn make(
    ca: &str,
    ca_key: &str,
    server: &str,
    now: Timestamp,
) -> Result<String, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let key = KeyPair::generate()?;
    let certificate = params(now).signed_by(&key, &issuer)?;
    let data = |text: &str| STANDARD.encode(text);
    Ok(format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: strongroom\n\
         clusters:\n\
         - name: cluster\n\
        \x20 cluster:\n\
        \x20   server: {server}\n\
        \x20   certificate-authority-data: {}\n\
         users:\n\
         - name: key-service\n\
        \x20 user:\n\
        \x20   client-certificate-data: {}\n\
        \x20   client-key-data: {}\n\
         contexts:\n\
         - name: strongroom\n\
        \x20 context:\n\
        \x20   cluster: cluster\n\
        \x20   user: key-service\n",
        data(ca),
        data(&certificate.pem()),
        data(&key.serialize_pem()),
    ))
}

fn params(now: Timestamp) -> CertificateParams {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let start = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, USER);
    params.not_before = start - BACKDATE;
    params.not_after = start + LIFETIME;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn kubeconfig_is_good_for_its_server_until_it_is_due() {
        let (ca, key) = authority();
        let now: Timestamp = "2026-11-22T05:00:00Z".parse().unwrap();
        let server = "https://192.0.2.10:6443";
        let text = make(&ca, &key, server, now).unwrap();
        let year = SignedDuration::from_hours(365 * 24);
        let hour = SignedDuration::from_hours(1);
        assert!(is_good(&text, &ca, server, now + year - hour));
        assert!(!is_good(&text, &ca, server, now + year + hour));
        assert!(!is_good(&text, &ca, "https://192.0.2.11:6443", now));
        assert!(!is_good(&text, &authority().0, server, now));
        assert!(!is_good("", &ca, server, now));
    }
}
