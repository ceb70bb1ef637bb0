//! A root with its `server` and `client` intermediates, as an instance has them.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    date_time_ymd,
};
use rustls::{
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{SERVER_NAME, provider};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The day on which every authority of the tests starts: 2030-01-01.
pub(super) const START_MS: i64 = 1_893_456_000_000;

/// Chain and key of one end.
pub(super) struct Credentials {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Credentials {
    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        let key =
            CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider()).unwrap();
        Arc::new(SingleCertAndKey::from(key))
    }
}

/// Which intermediate issues.
#[derive(Clone, Copy)]
pub(super) enum From {
    Server,
    Client,
    /// Without any limits, as no instance has one.
    Other,
}

/// What a leaf says that it is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Usage {
    Server,
    Client,
    Both,
}

/// A certificate to be issued.
pub(super) struct Leaf {
    pub(super) from: From,
    pub(super) usage: Usage,
    pub(super) name: &'static str,
    /// First and last day, counted from the start.
    pub(super) days: (i64, i64),
}

impl Leaf {
    pub(super) const fn server() -> Self {
        Self {
            from: From::Server,
            usage: Usage::Server,
            name: SERVER_NAME,
            days: (0, 2),
        }
    }

    pub(super) const fn client(name: &'static str) -> Self {
        Self {
            from: From::Client,
            usage: Usage::Client,
            name,
            days: (0, 2),
        }
    }
}

pub(super) struct Authority {
    root: Issuer,
    server: Issuer,
    client: Issuer,
    other: Issuer,
}

impl Authority {
    pub(super) fn new() -> Self {
        let params = |name, below| {
            let mut params = named(name, (-99, 99));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let root = Issuer::self_signed(params("root", 1), key()).unwrap();
        let intermediate = |params| Issuer::signed_by(params, key(), &root).unwrap();
        let mut server = params("server", 0);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("strongroom.dev".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let mut client = params("client", 0);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self {
            server: intermediate(server),
            client: intermediate(client),
            other: intermediate(params("other", 0)),
            root,
        }
    }

    pub(super) fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    pub(super) fn client_intermediate(&self) -> CertificateDer<'static> {
        self.client.der().clone()
    }

    pub(super) fn issue(&self, leaf: Leaf) -> Credentials {
        let Leaf {
            from,
            usage,
            name,
            days,
        } = leaf;
        let issuer = match from {
            From::Server => &self.server,
            From::Client => &self.client,
            From::Other => &self.other,
        };
        let mut params = named(name, days);
        params.extended_key_usages = match usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
        };
        if name.contains('.') {
            params.subject_alt_names = CertificateParams::new([name.to_owned()])
                .unwrap()
                .subject_alt_names;
        }
        let key = key();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Credentials {
            chain: vec![certificate.der().clone(), issuer.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn named(name: &str, (first, last): (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // `START_MS` is 100 days later.
    let origin = date_time_ymd(2029, 9, 23);
    let day = |day| origin + Duration::from_secs(86_400 * u64::try_from(day + 100).unwrap());
    (params.not_before, params.not_after) = (day(first), day(last));
    params
}
