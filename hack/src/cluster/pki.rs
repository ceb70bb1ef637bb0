//! Certificates of a cluster, made anew at each start. etcd has an authority of its own, as kubeadm does it:
//! else every client of the API server could talk to etcd directly. Keys live as long as the folder.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::layout::Layout;
use super::network::{API_SERVER, API_SERVICE};

/// Subject and names of one certificate; `<file>.crt` and `<file>.key` below the folder for keys.
struct Leaf {
    file: &'static str,
    common_name: &'static str,
    organization: Option<&'static str>,
    names: &'static [&'static str],
    uses: &'static [ExtendedKeyUsagePurpose],
}

const SERVER: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ServerAuth];
const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];
const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

const ETCD_LEAVES: &[Leaf] = &[
    Leaf {
        file: "etcd-server",
        common_name: "etcd",
        organization: None,
        names: &["localhost", "127.0.0.1"],
        // etcd's own gateway and its peers use the server certificate as clients.
        uses: BOTH,
    },
    Leaf {
        file: "etcd-client",
        common_name: "kube-apiserver-etcd-client",
        organization: None,
        names: &[],
        uses: CLIENT,
    },
];

const KUBERNETES_LEAVES: &[Leaf] = &[
    Leaf {
        file: "api-server",
        common_name: "kube-apiserver",
        organization: None,
        names: &[
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
            API_SERVER,
            API_SERVICE,
        ],
        uses: SERVER,
    },
    Leaf {
        file: "admin",
        common_name: "admin",
        organization: Some("system:masters"),
        names: &[],
        uses: CLIENT,
    },
];

/// Writes all certificates and keys.
pub(super) fn write(layout: &Layout) -> Result<()> {
    write_authority(layout, "etcd-ca", ETCD_LEAVES)?;
    write_authority(layout, "kubernetes-ca", KUBERNETES_LEAVES)?;
    let service_accounts = KeyPair::generate()?;
    write_private(
        &layout.pki("service-accounts.key"),
        &service_accounts.serialize_pem(),
    )?;
    write_private(
        &layout.pki("service-accounts.pub"),
        &service_accounts.public_key_pem(),
    )
}

fn write_authority(layout: &Layout, file: &str, leaves: &[Leaf]) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, file);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    write_private(&layout.pki(&format!("{file}.crt")), &issuer.pem())?;
    for leaf in leaves {
        let key = KeyPair::generate()?;
        let certificate = leaf.params()?.signed_by(&key, &issuer)?;
        write_private(
            &layout.pki(&format!("{}.crt", leaf.file)),
            &certificate.pem(),
        )?;
        write_private(
            &layout.pki(&format!("{}.key", leaf.file)),
            &key.serialize_pem(),
        )?;
    }
    Ok(())
}

impl Leaf {
    fn params(&self) -> Result<CertificateParams> {
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        if let Some(organization) = self.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {path:?}"))
}
