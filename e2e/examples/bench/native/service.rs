//! The key service under load: the released programs, a ring, a key, and a certificate that may use it.

use std::{collections::HashMap, fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, bail};
use strongroom_api::strongroom::v1::{
    CreateKeyRequest, CreateKeyRingRequest, DecryptRequest, EncryptRequest, KeyAlgorithm,
    KeyPurpose, crypto_client::CryptoClient,
};
use strongroom_e2e::native::Native;
use strongroom_hack::{
    installation::{Installation, Program, Settings},
    programs::{Build, Programs},
};

use super::load::{Operation, Question, Target};

/// Common name of the certificate that uses the key.
const CALLER: &str = "bench";
/// Connections that callers share.
const CONNECTIONS: usize = 4;
/// Bytes that are sealed: the size of a seed.
const PLAINTEXT: [u8; 32] = [7; 32];

pub(crate) struct Bench {
    installation: Installation,
    ring: String,
}

impl Bench {
    pub(crate) fn start(runtime: &tokio::runtime::Runtime) -> Result<Self> {
        let programs = Programs::ensure_built(Build::Release)?;
        let root = PathBuf::from("/var/lib/strongroom-bench");
        let mut settings = Settings::new(root, programs.folder(), 28000);
        // Minutes of load fill what a story needs many times over.
        settings.audit_capacity_mib = 8192;
        let mut installation = Installation::lay_out(settings)?;
        installation.bring_up()?;
        installation.administrator("administrator")?;
        let ring = runtime.block_on(make_key(&installation))?;
        installation.settings_mut().access = vec![
            format!("{{role: KeyEncrypter, certificate: {CALLER}, ring: {ring}}}"),
            format!("{{role: KeyDecrypter, certificate: {CALLER}, ring: {ring}}}"),
        ];
        installation.write_configuration()?;
        installation.stop(Program::KeyService)?;
        installation.start(Program::KeyService, &[])?;
        installation.wait_ready(Program::KeyService)?;
        installation.administrator(CALLER)?;
        Ok(Self { installation, ring })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.installation.path("")
    }

    /// Resident memory of each process in KiB after ten quiet seconds.
    pub(crate) fn idle_memory(&self) -> Result<Vec<(String, u64)>> {
        thread::sleep(Duration::from_secs(10));
        let mut memory = Vec::new();
        for program in Program::ALL {
            let id = self.installation.process(program)?.id();
            memory.push((program.name().to_owned(), resident_kib(id)?));
            if program == Program::HsmAgent {
                memory.push((
                    "hsm-agent's worker".to_owned(),
                    resident_kib(only_child(id)?)?,
                ));
            }
        }
        Ok(memory)
    }

    pub(crate) async fn target(&self, operation: Operation) -> Result<Target> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Native::connect(&self.installation, CALLER).await?.channel());
        }
        let encrypt = EncryptRequest {
            ring_id: self.ring.clone(),
            key: "bench".to_owned(),
            plaintext: PLAINTEXT.to_vec(),
            plaintext_crc32c: None,
            context: HashMap::from([("purpose".to_owned(), "bench".to_owned())]),
        };
        let question = match operation {
            Operation::Encrypt => Question::Encrypt(encrypt),
            Operation::Decrypt => {
                let mut client = CryptoClient::new(connections[0].clone());
                let sealed = client.encrypt(encrypt.clone()).await?.into_inner();
                Question::Decrypt(DecryptRequest {
                    ring_id: self.ring.clone(),
                    ciphertext: sealed.ciphertext,
                    ciphertext_crc32c: None,
                    context: encrypt.context,
                })
            }
        };
        Ok(Target {
            connections,
            question,
        })
    }

    pub(crate) fn clean_up(&mut self) -> Result<()> {
        self.installation.stop_all()?;
        fs::remove_dir_all(self.root())?;
        Ok(())
    }
}

fn resident_kib(process: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// The one child of a process, whichever of its threads made it.
fn only_child(process: i32) -> Result<i32> {
    let mut children = String::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        children += &fs::read_to_string(thread?.path().join("children"))?;
    }
    let mut children = children.split_whitespace();
    match (children.next(), children.next()) {
        (Some(child), None) => Ok(child.parse()?),
        _ => bail!("process {process} has not exactly one child"),
    }
}

async fn make_key(installation: &Installation) -> Result<String> {
    let mut keys = Native::connect(installation, "administrator").await?.keys();
    let ring = keys
        .create_key_ring(CreateKeyRingRequest {
            name: "bench".to_owned(),
            owner: None,
        })
        .await?
        .into_inner();
    let key = CreateKeyRequest {
        ring_id: ring.id.clone(),
        name: "bench".to_owned(),
        purpose: KeyPurpose::EncryptDecrypt.into(),
        algorithm: KeyAlgorithm::Aes256Gcm.into(),
    };
    keys.create_key(key).await?;
    Ok(ring.id)
}
