//! The control: native gRPC over mutual TLS that answers once a record is on disk, in a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use strongroom_api::strongroom::v1::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse,
    crypto_server::{Crypto, CryptoServer},
};
use strongroom_audit::{Draft, Kind, Log, Options, Origin, Share};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig},
};

use super::load::{Operation, Question, RECORD_BYTES, Target};

const ADDRESS: &str = "127.0.0.1:28009";
const NAME: &str = "key-service.strongroom.dev";
/// What a draft takes beside its padding, so that the line has `RECORD_BYTES`.
const FIXED_BYTES: usize = 300;

/// A running control; it ends with its owner.
pub(crate) struct Control {
    child: Child,
    folder: PathBuf,
}

impl Control {
    pub(crate) fn start(root: &Path) -> Result<Self> {
        let folder = root.join("control");
        fs::create_dir(&folder)?;
        make_certificates(&folder)?;
        let mut command = Command::new(std::env::current_exe()?);
        let child = command
            .arg("control")
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_secs(1));
        Ok(Self { child, folder })
    }

    pub(crate) async fn target(&self, operation: Operation) -> Result<Target> {
        let read = |name: &str| fs::read(self.folder.join(name));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("client.pem")?, read("client.key")?))
            .domain_name(NAME);
        let mut connections = Vec::new();
        for _ in 0..4 {
            let endpoint =
                Endpoint::from_shared(format!("https://{ADDRESS}"))?.tls_config(tls.clone())?;
            connections.push(endpoint.connect().await?);
        }
        let (ring_id, key) = ("0".repeat(32), "bench".to_owned());
        let context = [("purpose".to_owned(), "bench".to_owned())].into();
        let question = match operation {
            Operation::Encrypt => Question::Encrypt(EncryptRequest {
                ring_id,
                key,
                plaintext: vec![7; 32],
                plaintext_crc32c: None,
                context,
            }),
            Operation::Decrypt => Question::Decrypt(DecryptRequest {
                ring_id,
                ciphertext: vec![7; 138],
                ciphertext_crc32c: None,
                context,
            }),
        };
        Ok(Target {
            connections,
            question,
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_certificates(folder: &Path) -> Result<()> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), ca.pem())?;
    let leaves = [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ];
    for (file, usage) in leaves {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new([NAME.to_owned()])?;
        leaf.extended_key_usages = vec![usage];
        fs::write(
            folder.join(format!("{file}.pem")),
            leaf.signed_by(&key, &ca)?.pem(),
        )?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// Serves until the process is ended.
pub(crate) async fn serve(folder: &Path) -> Result<()> {
    let origin = Origin::new([0; 16], "control")?;
    let options = Options {
        origin,
        segment_bytes: 64 << 20,
        capacity_bytes: 4 << 30,
        reserve_bytes: 1 << 20,
    };
    let log = folder.join("log");
    Log::begin(&log, &options.origin)?;
    let log = Log::open(&log, options, None).context("the control's log")?;
    let read = |name: &str| fs::read(folder.join(name));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem")?, read("server.key")?))
        .client_ca_root(Certificate::from_pem(read("ca.pem")?));
    let service = CryptoServer::new(Answering(Arc::new(log)));
    Server::builder()
        .tls_config(tls)?
        .add_service(service)
        .serve(ADDRESS.parse()?)
        .await?;
    Ok(())
}

struct Answering(Arc<Log>);

impl Answering {
    async fn record(&self) -> Result<(), Status> {
        let mut draft = Draft::new(Kind::Call, 1_700_000_000_000, "Control");
        draft.resource = "x".repeat(RECORD_BYTES - FIXED_BYTES);
        let appended = self.0.append(draft, Share::Reserve).await;
        appended
            .map(drop)
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl Crypto for Answering {
    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        self.record().await?;
        let ciphertext = vec![7; request.into_inner().plaintext.len() + 106];
        Ok(Response::new(EncryptResponse {
            ciphertext,
            ciphertext_crc32c: 7,
            key_id: "0".repeat(32),
            version: "1.1".to_owned(),
        }))
    }

    async fn decrypt(
        &self,
        _: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        self.record().await?;
        Ok(Response::new(DecryptResponse {
            plaintext: vec![7; 32],
            plaintext_crc32c: 7,
            key_id: "0".repeat(32),
            version: "1.1".to_owned(),
            used_primary: true,
        }))
    }
}
