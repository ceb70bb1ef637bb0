//! Roots as the ConfigMap `strongroom-ca` has them: certificates in PEM. The first bundle is trusted; a later one counts only
//! if each of its roots is one of those before, or has a certificate for its key beside it that one of those before signed.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// An old and a new root with what links them, and room.
const CERTIFICATES_MAX: usize = 16;

/// Why a bundle is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is not certificates in PEM.
    #[error("it is not 1 to {CERTIFICATES_MAX} certificates in PEM")]
    Form,
    /// There is nothing to trust in it.
    #[error("it has no root: a certificate of an authority that is signed with its own key")]
    NoRoot,
    /// Somebody else made it.
    #[error("it has a root that the trusted ones did not sign")]
    NotSigned,
}

/// Takes the roots of a first bundle.
///
/// # Errors
///
/// See [`BundleError`].
pub(super) fn first(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let certificates = read(pem)?;
    roots(&certificates).map(|roots| roots.into_iter().cloned().collect())
}

/// Takes the roots of a bundle that comes after `trusted` ones.
///
/// # Errors
///
/// See [`BundleError`]; the trusted ones stay then.
pub(super) fn next(
    trusted: &[CertificateDer<'static>],
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let certificates = read(pem)?;
    let roots = roots(&certificates)?;
    let is_believed = |root: &&CertificateDer<'static>| {
        trusted.contains(root) || certificates.iter().any(|link| is_link(link, root, trusted))
    };
    if roots.iter().all(is_believed) {
        Ok(roots.into_iter().cloned().collect())
    } else {
        Err(BundleError::NotSigned)
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BundleError::Form)?;
    let all_parse = certificates.iter().all(|it| parse(it).is_some());
    if all_parse && (1..=CERTIFICATES_MAX).contains(&certificates.len()) {
        Ok(certificates)
    } else {
        Err(BundleError::Form)
    }
}

fn roots<'a>(
    certificates: &'a [CertificateDer<'static>],
) -> Result<Vec<&'a CertificateDer<'static>>, BundleError> {
    let roots: Vec<_> = certificates.iter().filter(|it| is_root(it)).collect();
    if roots.is_empty() {
        Err(BundleError::NoRoot)
    } else {
        Ok(roots)
    }
}

fn is_root(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_some_and(|it| it.is_ca() && is_signed_by(&it, &it))
}

/// Whether one of the trusted roots says in `link` that the root's name and key are an authority's.
fn is_link(
    link: &CertificateDer<'_>,
    root: &CertificateDer<'_>,
    trusted: &[CertificateDer<'_>],
) -> bool {
    let (Some(link), Some(root)) = (parse(link), parse(root)) else {
        return false;
    };
    let says_so = link.is_ca()
        && link.subject().as_raw() == root.subject().as_raw()
        && link.public_key().raw == root.public_key().raw;
    let mut issuers = trusted.iter().filter_map(|issuer| parse(issuer));
    says_so && issuers.any(|issuer| is_signed_by(&link, &issuer))
}

fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate
            .verify_signature(Some(issuer.public_key()))
            .is_ok()
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    rest.is_empty().then_some(parsed)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    /// An authority of a test.
    pub(in crate::tls) struct Authority {
        key: KeyPair,
        params: CertificateParams,
    }

    impl Authority {
        pub(in crate::tls) fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let key = KeyPair::generate().unwrap();
            Self { key, params }
        }

        pub(in crate::tls) fn root(&self) -> String {
            self.params.self_signed(&self.key).unwrap().pem()
        }

        /// What this one says of another.
        pub(in crate::tls) fn link(&self, other: &Self) -> String {
            self.sign(&other.params, &other.key).pem()
        }

        fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
            let issuer = Issuer::from_params(&self.params, &self.key);
            params.signed_by(key, &issuer).unwrap()
        }
    }

    fn refused(trusted: &Authority, bundle: &str) -> Option<BundleError> {
        let trusted = first(trusted.root().as_bytes()).unwrap();
        next(&trusted, bundle.as_bytes()).err()
    }

    #[test]
    fn root_that_the_old_one_signed_follows_it_with_or_without_the_old_one() {
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        for bundle in [
            new.root() + &old.link(&new),
            old.root() + &new.root() + &old.link(&new),
        ] {
            assert_eq!(refused(&old, &bundle), None);
        }
        // What followed is what is trusted from then on.
        let trusted = first(old.root().as_bytes()).unwrap();
        let bundle = new.root() + &old.link(&new);
        let trusted = next(&trusted, bundle.as_bytes()).unwrap();
        assert!(next(&trusted, new.root().as_bytes()).is_ok());
        assert_eq!(
            next(&trusted, old.root().as_bytes()),
            Err(BundleError::NotSigned)
        );
    }

    #[test]
    fn root_of_somebody_else_is_refused_also_beside_the_old_one() {
        let (old, other) = (Authority::new("old"), Authority::new("other"));
        // The same name is not the same key.
        let namesake = Authority::new("old");
        for bundle in [
            other.root(),
            old.root() + &other.root(),
            namesake.root(),
            other.root() + &namesake.link(&other),
            other.root() + &other.link(&other),
        ] {
            assert_eq!(refused(&old, &bundle), Some(BundleError::NotSigned));
        }
    }

    #[test]
    fn link_for_another_key_or_name_says_nothing() {
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        let (namesake, third) = (Authority::new("new"), Authority::new("third"));
        for link in [old.link(&namesake), old.link(&third)] {
            let bundle = new.root() + &link;
            assert_eq!(refused(&old, &bundle), Some(BundleError::NotSigned));
        }
    }

    #[test]
    fn certificate_that_is_no_authoritys_is_no_link_and_no_root() {
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        let mut leaf = new.params.clone();
        leaf.is_ca = IsCa::ExplicitNoCa;
        let leaf = old.sign(&leaf, &new.key).pem();
        let bundle = new.root() + &leaf;
        assert_eq!(refused(&old, &bundle), Some(BundleError::NotSigned));
        assert_eq!(first(leaf.as_bytes()), Err(BundleError::NoRoot));
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let many = Authority::new("one").root().repeat(CERTIFICATES_MAX + 1);
        for text in ["", "nothing", many.as_str()] {
            assert_eq!(first(text.as_bytes()), Err(BundleError::Form), "{text}");
        }
    }
}
