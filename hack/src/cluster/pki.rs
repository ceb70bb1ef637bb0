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

use super::NodeOptions;
use super::layout::Layout;
use super::network::{self, API_SERVICE, CLUSTER};

/// Subject and names of one certificate; `<file>.crt` and `<file>.key` below the folder for keys.
struct Leaf {
    file: String,
    common_name: String,
    organization: Option<&'static str>,
    names: Vec<String>,
    uses: &'static [ExtendedKeyUsagePurpose],
}

const SERVER: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ServerAuth];
const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];
const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

/// The group that may do everything.
const ADMINISTRATORS: &str = "system:masters";

fn etcd_leaves() -> Vec<Leaf> {
    // etcd's own gateway and its peers use the server certificate as clients.
    let server = Leaf::new("etcd-server", "etcd", BOTH).named(["localhost", "127.0.0.1", CLUSTER]);
    vec![
        server,
        Leaf::new("etcd-client", "kube-apiserver-etcd-client", CLIENT),
    ]
}

fn kubernetes_leaves(nodes: &[NodeOptions]) -> Vec<Leaf> {
    let mut api_server = Leaf::new("api-server", "kube-apiserver", SERVER).named([
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "127.0.0.1",
        CLUSTER,
        API_SERVICE,
    ]);
    let mut leaves = vec![
        Leaf::new("admin", "admin", CLIENT).of(ADMINISTRATORS),
        Leaf::new("kubelet-client", "kube-apiserver-kubelet-client", CLIENT).of(ADMINISTRATORS),
    ];
    for user in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        leaves.push(Leaf::new(user, &format!("system:{user}"), CLIENT));
    }
    leaves.push(Leaf::new("coredns", "coredns", CLIENT));
    for (number, node) in nodes.iter().enumerate() {
        let address = network::node_address(number).to_string();
        let kubelet = Leaf::new(
            &format!("kubelet-{}", node.name),
            &format!("system:node:{}", node.name),
            BOTH,
        );
        leaves.push(
            kubelet
                .of("system:nodes")
                .named([node.name.as_ref(), &address]),
        );
        api_server = api_server.named([address.as_str()]);
    }
    leaves.push(api_server);
    leaves
}

/// Writes all certificates and keys.
pub(super) fn write(layout: &Layout, nodes: &[NodeOptions]) -> Result<()> {
    write_authority(layout, "etcd-ca", &etcd_leaves())?;
    write_authority(layout, "kubernetes-ca", &kubernetes_leaves(nodes))?;
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
    // An installer on a control-plane node may sign with it, as kubeadm lets it.
    write_private(
        &layout.pki(&format!("{file}.key")),
        &issuer.key().serialize_pem(),
    )?;
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
    fn new(file: &str, common_name: &str, uses: &'static [ExtendedKeyUsagePurpose]) -> Self {
        Self {
            file: file.to_owned(),
            common_name: common_name.to_owned(),
            organization: None,
            names: Vec::new(),
            uses,
        }
    }

    fn of(mut self, organization: &'static str) -> Self {
        self.organization = Some(organization);
        self
    }

    fn named<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.names.extend(names.map(str::to_owned));
        self
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name.as_str());
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
