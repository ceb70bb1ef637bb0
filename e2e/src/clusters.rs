//! An installation with two registered clusters whose tokens the story itself signs: nothing of Kubernetes runs.

use std::{fs, io};

use anyhow::Result;
use strongroom_hack::installation::{Installation, Program};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    issuer::{Issuer, Pod},
    native::Native,
    world::installation,
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The pod of the main path.
pub const API: Pod = Pod {
    namespace: "payments",
    account: "api",
    account_uid: "uid-of-api",
    name: "api-1",
    node: "worker-1",
};

/// The driver on its node.
pub const DRIVER: Pod = Pod {
    namespace: "strongroom-csi",
    account: "strongroom-csi-driver",
    account_uid: "uid-of-driver",
    name: "csi-1",
    node: "worker-1",
};

/// The operator of each cluster.
pub const OPERATOR: Pod = Pod {
    namespace: "strongroom-system",
    account: "strongroom-operator",
    account_uid: "uid-of-operator",
    name: "operator-1",
    node: "worker-1",
};

/// Two clusters with one issuer text, the same names everywhere and the same uids: only their keys tell them apart.
pub struct Clusters {
    /// The programs.
    pub installation: Installation,
    /// Signs the tokens of cluster `east`.
    pub east: Issuer,
    /// Signs those of cluster `west`.
    pub west: Issuer,
}

impl Clusters {
    /// Brings everything up, with these entries of the key service's `access`.
    ///
    /// # Errors
    /// With the log of whatever did not come up.
    pub fn up(name: &str, first_port: u16, access: &[String]) -> Result<Self> {
        let mut installation = installation(name, first_port)?;
        let (east, west) = (Issuer::new(ISSUER)?, Issuer::new(ISSUER)?);
        for (name, issuer) in [("east", &east), ("west", &west)] {
            let file = installation.path(&format!("etc/{name}.jwks"));
            fs::write(&file, issuer.jwks())?;
            let cluster = format!(
                "{{name: {name}, issuer: '{ISSUER}', keysFile: {}, \
                 drivers: [{{namespace: strongroom-csi, name: strongroom-csi-driver}}], \
                 operators: [{{namespace: strongroom-system, name: strongroom-operator}}]}}",
                file.display()
            );
            installation.settings_mut().clusters.push(cluster);
        }
        let entries = access.iter().cloned();
        installation.settings_mut().access.extend(entries);
        installation.write_configuration()?;
        installation.bring_up()?;
        installation.administrator("administrator")?;
        Ok(Self {
            installation,
            east,
            west,
        })
    }

    /// The administrator's connection.
    ///
    /// # Errors
    /// When the key service does not answer.
    pub async fn administrator(&self) -> Result<Native> {
        Native::connect(&self.installation, "administrator").await
    }

    /// A connection of somebody with a token: the root is trusted, nobody has a certificate.
    ///
    /// # Errors
    /// When the key service does not answer.
    pub async fn workloads(&self) -> Result<Channel> {
        let root = fs::read(self.installation.path("etc/administrator-root.crt"))?;
        connected(&root, &self.installation.workloads_address()).await
    }

    /// Ends the key service and starts it again.
    ///
    /// # Errors
    /// With its log when it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.installation.stop(Program::KeyService)?;
        self.start()
    }

    /// Starts the key service, which has ended.
    ///
    /// # Errors
    /// With its log when it does not come up.
    pub fn start(&mut self) -> Result<()> {
        self.installation.start(Program::KeyService, &[])?;
        self.installation.wait_ready(Program::KeyService)
    }

    /// Everything in the audit log so far, in the order in which it was written.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn audit(&self) -> Result<String> {
        let files = fs::read_dir(self.installation.audit_dir())?;
        let mut files: Vec<_> = files.collect::<io::Result<_>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        let mut text = String::new();
        for file in files {
            if file.file_type()?.is_file() {
                text.push_str(&String::from_utf8_lossy(&fs::read(file.path())?));
            }
        }
        Ok(text)
    }

    /// Ends everything and removes it.
    ///
    /// # Errors
    /// When a program outlives SIGKILL.
    pub fn down(mut self) -> Result<()> {
        self.installation.stop_all()?;
        Ok(fs::remove_dir_all(self.installation.path(""))?)
    }
}

/// A connection to an address behind which somebody has a certificate of this root.
///
/// # Errors
/// When nobody answers, or somebody else.
pub async fn connected(root: &[u8], address: &str) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(root))
        .domain_name("key-service.strongroom.dev");
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

/// A message with a token.
///
/// # Errors
/// When the token is no text for a header.
pub fn with_token<T>(message: T, token: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}
