//! `enrol node`: asks for a secret and puts it, with what the node has to trust, into a file for nobody else.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;
use strongroom_api::strongroom::v1::{
    InviteNodeRequest, NodeInvitation, nodes_client::NodesClient,
};

use crate::{
    args::EnrolNodeArgs,
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::plain,
    rpc::CallError,
};

/// Why there is no enrolment file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("cannot write the enrolment file {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key service answered without an end of the secret")]
    Answer,
    #[error("cannot put the enrolment into YAML")]
    Format(#[source] serde_yaml_ng::Error),
}

/// What the file holds; `kms-plugin enrol` reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment {
    expires: Timestamp,
    #[serde(rename = "instanceID")]
    instance_id: String,
    node: String,
    endpoints: Vec<String>,
    root_sha256: String,
    secret: String,
}

/// Asks the key service for a secret and writes the file.
pub(crate) async fn node(
    args: EnrolNodeArgs,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let EnrolNodeArgs {
        node,
        endpoint,
        file,
        connection,
    } = args;
    let path = file.unwrap_or_else(|| PathBuf::from(format!("enrolment-{node}.yaml")));
    let settings = Settings::resolve(&connection, environment)?;
    // Before the secret is made: a file that is in the way would leave one that nobody has.
    let mut place = Place::make(&path, out)?;
    let invited = NodesClient::new(connect(&settings).await?)
        .invite(InviteNodeRequest {
            node: node.to_string(),
        })
        .await
        .map_err(|status| CallError::new("enrol the node", status));
    let invited = match invited {
        Ok(answer) => answer.into_inner(),
        Err(error) => {
            place.discard();
            return Err(error.into());
        }
    };
    let endpoints = endpoint.iter().map(ToString::to_string).collect();
    let enrolment = enrolment(invited, endpoints)?;
    place.write(&text(&enrolment)?)?;
    writeln!(
        err,
        "{} can be enrolled once before {}: on it, run kms-plugin enrol --enrolment FILE",
        plain(&enrolment.node),
        enrolment.expires
    )?;
    Ok(Exit::Ok)
}

/// The service's own endpoints count when none is given.
fn enrolment(invited: NodeInvitation, given: Vec<String>) -> Result<Enrolment, EnrolError> {
    let NodeInvitation {
        instance_id,
        node,
        secret,
        expires,
        root_sha256,
        endpoints,
    } = invited;
    let expires = expires
        .and_then(|at| Timestamp::new(at.seconds, 0).ok())
        .ok_or(EnrolError::Answer)?;
    Ok(Enrolment {
        expires,
        instance_id,
        node,
        endpoints: if given.is_empty() { endpoints } else { given },
        root_sha256,
        secret,
    })
}

fn text(enrolment: &Enrolment) -> Result<String, EnrolError> {
    let yaml = serde_yaml_ng::to_string(enrolment).map_err(EnrolError::Format)?;
    Ok(format!(
        "# Enrols kms-plugin of one node once. Whoever has it until then can take the node's place: keep it secret.\n{yaml}"
    ))
}

/// Where the secret goes.
enum Place<'a> {
    Out(&'a mut dyn Write),
    File(std::fs::File, &'a Path),
}

impl<'a> Place<'a> {
    /// A new file that only its owner can read, or `-` for standard output.
    fn make(path: &'a Path, out: &'a mut dyn Write) -> Result<Self, EnrolError> {
        if path == Path::new("-") {
            return Ok(Self::Out(out));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| EnrolError::Write {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self::File(file, path))
    }

    fn write(&mut self, text: &str) -> Result<(), CommandError> {
        match self {
            Self::Out(out) => out.write_all(text.as_bytes())?,
            Self::File(file, path) => {
                file.write_all(text.as_bytes())
                    .map_err(|source| EnrolError::Write {
                        path: path.to_path_buf(),
                        source,
                    })?;
            }
        }
        Ok(())
    }

    /// Nothing was written, and nothing will be.
    fn discard(self) {
        if let Self::File(_, path) = self {
            // It is empty and ours; that it stays is no harm.
            let _ = std::fs::remove_file(path);
        }
    }
}
