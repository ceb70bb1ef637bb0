//! What these stories share: an installation with two registered clusters, rings and secrets of their namespaces.

use std::collections::HashMap;

use anyhow::{Context, Result};
use strongroom_api::strongroom::v1::{
    CreateKeyRingRequest, CreateSecretRequest, GeneratedField, GeneratedSource, KeyRing,
    ManualSource, Owner, RandomText, Secret, SecretBinding, SecretRole, SecretSource,
    generated_field::Kind, secret_source::Source,
};
use strongroom_e2e::{
    issuer::{Issuer, Pod},
    native::Native,
    world::installation,
};
use strongroom_hack::installation::{Installation, Program};
use tonic::Status;

/// The pod of the main path, and the driver on its node.
pub(crate) const API: Pod = Pod {
    namespace: "payments",
    account: "api",
    account_uid: "uid-of-api",
    name: "api-1",
    node: "worker-1",
};
pub(crate) const DRIVER: Pod = Pod {
    namespace: "strongroom-csi",
    account: "csi-driver",
    account_uid: "uid-of-driver",
    name: "csi-1",
    node: "worker-1",
};

/// The operator of each cluster.
pub(crate) const OPERATOR: Pod = Pod {
    namespace: "strongroom-system",
    account: "strongroom-operator",
    account_uid: "uid-of-operator",
    name: "operator-1",
    node: "worker-1",
};

/// Two clusters of one issuer text: only their keys tell them apart.
pub(crate) struct World {
    pub(crate) installation: Installation,
    pub(crate) east: Issuer,
    pub(crate) west: Issuer,
}

impl World {
    /// Brings everything up.
    pub(crate) fn up(name: &str, first_port: u16) -> Result<Self> {
        let mut installation = installation(name, first_port)?;
        let issuer = || Issuer::new("https://kubernetes.default.svc.cluster.local");
        let (east, west) = (issuer()?, issuer()?);
        for (name, issuer) in [("east", &east), ("west", &west)] {
            let file = installation.path(&format!("etc/{name}.jwks"));
            std::fs::write(&file, issuer.jwks())?;
            let cluster = format!(
                "{{name: {name}, issuer: 'https://kubernetes.default.svc.cluster.local', keysFile: {}, \
                 drivers: [{{namespace: strongroom-csi, name: csi-driver}}], \
                 operators: [{{namespace: strongroom-system, name: strongroom-operator}}]}}",
                file.display()
            );
            installation.settings_mut().clusters.push(cluster);
        }
        installation.write_configuration()?;
        installation.bring_up()?;
        installation.administrator("administrator")?;
        Ok(Self {
            installation,
            east,
            west,
        })
    }

    pub(crate) async fn administrator(&self) -> Result<Native> {
        Native::connect(&self.installation, "administrator").await
    }

    /// Lets a certificate read a ring's secrets.
    pub(crate) async fn bind_reader(&mut self, name: &str, ring: &str) -> Result<Native> {
        let binding = format!("{{role: SecretReader, certificate: {name}, ring: {ring}}}");
        self.installation.settings_mut().access.push(binding);
        self.installation.write_configuration()?;
        self.installation.stop(Program::KeyService)?;
        self.restart()?;
        self.installation.administrator(name)?;
        Native::connect(&self.installation, name).await
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.installation.start(Program::KeyService, &[])?;
        self.installation.wait_ready(Program::KeyService)
    }

    /// Everything in the audit log so far.
    pub(crate) fn audit(&self) -> Result<String> {
        let mut text = String::new();
        let mut files: Vec<_> =
            std::fs::read_dir(self.installation.audit_dir())?.collect::<std::io::Result<_>>()?;
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files {
            if file.file_type()?.is_file() {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(file.path())?));
            }
        }
        Ok(text)
    }

    pub(crate) fn down(mut self) -> Result<()> {
        self.installation.stop_all()?;
        Ok(std::fs::remove_dir_all(self.installation.path(""))?)
    }
}

pub(crate) fn owner(cluster: &str, namespace: &str) -> Owner {
    Owner {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        namespace_uid: format!("uid-of-{namespace}"),
    }
}

pub(crate) async fn make_ring(
    native: &Native,
    name: &str,
    owner: Option<Owner>,
) -> Result<KeyRing, Status> {
    let request = CreateKeyRingRequest {
        name: name.to_owned(),
        owner,
    };
    let made = native.keys().create_key_ring(request).await?;
    Ok(made.into_inner())
}

/// A fixed `username` and a random `password` of 32 characters.
pub(crate) fn generated() -> SecretSource {
    let field = |name: &str, kind| GeneratedField {
        name: name.to_owned(),
        kind: Some(kind),
    };
    let fields = vec![
        field("username", Kind::Value("payments_api".to_owned())),
        field("password", Kind::Random(RandomText::default())),
    ];
    SecretSource {
        source: Some(Source::Generate(GeneratedSource { fields })),
    }
}

pub(crate) fn manual(fields: &[&str]) -> SecretSource {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    SecretSource {
        source: Some(Source::Manual(ManualSource { fields })),
    }
}

pub(crate) fn reader(pod: &Pod) -> SecretBinding {
    SecretBinding {
        role: SecretRole::SecretReader.into(),
        service_account: pod.account.to_owned(),
        service_account_uid: pod.account_uid.to_owned(),
    }
}

pub(crate) async fn make_secret(
    native: &Native,
    ring: &KeyRing,
    name: &str,
    source: SecretSource,
    access: Vec<SecretBinding>,
) -> Result<Secret, Status> {
    let request = CreateSecretRequest {
        ring_id: ring.id.clone(),
        name: name.to_owned(),
        source: Some(source),
        access,
    };
    let made = native.secrets().create_secret(request).await?;
    Ok(made.into_inner())
}

pub(crate) fn text(fields: &HashMap<String, Vec<u8>>, name: &str) -> Result<String> {
    let bytes = fields.get(name).with_context(|| format!("no {name}"))?;
    Ok(String::from_utf8(bytes.clone())?)
}
