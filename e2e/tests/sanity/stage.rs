//! A key service with a secret, and the driver in a mount namespace of its own; no kubelet.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result};
use strongroom_api::strongroom::v1::{
    CreateKeyRingRequest, CreateSecretRequest, GeneratedField, GeneratedSource, Owner, RandomText,
    SecretBinding, SecretRole, SecretSource, generated_field::Kind, secret_source::Source,
};
use strongroom_e2e::{
    issuer::{Issuer, Pod},
    native::Native,
    world::{self, wait},
};
use strongroom_hack::{
    installation::Installation,
    programs::{Build, Programs},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const ISSUER: &str = "https://kubernetes.default.svc";
const POD: Pod = Pod {
    namespace: "payments",
    account: "api",
    account_uid: "uid-of-api",
    name: "api-1",
    node: "worker-1",
};
const DRIVER: Pod = Pod {
    namespace: "strongroom-csi",
    account: "csi-driver",
    account_uid: "uid-of-driver",
    name: "csi-1",
    node: "worker-1",
};

pub(crate) struct Stage {
    folder: TempDir,
    installation: Installation,
    issuer: Issuer,
    driver: Child,
}

impl Stage {
    pub(crate) fn up(name: &str, first_port: u16) -> Result<Self> {
        let mut installation = world::installation(name, first_port)?;
        let issuer = Issuer::new(ISSUER)?;
        let keys = installation.path("etc/east.jwks");
        fs::write(&keys, issuer.jwks())?;
        installation.settings_mut().clusters.push(format!(
            "{{name: east, issuer: '{ISSUER}', keysFile: {}, drivers: [{{namespace: strongroom-csi, name: csi-driver}}]}}",
            keys.display()
        ));
        installation.write_configuration()?;
        installation.bring_up()?;
        installation.administrator("administrator")?;
        tokio::runtime::Runtime::new()?.block_on(make_secret(&installation))?;

        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for made in [
            "pods",
            "plugins/csi.strongroom.dev",
            "plugins_registry",
            "self-test",
        ] {
            fs::create_dir_all(at(made))?;
        }
        fs::write(at("token"), issuer.token(&DRIVER)?)?;
        fs::copy(
            installation.path("etc/administrator-root.crt"),
            at("root.crt"),
        )?;
        let root = folder.path().display();
        let config = format!(
            "kubeletDir: {root}\n\
             keyService: {{endpoints: ['{}'], caFile: {root}/root.crt, tokenFile: {root}/token}}\n\
             volume: {{selfTestDir: {root}/self-test}}\n\
             probes: 127.0.0.1:0\n",
            installation.workloads_address()
        );
        fs::write(at("config.yaml"), config)?;
        let driver = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(Programs::ensure_built(Build::Plain)?.csi_driver())
            .args(["serve", "--node=worker-1", "--config"])
            .arg(at("config.yaml"))
            .stderr(fs::File::create(at("log"))?)
            .spawn()?;
        let stage = Self {
            folder,
            installation,
            issuer,
            driver,
        };
        fs::create_dir_all(stage.volume().parent().context("a folder")?)?;
        wait(LIMIT, "the driver serves kubelet", || {
            Ok(stage.socket().exists())
        })?;
        Ok(stage)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("plugins/csi.strongroom.dev/csi.sock")
    }

    pub(crate) fn pod_uid(&self) -> String {
        POD.uid()
    }

    /// The folder that kubelet makes for the volume of the pod.
    pub(crate) fn volume(&self) -> PathBuf {
        self.path(&format!(
            "pods/{}/volumes/kubernetes.io~csi/secrets",
            POD.uid()
        ))
    }

    pub(crate) fn pod_token(&self) -> Result<String> {
        self.issuer.token(&POD)
    }

    /// Volumes of ours that the driver has mounted.
    pub(crate) fn mounts(&self) -> Result<usize> {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.driver.id()))?;
        let ours = table
            .lines()
            .filter(|line| line.contains(" - tmpfs strongroom "));
        Ok(ours.count())
    }

    pub(crate) fn down(mut self) -> Result<()> {
        self.driver.kill()?;
        self.driver.wait()?;
        let root = self.installation.path("");
        self.installation.stop_all()?;
        Ok(fs::remove_dir_all(root)?)
    }
}

async fn make_secret(installation: &Installation) -> Result<()> {
    let native = Native::connect(installation, "administrator").await?;
    let ring = CreateKeyRingRequest {
        name: "payments".to_owned(),
        owner: Some(Owner {
            cluster: "east".to_owned(),
            namespace: "payments".to_owned(),
            namespace_uid: "uid-of-payments".to_owned(),
        }),
    };
    let ring = native.keys().create_key_ring(ring).await?.into_inner();
    let field = GeneratedField {
        name: "password".to_owned(),
        kind: Some(Kind::Random(RandomText::default())),
    };
    let source = Source::Generate(GeneratedSource {
        fields: vec![field],
    });
    let secret = CreateSecretRequest {
        ring_id: ring.id,
        name: "db".to_owned(),
        source: Some(SecretSource {
            source: Some(source),
        }),
        access: vec![SecretBinding {
            role: SecretRole::SecretReader.into(),
            service_account: POD.account.to_owned(),
            service_account_uid: POD.account_uid.to_owned(),
        }],
    };
    native.secrets().create_secret(secret).await?;
    Ok(())
}

/// For who asks the driver in its own words.
pub(crate) fn mapped(path: &str) -> String {
    let path = Path::new(path);
    match path.file_name() {
        Some(name) if name == "target" => path.with_file_name("mount").display().to_string(),
        _ => path.display().to_string(),
    }
}
