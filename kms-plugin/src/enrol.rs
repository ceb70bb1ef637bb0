//! `kms-plugin enrol`: the first certificate of a node, for the secret of an enrolment file.
//!
//! The key is made here and stays here. The secret is sent only to a server that the file's root vouches for.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Deserializer};
use strongroom_api::strongroom::kms::v1::{
    EnrolRequest, node_certificates_client::NodeCertificatesClient,
};
use strongroom_core::Clock;
use strongroom_runtime::{
    Chain, HardenError, SystemClock, fault,
    tls::{self, RemoteAddress, RootDigest, TlsError},
};
use tonic::Status;
use zeroize::Zeroizing;

use crate::{
    config::Config,
    identity::{Held, Identity, IdentityError, IdentityFolder, KeyError, PrivateKey},
};

/// For the one call; the key service writes its store in it.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Why the node was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The process cannot keep its secrets to itself.
    #[error("the process cannot be hardened")]
    Harden(#[source] HardenError),
    /// The file cannot be read.
    #[error("cannot read the enrolment file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is none of ours.
    #[error("{} is not an enrolment file", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, where.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// The plugin has no place for a certificate.
    #[error("the configuration has no keyService.identityDir")]
    NoFolder,
    /// The configuration trusts another root.
    #[error("the enrolment file is of another installation: its root is not keyService.rootSha256")]
    OtherRoot,
    /// There is nobody to ask.
    #[error("neither the enrolment file nor the configuration names an endpoint")]
    NoEndpoint,
    /// The identity cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be prepared.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no runtime.
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// No endpoint answers as the key service of that root.
    #[error("no endpoint answers as the key service of this enrolment file: {0}")]
    Unreachable(String),
    /// The key service says no.
    #[error("the key service did not enrol this node: {0}")]
    Refused(String),
}

/// What `kubectl strongroom enrol node` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Enrolment {
    /// When the secret ends; for people.
    #[serde(rename = "expires")]
    _expires: String,
    /// The instance that it is for; for people, since the root says it all.
    #[serde(rename = "instanceID")]
    _instance_id: String,
    node: String,
    #[serde(deserialize_with = "secret")]
    secret: Zeroizing<String>,
    root_sha256: String,
    #[serde(default)]
    endpoints: Vec<RemoteAddress>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// Enrols the node, and says so or why not.
pub fn run(config: &Config, file: &Path) -> ExitCode {
    match enrol(config, file) {
        Ok(identity) => {
            let Identity {
                node, certificate, ..
            } = identity;
            println!("{node} is enrolled, certificate {}", certificate.serial);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kms-plugin: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn enrol(config: &Config, file: &Path) -> Result<Identity, EnrolError> {
    strongroom_runtime::prepare().map_err(EnrolError::Harden)?;
    let folder = config.key_service.identity_dir.as_deref();
    let folder = IdentityFolder::open(folder.ok_or(EnrolError::NoFolder)?)?;
    let enrolment = read(file)?;
    let root = root(config, &enrolment)?;
    let endpoints = match enrolment.endpoints.as_slice() {
        [] => &config.key_service.endpoints,
        named => named,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EnrolError::Runtime)?;
    let identity = runtime.block_on(ask(&enrolment, root, endpoints))?;
    fault::point!("plugin.enrol.answered");
    folder.enrol(&identity)?;
    Ok(identity)
}

fn read(path: &Path) -> Result<Enrolment, EnrolError> {
    let text = fs::read_to_string(path).map_err(|source| EnrolError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_yaml_ng::from_str(&Zeroizing::new(text)).map_err(|source| EnrolError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn root(config: &Config, enrolment: &Enrolment) -> Result<RootDigest, EnrolError> {
    let mut root = [0; 32];
    hex::decode_to_slice(&enrolment.root_sha256, &mut root).map_err(|_| EnrolError::OtherRoot)?;
    match config.key_service.root_sha256 {
        Some(pinned) if pinned != root => Err(EnrolError::OtherRoot),
        _ => Ok(root),
    }
}

/// Asks the first endpoint that proves to be the key service. A secret is used up by its first answer, so that after an
/// answer nobody else is asked.
async fn ask(
    enrolment: &Enrolment,
    root: RootDigest,
    endpoints: &[RemoteAddress],
) -> Result<Identity, EnrolError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = Arc::new(tls::pinned(root, clock)?);
    let key = PrivateKey::generate()?;
    let mut failures = Vec::new();
    for endpoint in endpoints {
        let stream = match tls::connect(endpoint, config.clone()).await {
            Ok(stream) => stream,
            Err(error) => {
                failures.push(format!("{endpoint}: {error}"));
                continue;
            }
        };
        let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let root = tls::pinned_root(sent, &root).map(|root| root.to_vec());
        let root = root.ok_or(TlsError::Root)?;
        let channel = tls::channel_over(stream)
            .await
            .map_err(|error| EnrolError::Unreachable(format!("{endpoint}: {}", Chain(&error))))?;
        let mut request = tonic::Request::new(EnrolRequest {
            node: enrolment.node.clone(),
            secret: enrolment.secret.to_string(),
            request_pem: key.request()?,
        });
        request.set_timeout(CALL_TIMEOUT);
        let answer = NodeCertificatesClient::new(channel).enrol(request).await;
        let answer = answer.map_err(|status| refused(&status))?.into_inner();
        return Ok(Identity {
            instance_id: answer.instance_id.clone(),
            node: enrolment.node.clone(),
            root,
            certificate: Held::new(answer, key),
            next_key: None,
        });
    }
    if failures.is_empty() {
        return Err(EnrolError::NoEndpoint);
    }
    Err(EnrolError::Unreachable(failures.join("; ")))
}

fn refused(status: &Status) -> EnrolError {
    let sentence = status.message().chars().filter(|c| !c.is_control());
    EnrolError::Refused(sentence.take(200).collect())
}
