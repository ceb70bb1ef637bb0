//! Asks the running service for a certificate, over the socket that only its own user id may use.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use strongroom_api::strongroom::v1::{
    IssueCertificateRequest, certificates_client::CertificatesClient,
};
use strongroom_runtime::socket;
use tonic::Status;

use crate::{args::AdminCertificate, config::Config};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the lifetime is not a positive duration")]
    Lifetime,
    #[error("the key service does not issue the certificate: {}", .0.message())]
    Refused(Status),
}

pub(super) async fn fetch(config: &Config, args: &AdminCertificate) -> Result<(), FetchError> {
    let request_pem = read(&args.request)?;
    let lifetime = prost_types::Duration::try_from(
        std::time::Duration::try_from(args.lifetime).map_err(|_| FetchError::Lifetime)?,
    );
    let request = IssueCertificateRequest {
        name: args.name.clone(),
        request_pem,
        lifetime: Some(lifetime.map_err(|_| FetchError::Lifetime)?),
    };
    let own_uid = rustix::process::geteuid().as_raw();
    let channel = socket::channel(&config.admin_socket, own_uid);
    let issued = CertificatesClient::new(channel)
        .issue_certificate(request)
        .await;
    let issued = issued.map_err(FetchError::Refused)?.into_inner();
    if let Some(path) = &args.root_out {
        write(path, &issued.root_pem)?;
    }
    match &args.out {
        Some(path) => write(path, &issued.chain_pem),
        None => io::stdout()
            .write_all(issued.chain_pem.as_bytes())
            .map_err(at(Path::new("-"))),
    }
}

fn read(path: &Path) -> Result<String, FetchError> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map_err(at(path))?;
    } else {
        text = std::fs::read_to_string(path).map_err(at(path))?;
    }
    Ok(text)
}

fn write(path: &Path, text: &str) -> Result<(), FetchError> {
    std::fs::write(path, text).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::File {
        path: path.clone(),
        source,
    }
}
