//! The first administrator's certificate. The key is made here; the request goes through the socket that answers nobody
//! but the key service's own user id, so a child of this process that runs under that id hands it in.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use strongroom_api::strongroom::v1::{
    IssueCertificateRequest, certificates_client::CertificatesClient,
};
use strongroom_runtime::socket;
use tonic::Status;

/// The common name that the key service's configuration lists.
const NAME: &str = "administrator";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot make a key and a request")]
    Make(#[from] rcgen::Error),
    #[error("cannot run a process as the key service's user")]
    Run(#[source] io::Error),
    #[error("{0}")]
    Child(String),
    #[error("the answer of the key service cannot be used")]
    Answer(#[source] serde_json::Error),
    #[error("the key service does not issue the certificate: {}", .0.message())]
    Refused(Status),
    #[error("cannot read the request or write the answer")]
    Pipe(#[source] io::Error),
}

/// A key with what the key service issued for it, all PEM.
pub(super) struct Issued {
    pub(super) key: String,
    pub(super) chain: String,
    pub(super) root: String,
}

/// What the child answers.
#[derive(Deserialize, Serialize)]
struct Answer {
    chain: String,
    root: String,
}

/// The end of the first certificate in a PEM text.
pub(crate) fn ends(pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// A new key, and the request of a certificate for it.
pub(crate) fn make_request(common_name: &str) -> Result<(KeyPair, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key, request))
}

/// Asks for a certificate, as the key service's user.
pub(super) fn obtain(program: &Path, uid: u32) -> Result<Issued, CertificateError> {
    let (key, request) = make_request(NAME)?;
    let answer = ask_child(program, uid, &request)?;
    let Answer { chain, root } =
        serde_json::from_slice(&answer).map_err(CertificateError::Answer)?;
    Ok(Issued {
        key: key.serialize_pem(),
        chain,
        root,
    })
}

fn ask_child(program: &Path, uid: u32, request: &str) -> Result<Vec<u8>, CertificateError> {
    let mut child = Command::new(program)
        .args(["bootstrap", "request-certificate"])
        .env_clear()
        .current_dir("/")
        .uid(uid)
        .gid(uid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CertificateError::Run)?;
    // A request is shorter than a pipe, so the child need not read while we write.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut pipe| pipe.write_all(request.as_bytes()));
    let output = child.wait_with_output().map_err(CertificateError::Run)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("error: ").to_owned();
        return Err(CertificateError::Child(said));
    }
    written.map_err(CertificateError::Pipe)?;
    Ok(output.stdout)
}

/// The child: hands the request on its standard input in and prints the answer.
pub(super) async fn hand_in(socket: &Path, out: &mut dyn Write) -> Result<(), CertificateError> {
    let mut request_pem = String::new();
    io::stdin()
        .read_to_string(&mut request_pem)
        .map_err(CertificateError::Pipe)?;
    let own_uid = rustix::process::geteuid().as_raw();
    let request = IssueCertificateRequest {
        name: NAME.to_owned(),
        request_pem,
        lifetime: None,
    };
    let issued = CertificatesClient::new(socket::channel(socket, own_uid))
        .issue_certificate(request)
        .await
        .map_err(CertificateError::Refused)?
        .into_inner();
    let answer = Answer {
        chain: issued.chain_pem,
        root: issued.root_pem,
    };
    let text = serde_json::to_string(&answer).map_err(CertificateError::Answer)?;
    writeln!(out, "{text}").map_err(CertificateError::Pipe)
}
